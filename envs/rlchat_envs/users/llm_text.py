"""What a language model wrote for a user: tidied, and compared with what it was to say."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any

MOST_WORDS, MOST_LETTERS = 80, 600  # of a person's message; what is longer is cut


_MARKS = re.compile(
    r"<\||\|>|\[/?(?:desk|system|tool|inst)\b|</?(?:s|think|start_of_turn|end_of_turn)>"
    r"|^\W*(?:user|assistant|system|tool|desk|human|agent|customer)\W*:",
    re.IGNORECASE | re.MULTILINE,
)


_NAME = re.compile(r"(?<=[\w,;] )[A-Z]\w+|\b[A-Z]{2,}\b")  # how a sentence starts is no name


_AROUND = re.compile(r"^[^\w-]+|(?:['’]s)?[^\w%]*$")  # what stands around a number


_QUOTED = ('""', "''", "“”")


def tidy(text: str) -> str:
    """What a model said, as one line of printable characters, up to where it speaks for others."""
    lines = ("".join(map(_printable, line)) for line in text.splitlines())
    line = " ".join(_MARKS.split("\n".join(lines), maxsplit=1)[0].split())
    quotes = line[:1] + line[-1:]
    if len(line) > 1 and quotes in _QUOTED and not set(quotes) & set(line[1:-1]):
        line = line[1:-1].strip()
    return line


def keeps(line: str, said: str, values: list[str]) -> bool:
    """Whether a rephrasing may stand for a line.

    It has the line's codes and numbers and no others, its names, and those of ``values`` that the
    line has, word for word; it denies something if the line does; and it is not much longer.

    Args:
        line: what the agenda says.
        said: the same in other words.
        values: of the case, which may be facts.
    """
    if len(said.split()) > 3 * len(line.split()) + 20 or len(said) > 3 * len(line) + 200:
        return False
    if codes(line) != codes(said) or _denies(line) != _denies(said):
        return False
    names = [*_NAME.findall(line), *(value for value in values if _holds(line, value))]
    return all(_holds(said, name) for name in names)


def codes(text: str) -> set[str]:
    """Words with digits, in lower case and without what stands around them."""
    words = (_AROUND.sub("", word) for word in text.casefold().split())
    return {word for word in words if any(c.isdigit() for c in word)}


def whole(text: str) -> str:
    """A text without half characters, which cannot be written as UTF-8."""
    return text.encode(errors="replace").decode()


def _denies(text: str) -> bool:
    words = re.findall(r"\w+", text.casefold())
    return bool(re.search(r"n['’]t\b", text) or set(words) & set(_words()["negations"]))


def _holds(text: str, words: str) -> bool:
    """Whether some words, if they are any, stand in a text."""
    pattern = rf"(?<!\w){re.escape(words.strip())}(?!\w)"
    return bool(words.strip()) and bool(re.search(pattern, text, re.IGNORECASE))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else ""


@cache
def _words() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("written.toml").read_text("utf-8")
    return tomllib.loads(text)
