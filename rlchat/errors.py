"""The two ways in which a command can fail."""

import math


class UserError(ValueError):
    """The user's words or input were wrong.

    The message is one sentence that names what was expected, what came and the remedy. The
    command line prints it alone, without a stack trace, and exits with 2.
    """


class RunError(RuntimeError):
    """The words were right, but the work failed; the command line exits with 1."""


def expect(settings: object, name: str, holds: bool, what: str) -> None:
    """Refuse a setting that is out of range, or not a finite number.

    Raises:
        UserError: so it is.
    """
    value = getattr(settings, name)
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"expected {name} {what}; got {value}")
