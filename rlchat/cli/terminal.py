"""Lines of a person, from a terminal with history or from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rlchat.files import data_folder

HISTORY = "-history"  # how names of files end that remember what was typed
ReadLine = Callable[[Text], str]  # shows who speaks; EOFError where the lines end


def open_lines(console: Console, history: str) -> ReadLine:
    """Read from the terminal if a person sits there, else from whatever is piped in.

    Args:
        console: shows the conversation.
        history: name of the file, in the user's data folder, that remembers what was typed.
    """
    if at_terminal(console):
        return terminal_lines(data_folder() / history)
    # Bytes, as a text stream would stop at the first one that is not UTF-8.
    piped = (line.decode("utf-8", "replace") for line in sys.stdin.buffer)
    return piped_lines(piped, console)


def at_terminal(console: Console) -> bool:
    """Whether there is a person at the terminal who can be asked."""
    return sys.stdin.isatty() and console.is_terminal


def piped_lines(lines: Iterable[str], console: Console) -> ReadLine:
    """Take lines from anywhere; each is shown, as nobody has seen it typed."""
    source = iter(lines)

    def read(who: Text) -> str:
        line = next(source, None)
        if line is None:
            raise EOFError
        line = line.rstrip("\r\n")
        console.print(who + Text(printable(line)), soft_wrap=True)
        return whole(line)

    return read


def terminal_lines(path: Path) -> ReadLine:
    """Take lines from the terminal; arrow keys bring earlier ones back, the next day too."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.formatted_text import FormattedText
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    history: History = InMemoryHistory()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        history = FileHistory(str(path))
    except OSError:
        pass  # a home that cannot be written: then nothing is remembered
    session: PromptSession[str] = PromptSession(history=history)
    return lambda who: whole(session.prompt(FormattedText([("bold ansicyan", who.plain)])))


def whole(text: str) -> str:
    """Text without lone surrogates, which neither a tokenizer nor a file would take."""
    return text.encode("utf-8", "replace").decode("utf-8")


def printable(text: str) -> str:
    """Text without control characters, which could steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def say(console: Console, line: str) -> None:
    """Print a line as it is: nothing in it is markup, and only a terminal breaks it."""
    console.print(Text(printable(line)), soft_wrap=True)
