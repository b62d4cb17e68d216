"""Files and folders that are either whole or absent, whatever stops the program."""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from time import sleep, time

from rlchat.errors import Notice, UserError

# A part of the names of unfinished files: another machine's writers on a shared file system may
# live, whatever locks say here.
HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
A_DAY = 24 * 60 * 60.0  # seconds
_WINDOWS = os.name == "nt"
# Of file systems that cannot bring a file to the disk when they are asked to.
_CANNOT_SYNC = {errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EROFS}


def at_home(path: str) -> Path:
    """A path with ``~`` read as the user's home; one of nobody's stays as it is."""
    return Path(os.path.expanduser(path))


def data_folder() -> Path:
    """The folder of what a person typed or rated: $RLCHAT_DATA, else their ordinary data folder."""
    return _own_folder("RLCHAT_DATA", "XDG_DATA_HOME", "~/.local/share")


def cache_folder() -> Path:
    """The folder of fetched models: $RLCHAT_CACHE, else the user's ordinary cache folder."""
    return _own_folder("RLCHAT_CACHE", "XDG_CACHE_HOME", "~/.cache")


def has_home() -> bool:
    """Whether this user has a home folder; services and users of containers may have none."""
    return at_home("~") != Path("~")


def _own_folder(variable: str, desktop: str, usual: str) -> Path:
    """The folder that a variable names, else one in the user's ordinary folder of that kind."""
    if named := os.environ.get(variable):
        return at_home(named)
    ordinary = os.environ.get(desktop) or usual
    if has_home() or not ordinary.startswith("~"):
        return at_home(ordinary) / "rlchat"
    return _without_home(variable, Path(tempfile.gettempdir())) / variable.lower()


@cache
def _without_home(variable: str, place: Path) -> Path:
    """A folder for a user without a home, which nobody else can read or has made.

    Raises:
        UserError: there can be none.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = place / f"rlchat-{user}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or (not _WINDOWS and folder.stat().st_uid != user):
        raise UserError(
            f"expected a home folder, or {variable}; there is neither, and {folder} is another "
            f"user's; set {variable} to a folder of yours"
        )
    warnings.warn(
        f"this user has no home folder: {folder} takes its place, until the system empties it; "
        f"set {variable} to a folder that stays",
        Notice,
        stacklevel=4,
    )
    return folder


def write_text(path: Path, text: str, private: bool = False) -> None:
    """Write UTF-8 text so that a reader sees the old file or the new one, never a part.

    Args:
        path: The file; its folder is made when absent. A link is followed, not replaced.
        text: The whole content.
        private: Whether its owner alone may read it.
    """
    write_bytes(path, text.encode("utf-8"), private)


def write_bytes(path: Path, content: bytes, private: bool = False) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    What writers of the same path left half done because they were killed is removed.

    Args:
        path: The file; its folder is made when absent. A link is followed, not replaced.
        content: The whole content.
        private: Whether its owner alone may read it.
    """
    target = path.resolve()
    with _full_disk_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        with _new_file(target, 0o600 if private else 0o666) as temporary:
            with open(temporary, "wb") as file:
                file.write(content)
            _sync(temporary)
            _patiently(lambda: temporary.replace(target))


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically.

    NaN and infinities are refused: they are not JSON, and other readers choke on them. Names of
    files that are not UTF-8 are written with escapes, and come back as they were.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError:
        content = json.dumps(value, indent=2, allow_nan=False).encode("ascii")
    write_bytes(path, content + b"\n")


def check_place(path: Path) -> None:
    """Refuse a place where no folder can be made, before hours of work depend on it."""
    parent = next(folder for folder in path.resolve().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(
            f"expected a place where a folder can be made, got {path}: {parent} takes none; "
            "name another"
        )


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a folder that appears under its name only when the block ends well.

    One writer at a time per path. A folder that was there is replaced as a whole; whatever
    leaves the block by an exception, KeyboardInterrupt included, leaves the old one in place.
    What writers of the same path left half done because they were killed is removed.

    Args:
        path: Where the folder shall appear. A link is followed, not replaced.

    Yields:
        An empty folder beside `path`, to be filled.
    """
    target = path.resolve()
    if target.exists() and not target.is_dir():
        raise UserError(f"expected a folder at {path}, got a file: move it or choose another name")
    temporary = _sibling(target, "tmp")
    with _full_disk_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(target)
        _remove_leftovers(target)
        try:
            temporary.mkdir()
            with _locked(temporary):
                yield temporary
                _settle(temporary)
                _swap_in(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def recover_folder(path: Path) -> None:
    """Finish what a kill inside the swap of `atomic_folder` left half done.

    Two renames cannot be one, so there is an instant in which only the set-aside old folder
    exists. Whoever reads a folder that `atomic_folder` writes calls this first.
    """
    target = path.resolve()
    old = _set_aside(target)
    if not old.exists():
        return
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.rename(target)


def _remove_leftovers(target: Path) -> None:
    """Remove unfinished files and folders beside `target` whose writers are gone.

    A living writer holds a lock on what it writes, which the system releases with the process,
    however that ends. Where there are no locks, or locks that keep nobody out (Windows, some
    network file systems), nothing is removed, nor what another machine has left within a day, nor
    from a folder that may be written and not listed.
    """
    unfinished = re.compile(rf"\.{re.escape(target.name)}\.([0-9a-f]{{8}})[0-9a-f]{{8}}\.tmp")
    try:
        beside = list(target.parent.iterdir())
    except PermissionError:
        return
    for found in beside:
        named = unfinished.fullmatch(found.name)
        if named and (named[1] == HOST or _is_old(found)):
            with _locked(found) as had, _locked(found) as again:
                dead = had and not again  # a lock that may be had twice keeps nobody out
                if dead and found.is_dir():
                    shutil.rmtree(found, ignore_errors=True)
                elif dead:
                    found.unlink(missing_ok=True)


def _is_old(place: Path) -> bool:
    """Whether a writer on another machine, whose lock may not be seen here, must be gone by now."""
    with suppress(OSError):
        return time() - place.stat().st_mtime > A_DAY
    return False


@contextmanager
def _new_file(target: Path, mode: int) -> Iterator[Path]:
    """An empty file beside `target`, locked inside the block, and gone if that fails."""
    while True:
        temporary = _sibling(target, "tmp")
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        with _locked(temporary, wait=True):
            # Before it was locked, another writer of the same path may have removed it.
            if not temporary.exists():
                continue
            try:
                yield temporary
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            return


@contextmanager
def _locked(place: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a file or folder inside the block; tells whether it could be had."""
    descriptor = -1
    try:
        try:
            import fcntl

            descriptor = os.open(place, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            had = True
        except (ImportError, OSError):  # Windows; another's, gone, or no locks there
            had = False
        yield had
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _swap_in(new: Path, target: Path) -> None:
    """Put `new` in the place of `target`, which may be absent."""
    if not target.exists():
        _patiently(lambda: new.rename(target))
        return
    old = _set_aside(target)
    try:
        _patiently(lambda: target.rename(old))
        _patiently(lambda: new.rename(target))
    except BaseException:
        recover_folder(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Make every file as readable as the folder, and bring it to the disk.

    safetensors writes files that only their owner reads, which spoils a shared cache; and
    without the sync a power cut could keep the names and lose the contents.
    """
    readable = folder.stat().st_mode & 0o444
    for file in (found for found in folder.rglob("*") if found.is_file()):
        with suppress(PermissionError):  # a file system without permissions
            file.chmod(file.stat().st_mode | readable)
        _sync(file)


def _sync(file: Path) -> None:
    """Bring a file to the disk, where the file system can; Windows needs a handle that writes."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except PermissionError:
        descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def _patiently(move: Callable[[], object]) -> None:
    """Move a file or a folder; on Windows, wait for who has it open, such as a virus scanner."""
    for wait in (0.05, 0.2, 0.75):
        try:
            move()
            return
        except PermissionError:
            if not _WINDOWS:
                raise
            sleep(wait)
    move()


def _sibling(target: Path, suffix: str) -> Path:
    """A free name beside `target`: a rename is atomic only within one file system.

    The mkstemp family is not used: its files are private to the user, and a rename keeps that.
    """
    return target.with_name(f".{target.name}.{HOST}{uuid.uuid4().hex[:8]}.{suffix}")


def _set_aside(target: Path) -> Path:
    """The one name under which an old folder waits, so that it can be found again."""
    return target.with_name(f".{target.name}.old")


@contextmanager
def _full_disk_named(target: Path) -> Iterator[None]:
    """Turn "no space left", from whichever library met it, into a sentence with the space left."""
    try:
        yield
    except Exception as error:
        if not _is_full_disk(error):
            raise
        parent = next(folder for folder in target.parents if folder.exists())
        free = shutil.disk_usage(parent).free / 1e6
        raise UserError(
            f"expected room on the disk to write {target}, got a full disk ({free:,.1f} MB free "
            "without the unfinished files, now removed): free some space or choose another folder"
        ) from error


def _is_full_disk(error: BaseException | None) -> bool:
    """Safetensors tells it as text; torch, in a file object, as what its own error came from."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return os.strerror(errno.ENOSPC) in str(error) or _is_full_disk(error.__context__)
