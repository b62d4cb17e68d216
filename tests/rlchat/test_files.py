import errno
import json
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlchat.errors import UserError
from rlchat.files import atomic_folder, recover_folder, write_json, write_text


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
