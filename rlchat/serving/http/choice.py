"""One reply while it is generated: its tokens, the text that can be shown, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rlchat.inference.rows import Noise, Sampling
from rlchat.inference.streaming import TextStream
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.templates.context import Context
from rlchat_envs import Tool
from rlchat_envs.core.tools import Call, Spoken, read_message


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of a reply with its logprob, and the most probable ones in its place."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a reply ended.

    Attributes:
        reason: ``stop``, ``length``, ``tool_calls`` or ``error``.
        text: All of its words.
        calls: Functions that it calls.
        cached: Tokens of its prompt that were not computed again.
        whole: Whether its tokens have this text and no more, as where no stop text cut it.
    """

    reason: str
    text: str = ""
    calls: tuple[Call, ...] = ()
    cached: int = 0
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Piece:
    """What has come of one of a request's replies since the last piece."""

    index: int
    text: str
    ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    ended: Ended | None = None


@dataclass(frozen=True)
class Wishes:
    """How a reply is to be generated.

    Attributes:
        noise: What sampling draws from.
        temperature: 0 is greedy.
        top_p: See `Sampling`.
        stop: Texts that end the reply where they begin.
        top_logprobs: How many tokens are told of beside each; None if no logprobs are wanted.
    """

    noise: Noise
    temperature: float
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None


@dataclass(eq=False)
class Choice:
    """One reply that is generated; the thread that generates is the only one that changes it.

    Attributes:
        index: Its number among those of its request.
        context: The tokens before it, and its own.
        wishes: How it is generated.
        emit: Told what has come; from the thread that generates.
        leader: Another reply to the same prompt, which is read first and copied.
        cached: Tokens of its prompt that were not computed again.
        drawn: Random numbers that its tokens took, one each.
        ended: How it ended; None before that.
    """

    index: int
    template: ChatTemplate
    context: Context
    tools: tuple[Tool, ...]
    wishes: Wishes
    emit: Callable[[Piece], None]
    leader: Choice | None = None
    cached: int = 0
    drawn: int = 0
    ended: Ended | None = None
    _ids: list[int] = field(default_factory=list)  # not emitted yet
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    _told: tuple[float, list[tuple[int, float]]] | None = None
    _text: str = ""  # that can be shown, as far as nothing may stop it
    _sent: int = 0  # letters of it
    _cut: bool = False  # whether a stop text has ended it

    def __post_init__(self) -> None:
        """Prepare to show its text."""
        self._stream = TextStream(self.template, self._grow, self.tools)

    @property
    def begun(self) -> bool:
        """Whether it has tokens of its own."""
        return len(self.context.ids) > self.context.begin

    @property
    def sampling(self) -> Sampling:
        """How its tokens are drawn."""
        top = self.wishes.top_logprobs
        note = None if top is None else self._note_top
        return Sampling(self.wishes.temperature, self.wishes.top_p, top or 0, note)

    def add(self, ids: Sequence[int], written: bool = False) -> None:
        """Append tokens, which were sampled, or written for it: those are certain."""
        self.context.add(ids)
        self._ids += ids
        self.drawn += 0 if written else len(ids)
        if self.wishes.top_logprobs is not None:
            for token in ids:
                logprob, top = (0.0, []) if written or self._told is None else self._told
                self._logprobs.append(TokenLogprob(token, logprob, tuple(top)))
        self._told = None

    def show(self) -> bool:
        """Emit what has come; tell whether a stop text ends the reply here."""
        last = self.context.turn[-1] in self.template.stop_ids
        if not (last and self.tools):  # whose end is words and calls, told apart in `end`
            self._stream.show(self.context.said, last)
        place = self._stopped()
        if place is not None:
            self._text, self._cut = self._text[:place], True
            return True
        self._emit(self._text[: len(self._text) - self._held_back()])
        return False

    def end(self, reason: str) -> None:
        """Emit the rest, and how it ended."""
        turn = self.context.turn
        calls: tuple[Call, ...] = ()
        if turn and not self._cut and reason != "error":  # which reading it may be
            finished = turn[-1] in self.template.stop_ids
            text = self._stream.show(self.context.said, last=finished, over=True)
            self._text, calls = self._parted(text)
            if (place := self._stopped()) is not None:
                self._text, self._cut = self._text[:place], True
                calls, reason = (), "stop"
        if calls and reason == "stop":
            reason = "tool_calls"
        self.ended = Ended(reason, self._text, calls, self.cached, not self._cut)
        self._emit(self._text, self.ended)

    def _parted(self, text: str) -> tuple[str, tuple[Call, ...]]:
        """Words and calls of a whole message; calls that cannot be read stay text."""
        spoken = read_message(text) if self.tools else Spoken(text)
        if not spoken.calls or not all(map(_readable, spoken.calls)):
            return text, ()
        return spoken.words, spoken.calls

    def _grow(self, piece: str) -> None:
        self._text += piece

    def _note_top(self, logprob: float, top: list[tuple[int, float]]) -> None:
        self._told = logprob, top

    def _stopped(self) -> int | None:
        """Where the first stop text begins, if there is one."""
        places = [p for stop in self.wishes.stop if (p := self._text.find(stop)) >= 0]
        return min(places, default=None)

    def _held_back(self) -> int:
        """How many of the last letters may be the beginning of a stop text."""
        most = max((len(stop) for stop in self.wishes.stop), default=0)
        for length in range(min(len(self._text), most - 1), 0, -1):
            if any(stop.startswith(self._text[-length:]) for stop in self.wishes.stop):
                return length
        return 0

    def _emit(self, text: str, ended: Ended | None = None) -> None:
        new = text[self._sent :]
        self._sent = max(self._sent, len(text))
        if new or self._ids or ended is not None:
            piece = Piece(self.index, new, tuple(self._ids), tuple(self._logprobs), ended)
            self._ids, self._logprobs = [], []
            self.emit(piece)


def _readable(call: Call) -> bool:
    """Whether a call is one, and can be written as JSON in UTF-8."""
    try:
        told = json.dumps([call.name, dict(call.arguments)], ensure_ascii=False, allow_nan=False)
        told.encode()
    except (ValueError, RecursionError):  # half of a character is a ValueError too
        return False
    return not call.error
