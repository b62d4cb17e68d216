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


# How models mark what they think before they speak: think tags of several makers, and channels.
_THOUGHT = (
    r"<(?:\w+:)?(?:think|thinking|thought|reasoning)>|\[THINK\]|◁think▷|<\|START_THINKING\|>"
    r"|<\|channel>thought\b|<\|channel\|>(?:analysis|commentary)\b"
)
_THOUGHT_OVER = (
    r"</(?:\w+:)?(?:think|thinking|thought|reasoning)>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>"
    r"|<channel\|>|<\|channel\|>final<\|message\|>"
)
_THOUGHTS = re.compile(rf"(?:{_THOUGHT}).*?(?:{_THOUGHT_OVER})", re.DOTALL | re.IGNORECASE)
_BEGUN, _OVER = (re.compile(p, re.IGNORECASE) for p in (_THOUGHT, _THOUGHT_OVER))


_NAME = re.compile(r"(?<=[\w,;] )[A-Z]\w+|\b[A-Z]{2,}\b")  # how a sentence starts is no name


_AROUND = re.compile(r"^[^\w-]+|(?:['’]s)?[^\w%]*$")  # what stands around a number


_QUOTED = ('""', "''", "“”")


def without_thoughts(text: str, thinking: bool = False) -> str:
    """What a model says, without what it thinks before.

    A chat template may have written the opening mark, so that the text holds the closing one
    alone: what stands before that is thought. What comes after an opening mark that is never
    closed is thought as well.

    Args:
        text: as the model wrote it.
        thinking: whether the prompt ended with an opening mark.
    """
    spoken = _THOUGHTS.sub("", f"<think>{text}" if thinking else text)
    return _BEGUN.split(_OVER.split(spoken)[-1], maxsplit=1)[0].strip()


def has_thoughts(text: str) -> bool:
    """Whether a text has a mark of thoughts."""
    return bool(_BEGUN.search(text) or _OVER.search(text))


def opens_thought(prompt: str) -> bool:
    """Whether a prompt ends with a mark that opens a thought."""
    return bool(re.search(rf"(?:{_THOUGHT})\s*\Z", prompt, re.IGNORECASE))


def tidy(text: str) -> str:
    """What a model said, as one line of printable characters, up to where it speaks for others.

    Thoughts are left out.
    """
    spoken = without_thoughts(text)
    lines = ("".join(map(_printable, line)) for line in spoken.splitlines())
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
