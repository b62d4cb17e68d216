"""The two ways in which a command can fail, and what it warns of while it goes on."""

import errno
from typing import NamedTuple


class UserError(ValueError):
    """The user's words or input were wrong.

    The message is one sentence that names what was expected, what came and the remedy. The
    command line prints it alone, without a stack trace, and exits with 2.
    """


class NotThere(UserError):
    """An environment has no agent of that name; others may."""


class RunError(RuntimeError):
    """The words were right, but the work failed; the command line exits with 1."""


class Notice(UserWarning):
    """Something is done otherwise than was asked for, and the work goes on.

    Given to ``warnings.warn`` where no listener can be told; the command line prints the message
    alone, in one line.
    """


class Failure(NamedTuple):
    """What went wrong, in a sentence, and the exit status of it."""

    sentence: str
    status: int


def failure_of_machine(error: Exception) -> Failure | None:
    """An error that the machine made, not this program; None if it is another."""
    if isinstance(error, OSError):
        return _refusal(error)
    if isinstance(error, UnicodeEncodeError) and error.encoding != "utf-8":
        return Failure(
            f"expected names that this locale can write ({error.encoding}); got "
            f"{error.object!a}; set PYTHONUTF8=1, or LC_ALL to a UTF-8 locale",
            2,
        )
    kind, said = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "allocate memory" in said:
        return Failure(
            "expected more memory than there is; play fewer conversations at once "
            "(--rollout.rows), learn from fewer tokens at once, or choose a smaller model",
            1,
        )
    return None


def _refusal(error: OSError) -> Failure:
    """What the operating system, or a network, refused."""
    reason = error.strerror or str(error).strip().partition("\n")[0] or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f"to use {error.filename}" if error.filename else "room on the disk"
        return Failure(f"expected {place}; {reason}; make room or name another place", 2)
    if error.filename:
        return Failure(f"expected to use {error.filename}; {reason}; name another place or file", 2)
    return Failure(f"the system did not do what was asked of it ({reason}); try again", 1)
