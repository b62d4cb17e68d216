"""The two ways in which a command can fail."""


class UserError(ValueError):
    """The user's words or input were wrong.

    The message is one sentence that names what was expected, what came and the remedy. The
    command line prints it alone, without a stack trace, and exits with 2.
    """


class RunError(RuntimeError):
    """The words were right, but the work failed; the command line exits with 1."""
