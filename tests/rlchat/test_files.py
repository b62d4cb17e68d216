import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlchat import files
from rlchat.errors import Notice, UserError
from rlchat.files import (
    atomic_folder,
    cache_folder,
    data_folder,
    has_home,
    recover_folder,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def fill(folder: Path, text: str) -> None:
    with atomic_folder(folder) as new:
        (new / "a.txt").write_text(text)


def test_write_text_makes_the_folder_replaces_the_file_and_leaves_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "deep" / "note.txt"
    write_text(path, "eins\n")
    write_text(path, "zwölf\n")
    assert path.read_bytes() == b"zw\xc3\xb6lf\n"
    assert names(path.parent) == ["note.txt"]


def test_written_files_are_as_readable_as_ordinary_ones(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "")
    (tmp_path / "ordinary").write_text("")
    with atomic_folder(tmp_path / "our_folder") as new:
        (new / "private").touch(mode=0o600)
    (tmp_path / "ordinary_folder").mkdir()

    def mode(name: str) -> int:
        return stat.S_IMODE((tmp_path / name).stat().st_mode)

    assert mode("ours") == mode("ordinary")
    assert mode("our_folder/private") == mode("ordinary")
    assert mode("our_folder") == mode("ordinary_folder")


def test_write_text_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["note.txt"]


def test_write_json_is_json_and_refuses_what_is_not(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Zoë", "mean": 0.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"name": "Zoë", "mean": 0.5}
    assert "Zoë" in (tmp_path / "a.json").read_text()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "b.json", {"mean": float("nan")})
    assert names(tmp_path) == ["a.json"]


def test_atomic_folder_appears_at_the_end_and_replaces_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "one"
    with atomic_folder(target) as new:
        (new / "a.txt").write_text("first")
        assert new.parent == target.parent
        assert not target.exists()
    with atomic_folder(target) as new:
        (new / "b.txt").write_text("second")
        assert names(target) == ["a.txt"]
    assert names(target) == ["b.txt"]
    assert names(target.parent) == ["one"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_whatever_stops_the_block_leaves_the_old_folder(
    tmp_path: Path, stop: type[BaseException]
) -> None:
    target = tmp_path / "one"
    fill(target, "old")
    with pytest.raises(stop), atomic_folder(target) as new:
        (new / "a.txt").write_text("new")
        raise stop
    assert (target / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["one"]


@pytest.mark.parametrize("failing", [1, 2])
def test_an_interrupt_inside_the_swap_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    target = tmp_path / "one"
    fill(target, "old")
    rename = Path.rename
    calls = []

    def interrupted(self: Path, to: Path) -> Path:
        calls.append(to)
        if len(calls) == failing:
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(target, "new")
    assert (target / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["one"]


def test_a_kill_inside_the_swap_is_healed_by_the_next_reader_or_writer(tmp_path: Path) -> None:
    target = tmp_path / "one"
    fill(target, "old")
    target.rename(tmp_path / ".one.old")
    recover_folder(target)
    assert (target / "a.txt").read_text() == "old"

    fill(tmp_path / ".one.old", "older")
    recover_folder(target)
    assert (target / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["one"]


KILLED = """
import os, signal, sys
from pathlib import Path
from rlchat.files import atomic_folder

with atomic_folder(Path(sys.argv[1])) as new:
    (new / "a.txt").write_text("half done")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no kill of that kind, and no flock")
def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path) -> None:
    target = tmp_path / "one"
    for name in ("one", "one.more"):  # which is another's
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)])
        assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    fill(target, "whole")
    left, one = names(tmp_path)
    assert left.startswith(".one.more.") and one == "one"
    assert (target / "a.txt").read_text() == "whole"


KILLED_FILE = """
import os, signal, sys
from pathlib import Path
from rlchat.files import write_bytes

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
write_bytes(Path(sys.argv[1]), b"half done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no kill of that kind, and no flock")
def test_what_a_killed_writer_left_of_a_file_goes_with_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old")
    for name in ("note.txt", "note.txt.more"):  # which is another's
        done = subprocess.run([sys.executable, "-c", KILLED_FILE, str(tmp_path / name)])
        assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 3 and path.read_text() == "old"
    write_text(path, "new")
    left, one = names(tmp_path)
    assert left.startswith(".note.txt.more.") and one == "note.txt"
    assert path.read_text() == "new"


def test_writers_of_one_file_do_not_take_each_other_s_for_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    with ThreadPoolExecutor(8) as several:
        list(several.map(lambda i: write_text(path, str(i)), range(200)))
    assert names(tmp_path) == ["note.txt"] and int(path.read_text()) in range(200)


def test_what_a_living_writer_is_at_stays(tmp_path: Path) -> None:
    """Two at a time are one too many, and still neither loses what it has written."""
    target = tmp_path / "one"
    with atomic_folder(target) as new:
        (new / "a.txt").write_text("slow")
        fill(target, "quick")
        assert (new / "a.txt").read_text() == "slow"
        assert (target / "a.txt").read_text() == "quick"
    assert (target / "a.txt").read_text() == "slow"
    assert names(tmp_path) == ["one"]


def test_atomic_folder_refuses_to_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("precious")
    with pytest.raises(UserError, match="got a file"):
        fill(tmp_path / "one", "new")
    assert (tmp_path / "one").read_text() == "precious"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_said_with_the_space_that_is_left(tmp_path: Path, error: Exception) -> None:
    fill(tmp_path / "one", "old")
    said = pytest.raises(UserError, match=r"full disk \([\d,.]+ MB free")
    with said as caught, atomic_folder(tmp_path / "one"):
        raise error
    assert caught.value.__cause__ is error
    assert names(tmp_path) == ["one"]


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_folder(tmp_path / "one"):
        raise PermissionError(errno.EACCES, "no")
    assert names(tmp_path) == []


# Other machines


def test_windows_syncs_no_file_that_is_open_for_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, synced = os.fsync, list[int]()

    def strict(descriptor: int) -> None:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        synced.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", strict)
    fill(tmp_path / "one", "text")
    write_text(tmp_path / "note.txt", "text")
    assert len(synced) == 2


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EROFS])
def test_a_file_system_that_cannot_sync_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)
    monkeypatch.setattr(Path, "chmod", lambda *_: refused_chmod())
    fill(tmp_path / "one", "text")
    write_text(tmp_path / "note.txt", "text")
    assert names(tmp_path) == ["note.txt", "one"]


def refused_chmod() -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("busy", [1, 3, 9])
def test_who_has_a_file_open_on_windows_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: int
) -> None:
    replace, tries = Path.replace, list[Path]()

    def held(self: Path, target: Path) -> Path:
        tries.append(self)
        if len(tries) <= busy:
            raise PermissionError(errno.EACCES, "is used by another process", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", held)
    monkeypatch.setattr(files, "sleep", lambda seconds: None)
    with pytest.raises(PermissionError):
        write_text(tmp_path / "note.txt", "text")
    assert len(tries) == 1 and names(tmp_path) == []
    monkeypatch.setattr(files, "_WINDOWS", True)
    tries.clear()
    if busy == 9:
        with pytest.raises(PermissionError):
            write_text(tmp_path / "note.txt", "text")
        assert len(tries) == 4 and names(tmp_path) == []
    else:
        write_text(tmp_path / "note.txt", "text")
        assert names(tmp_path) == ["note.txt"]


def test_where_locks_keep_nobody_out_nothing_is_taken_for_a_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    with atomic_folder(tmp_path / "one") as new:
        (new / "a.txt").write_text("slow")
        fill(tmp_path / "one", "quick")
        assert (new / "a.txt").read_text() == "slow"


def test_what_another_machine_writes_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of some network file systems are a machine's own."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(files, "HOST", "0" * 8)
        theirs = files._sibling(tmp_path / "one", "tmp")
    theirs.mkdir()
    fill(tmp_path / "one", "ours")
    assert names(tmp_path) == sorted([theirs.name, "one"])
    os.utime(theirs, (0, time.time() - 25 * 60 * 60))
    fill(tmp_path / "one", "ours")
    assert names(tmp_path) == ["one"]  # nobody writes for a day


def test_json_holds_names_of_files_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"stra\xdfe")
    write_json(tmp_path / "a.json", {"run": name, "by": "Zo\u00eb"})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"run": name, "by": "Zo\u00eb"}


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a home folder; temporary files go where it says."""

    def unknown(user: int) -> None:
        raise KeyError(user)

    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "RLCHAT_DATA", "RLCHAT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_without_a_home_there_is_a_folder_of_one_s_own(homeless: Path) -> None:
    own = homeless / f"rlchat-{os.getuid()}"
    with pytest.warns(Notice, match="set RLCHAT_DATA to a folder that stays") as told:
        assert data_folder() == data_folder() == own / "rlchat_data"
    assert len(told) == 1
    with pytest.warns(Notice, match="set RLCHAT_CACHE"):
        assert cache_folder() == own / "rlchat_cache"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert not has_home()


def test_without_a_home_nobody_else_s_folder_is_used(
    homeless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (homeless / "theirs").mkdir()
    (homeless / f"rlchat-{os.getuid()}").symlink_to(homeless / "theirs")
    with pytest.raises(UserError, match="is another user's; set RLCHAT_DATA to a folder of yours"):
        data_folder()
    monkeypatch.setenv("RLCHAT_DATA", str(homeless / "named"))
    assert data_folder() == homeless / "named"
