"""What a chat template writes before, between and after messages, found by rendering marks."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from rlchat.models.templates.placing import AS_IT_IS, LABELS, Placing, placings
from rlchat_envs import Conversation, Message

_MARK = "\u2042"  # with a number, stands for a message's text while the template is rendered
_LINES = (
    "{% set names = {'system': '', 'user': 'User: ', 'assistant': 'Assistant: ', "
    "'tool': 'Desk: '} %}"
    "{% for m in messages %}{{ names[m['role']] + m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' else '' }}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ names['assistant'] }}{% endif %}"
)
_WORD = re.compile(r"\w+")
_THOUGHT = "</think>"  # ends one
_OPEN_THOUGHT = re.compile(rf"<think>(?!.*{_THOUGHT})", re.DOTALL)
_USER, _ASSISTANT = Message("user", "x"), Message("assistant", "x")
_ASKED: Conversation = (_USER, _ASSISTANT)


class UnwrittenError(ValueError):
    """A template left a message out, wrote it twice or in another order."""


@dataclass(frozen=True, slots=True)
class Handling:
    """What a template does to the text of one role's messages."""

    trims: bool = False
    quotes: bool = False  # as JSON does
    drops_thoughts: bool = False

    def apply(self, text: str) -> str:
        """The text as it appears in what the template writes."""
        if self.drops_thoughts and _THOUGHT in text:
            text = text.rpartition(_THOUGHT)[2].lstrip("\n")
        if self.trims:
            text = text.strip()
        return json.dumps(text, ensure_ascii=False)[1:-1] if self.quotes else text


class Rendering:
    """A tokenizer's chat template as the strings that it writes around messages.

    Templates that think are asked not to. A tokenizer without a template gets plain ``User:`` /
    ``Assistant:`` lines.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        """Ask the template.

        Raises:
            Exception: of any kind, if a conversation cannot be taken apart; a template is
                somebody's program.
        """
        self._tokenizer = tokenizer
        self._declared: Any = None
        self.in_lines = tokenizer.chat_template is None
        self._parts = False
        try:
            first = self._write((_USER,), prompt=True)
        except Exception:  # then contents may have to be lists of parts, as where images can be
            self._parts = True
            first = self._write((_USER,), prompt=True)
        longer = self._write((*_ASKED, _USER), prompt=True)
        if longer[0] != first[0]:
            raise UnwrittenError
        self._placed: dict[tuple[bool, tuple[str, ...]], Placing] = {}
        self._pieces: dict[tuple[bool, tuple[tuple[str, bool], ...]], tuple[str, ...]] = {}
        self.labels = self._labels()
        self._maker = self._makers_message()
        self._handling = {
            "user": self._probe((), "user"),
            "system": self._probe((), "system"),
            "assistant": self._probe((_USER,), "assistant"),
            "tool": self._probe(_ASKED, "tool"),
        }
        self._lead, self._empty_lead = self._leads()

    def declaring(self, tools: list[dict[str, Any]]) -> Rendering:
        """The same template with functions that the agent may call."""
        view = copy.copy(self)
        view._declared, view._pieces, view._placed = tools, {}, {}
        return view

    def pieces(self, messages: Conversation, first: bool) -> tuple[tuple[str, ...], list[str]]:
        """The template's strings around messages, up to where the agent's turn begins, and texts.

        Args:
            messages: those before the agent's first turn, or between two of its turns.
            first: whether it is its first. If not, the strings begin right after a turn's text.

        Returns:
            One string more than there are texts; they alternate, and a string is first.
        """
        placed = self._placing(messages, first).place(messages)
        texts = [self.handled(m.role, m.content) for m in placed]
        key = first, tuple((m.role, bool(text)) for m, text in zip(placed, texts, strict=True))
        if key not in self._pieces:
            shape = tuple(Message(m.role, t) for m, t in zip(placed, texts, strict=True))
            try:
                self._pieces[key] = self._ask(shape, first)
            except Exception:
                if all(texts):
                    raise
                # The template refuses empty messages: nobody says them.
                return self.pieces(tuple(m for m in shape if m.content), first)
        return self._pieces[key], [text for text in texts if text]

    def handled(self, role: str, text: str) -> str:
        """The text of a role's message as it appears in what the template writes."""
        return self._handling[role].apply(text)

    def said(self, text: str) -> str:
        """An agent's text as the template writes it after its prompt."""
        said = self.handled("assistant", text)
        return self._lead + said if said else self._empty_lead

    def segments(self) -> list[tuple[str, ...]]:
        """What it writes around messages of all kinds, for whoever looks for its marks."""
        system, tool = Message("system", "x"), Message("tool", "x")
        talks: list[tuple[Conversation, bool]] = [((system, _USER), True), ((_USER,), True)]
        talks += [((_USER,), False), ((tool,), False), ((_USER, tool), False)]
        return [
            (*(() if first else ("",)), *self.pieces(messages, first)[0])
            for messages, first in talks
        ]

    def _ask(self, placed: Conversation, first: bool) -> tuple[str, ...]:
        if first and not placed:
            return (self._unasked(),)
        if first:
            out = self._prompted(placed)
            if self._maker and placed[0].role != "system" and out[0].startswith(self._maker):
                out = (self._bos + out[0].removeprefix(self._maker), *out[1:])
            return out
        return self._prompted((*_ASKED, *placed))[2:]

    def _prompted(self, messages: Conversation) -> tuple[str, ...]:
        """Strings around messages, the last of which ends where the agent's text begins.

        A prompt that leaves more than white space to the agent before that, a channel's name say,
        or that begins a thought, is completed.
        """
        out = self._write(messages, prompt=True)
        asked = out[-1]
        try:
            answered = self._write((*messages, _ASSISTANT), prompt=False)[-2]
        except Exception:  # a prompt that the template does not continue stays as it is
            answered = asked
        if answered.startswith(asked) and answered[len(asked) :].strip():
            return (*out[:-1], answered)
        if not answered.startswith(asked) and _OPEN_THOUGHT.search(asked):
            return (*out[:-1], asked.rstrip("\n") + f"\n\n{_THOUGHT}\n\n")
        return out

    def _leads(self) -> tuple[str, str]:
        """White space that the template writes before an agent's text, and its prompt does not.

        Returns:
            That before a text, and that where there is none.
        """
        asked = self._prompted((_USER,))[-1]
        _, answered, after, _ = self._write((*_ASKED, _USER), prompt=True)
        last = self._write(_ASKED, prompt=False)[-2]
        lead = last[len(asked) :] if last.startswith(asked) else ""
        try:
            silent = self._write((_USER, Message("assistant", ""), _USER), prompt=True)[1]
        except Exception:  # the template refuses an empty message
            return lead, ""
        return lead, lead if silent == answered + after else ""

    def _unasked(self) -> str:
        """What an agent's turn begins with that nobody asked for."""
        closed = self._apply([("user", f"{_MARK}0{_MARK}")], prompt=False)
        asked = self._apply([("user", f"{_MARK}0{_MARK}")], prompt=True)
        end = str(self._tokenizer.eos_token)
        start = closed if asked.startswith(closed) else closed.removesuffix(end)
        return self._bos + (asked.removeprefix(start) if asked.startswith(start) else "")

    def _placing(self, messages: Conversation, first: bool) -> Placing:
        """The placing of messages that changes least and that the template writes whole."""
        key = first, tuple(m.role for m in messages)
        if key not in self._placed:
            self._placed[key] = self._find_placing(key[1], first)
        return self._placed[key]

    def _find_placing(self, roles: Sequence[str], first: bool) -> Placing:
        messages: Conversation = tuple(Message(role, "x") for role in roles)  # type: ignore[arg-type]
        before: Conversation = () if first else _ASKED
        for placing in placings(first) if messages else ():
            placed = (*before, *placing.place(messages))
            try:
                self._write(placed, prompt=True)
                self._write((*placed, _ASSISTANT, _USER), prompt=True)  # and can it go on?
            except Exception:  # the template refuses it: the next one
                continue
            return placing
        return AS_IT_IS

    def _labels(self) -> tuple[str, ...]:
        """Labels that stand for a role in a user's message, in some conversation."""
        tool, system = Message("tool", "x"), Message("system", "x")
        talks: list[Conversation] = [(tool,), (_USER, tool), (system,), (_USER, system)]
        placings = [self._placing(talk, first=False) for talk in talks]
        labels = [LABELS["tool"]] if any(p.label_tool for p in placings) else []
        return (*labels, *([LABELS["system"]] if any(p.label_system for p in placings) else []))

    @property
    def _bos(self) -> str:
        """The mark of a conversation's beginning, if the template writes one that is no turn's."""
        bos = str(self._tokenizer.bos_token or "")
        first, later = self._write((*_ASKED, _USER), prompt=True)[0::2][:2]
        return bos if bos and first.startswith(bos) and bos not in later else ""

    def _makers_message(self) -> str:
        """What the template begins with if a conversation has no system message: its maker's.

        It counts as such only if it stands in the place of a whole system message.
        """
        system = Message("system", "x")
        try:
            header, close = self._write((system,), prompt=False)
            both = self._write((system, _USER), prompt=True)
        except Exception:  # no system role: then there is no maker's message to leave out
            return ""
        alone = self._write((_USER,), prompt=True)[0]
        if both[0] != header or not both[1].startswith(close):
            return ""
        opens = both[1].removeprefix(close)
        made = alone.removesuffix(opens)
        if not opens or made == alone or not made.startswith(header):
            return ""
        words = [len(_WORD.findall(self._without_added(text))) for text in (header, close)]
        return made if made != header + close and words[0] <= 1 and not words[1] else ""

    def _without_added(self, text: str) -> str:
        for token in self._tokenizer.added_tokens_encoder:
            text = text.replace(token, " ")
        return text

    def _probe(self, before: Conversation, role: str) -> Handling:
        """Find out what becomes of a role's text."""
        mark = _MARK
        after = [("user", "x")] if role in ("system", "assistant") else []

        def write(text: str) -> str:
            talk = [(m.role, m.content) for m in before]
            return self._apply([*talk, (role, text), *after], prompt=True)

        try:
            spaced, quoted = write(f"  {mark}  "), write(f'{mark}"\n{mark}')
            thought = write(f"<think>{mark}</think>{mark}") if role == "assistant" else ""
        except Exception:  # no such role: it is written as a user's message
            return Handling()
        if mark not in spaced:
            return Handling()
        return Handling(
            trims=f"  {mark}  " not in spaced,
            quotes=f'{mark}\\"\\n{mark}' in quoted,
            drops_thoughts=thought.count(mark) == 1 or _THOUGHT in thought.rpartition(mark)[2],
        )

    def _write(self, messages: Conversation, prompt: bool) -> tuple[str, ...]:
        """Strings before, between and after the texts of messages; empty ones have no place."""
        marks = [f"{_MARK}{i}{_MARK}" if m.content else "" for i, m in enumerate(messages)]
        talk = [(m.role, mark) for m, mark in zip(messages, marks, strict=True)]
        rest = self._apply(talk, prompt)
        pieces = []
        for _, mark in talk:
            if mark:
                piece, found, rest = rest.partition(mark)
                if not found:
                    raise UnwrittenError
                pieces.append(piece)
        pieces.append(rest)
        if any(_MARK in piece for piece in pieces):
            raise UnwrittenError
        return tuple(pieces)

    def _apply(self, talk: Sequence[tuple[str, str]], prompt: bool) -> str:
        """Render a conversation of (role, text)."""
        return self.render([{"role": role, "content": text} for role, text in talk], prompt)

    def render(self, messages: Sequence[Mapping[str, Any]], prompt: bool) -> str:
        """Render a conversation as transformers takes it."""
        content: Callable[[str], object] = str
        if self._parts:
            content = lambda text: [{"type": "text", "text": text}]  # noqa: E731
        talk: Any = [{**m, "content": content(m["content"])} for m in messages]
        return str(
            self._tokenizer.apply_chat_template(
                talk,
                tools=self._declared,
                chat_template=_LINES if self.in_lines else None,
                tokenize=False,
                add_generation_prompt=prompt,
                enable_thinking=False,
            )
        )
