"""Thoughts of an agent: how its chat template marks them, and where the text begins."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlchat.errors import UserError

OFF, ON = "off", "on"
_THOUGHT, _TEXT = "\u2042thought\u2042", "\u2042text\u2042"
_BEFORE_TEXT = ("<think>", "</think>")  # of templates that find a thought within the text
_FIELDS = ("reasoning_content", "thinking", "reasoning", "")  # of a message, that templates read
_USER = {"role": "user", "content": "x"}
_MARK_AT_END = re.compile(r"(<[^<>]*>|\[[^\[\]]*\])\s*$")

Render = Callable[[Sequence[dict[str, Any]], bool], str]
"""A chat template: messages, and whether the agent's prompt follows, to text."""


def check_thinking(setting: str) -> None:
    """Refuse what says neither whether agents think nor how long.

    Raises:
        UserError: it is none of "", off, on and a number of tokens.
    """
    if setting in ("", OFF, ON) or (setting.isascii() and setting.isdigit() and int(setting) > 0):
        return
    raise UserError(
        f"expected off, on or a number of tokens of at least 1 for thinking; got {setting!r}"
    )


def thought_budget(setting: str) -> int:
    """Tokens that a thought may have before it is ended; 0 if it shares those of the reply."""
    return int(setting) if setting.isdigit() else 0


class NoThoughtsError(ValueError):
    """A chat template that writes no thoughts."""


@dataclass(frozen=True)
class Thoughts:
    """The marks of an agent's thought, and which later messages leave it in the context.

    Attributes:
        field: of a message, which has the thought; empty if that is the beginning of the content.
        begin: what stands before a thought, written by the agent or the end of its prompt.
        end: what it writes between a thought and its text.
        direct: what it writes before a text without a thought, if not nothing.
        kept: whether the template keeps a thought once the user has replied.
        kept_for_tools: the same while nobody but tools has answered.
    """

    field: str
    begin: str
    end: str
    direct: str
    kept: bool
    kept_for_tools: bool

    def text_begin(self, strings: Sequence[str]) -> int | None:
        """Where the text of a turn begins, in tokens; None while it has not begun.

        White space counts for nothing: models differ from their templates in it.

        Args:
            strings: the turn's tokens as text, marks included, and if its prompt begins a thought,
                first those of that.
        """
        bare = ["".join(string.split()) for string in strings]
        turn, begin, end, direct = (
            "".join(s.split()) for s in ("".join(bare), self.begin, self.end, self.direct)
        )
        if direct and turn.startswith(direct):
            return _token_at(bare, len(direct))
        if not turn.startswith(begin):
            undecided = any(mark.startswith(turn) for mark in (begin, direct))
            return None if undecided else 0
        found = turn.find(end, len(begin))
        return None if found < 0 else _token_at(bare, found + len(end))

    def without_marks(self, turn: str) -> str:
        """The thought alone, of a turn up to where its text begins."""
        for mark in (self.begin, self.end, self.direct):
            turn = turn.replace(mark.strip(), "") if mark.strip() else turn
        return turn.strip()

    def keeps(self, roles: Sequence[str]) -> bool:
        """Whether earlier thoughts stay in the context, if these reply."""
        return self.kept if "user" in roles or not roles else self.kept_for_tools


def _token_at(strings: Sequence[str], place: int) -> int:
    """The first token with text of its own that begins at this character or later."""
    begun = 0
    for i, string in enumerate(strings):
        if string and begun >= place:
            return i
        begun += len(string)
    return len(strings)


def find_thoughts(render: Render) -> Thoughts:
    """Find out how a chat template writes thoughts.

    Args:
        render: the template, asked to think.

    Raises:
        NoThoughtsError: it writes none.
    """
    prompt = render([_USER], True)
    for field in _FIELDS:
        message = spoken(field, _THOUGHT, _TEXT)
        try:
            last, later = render([_USER, message], False), render([_USER, message, _USER], True)
        except Exception:  # a template is somebody's program; this is no way to tell it a thought
            continue
        tools = _rendered(render, [_USER, message, {"role": "tool", "content": "x"}])
        if _THOUGHT in last and _TEXT in last.partition(_THOUGHT)[2]:
            begin, _, rest = last.partition(_THOUGHT)
            end = rest.partition(_TEXT)[0]
            if not field and message["content"] in last:
                continue  # to this template it is text like any other
        elif not field and _TEXT in last:  # it writes a thought never again
            end = _BEFORE_TEXT[1]
            begin = prompt.rstrip().removesuffix(_BEFORE_TEXT[0]) + _BEFORE_TEXT[0]
        else:
            continue
        return Thoughts(
            field,
            _after(begin, prompt) or _last_mark(prompt),
            end,
            _after(_direct(render), prompt),
            _THOUGHT in later,
            tools is not None and _THOUGHT in tools,
        )
    raise NoThoughtsError


def spoken(field: str, thought: str, text: str) -> dict[str, Any]:
    """An agent's message with a thought, as `Thoughts.field` says."""
    if field:
        return {"role": "assistant", field: thought, "content": text}
    return {"role": "assistant", "content": thought.join(_BEFORE_TEXT) + text}


def _direct(render: Render) -> str:
    """What stands before a text without a thought in the conversation's last message."""
    return render([_USER, {"role": "assistant", "content": _TEXT}], False).partition(_TEXT)[0]


def _after(written: str, prompt: str) -> str:
    """What is written after the prompt; nothing if the prompt goes further."""
    return written.removeprefix(prompt) if written.startswith(prompt) else ""


def _last_mark(prompt: str) -> str:
    """The mark that a prompt ends with, and white space behind it."""
    found = _MARK_AT_END.search(prompt)
    return found[0] if found else ""


def _rendered(render: Render, messages: Sequence[dict[str, Any]]) -> str | None:
    try:
        return render(messages, True)
    except Exception:  # no such role, for one
        return None
