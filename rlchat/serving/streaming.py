"""An agent's voice in one conversation: what it says, piece by piece, as it says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rlchat.inference.agents import ModelAgent
from rlchat.inference.decoder import Decoder
from rlchat.models.chat_template import Rendering
from rlchat.rollout.collect import RolloutConfig
from rlchat_envs import Conversation, ScriptedAgent

OnText = Callable[[str], None]
_HALF = "\N{REPLACEMENT CHARACTER}"  # what the bytes of an unfinished character decode to


class ContextFull(Exception):
    """The conversation has no room for another turn."""


@dataclass(frozen=True, slots=True)
class Said:
    """One message of an agent; ``finished`` is False if it was cut off or stopped.

    What a model sampled comes with its token ids and their logprobs, in nats under the distribution
    at ``temperature`` (at 1 where it is 0, which samples nothing).
    """

    text: str
    finished: bool = True
    stopped: bool = False
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    temperature: float | None = None


class Voice(Protocol):
    """Speaks for the agent in one conversation."""

    def say(self, conversation: Conversation, hidden: Mapping[str, Any], on_text: OnText) -> Said:
        """Say the next message; ``on_text`` gets its pieces as they come."""
        ...


@dataclass
class ScriptedVoice:
    """A scripted agent; it may look at what is hidden."""

    agent: ScriptedAgent

    def say(self, conversation: Conversation, hidden: Mapping[str, Any], on_text: OnText) -> Said:
        """Say it in one piece."""
        text = self.agent.reply(conversation, hidden)
        on_text(text)
        return Said(text)


class ModelVoice:
    """A language model whose key-value cache lives as long as the conversation.

    ``_ids`` are all tokens of the conversation. The cache may lag behind them, by the last
    sampled token or by what an interruption cost; what it lacks is sent before the next turn.
    A second row of the cache is for another reply: it begins with a copy of the first.
    """

    def __init__(
        self,
        agent: ModelAgent,
        rollout: RolloutConfig,
        temperature: float,
        noise: np.random.Generator,
    ):
        """Make an empty conversation; ``rollout`` gives its budgets in tokens."""
        most = getattr(agent.speaker.model.config, "max_position_embeddings", None)
        self._room = min(rollout.max_tokens, most or rollout.max_tokens)
        self._turn = rollout.max_new_tokens
        self._rendering, self._noise = agent.rendering, noise
        self._temperature = temperature
        self._decoder = Decoder(agent.speaker, 2, self._room, agent.rendering.end_of_turn)
        self._row = 0  # of the conversation; the other is for another reply
        self._ids: list[int] = []
        self._known = 0  # messages of the conversation that are in _ids
        self._heard = 0  # tokens before the last reply
        self._finished = True

    def say(self, conversation: Conversation, hidden: Mapping[str, Any], on_text: OnText) -> Said:
        """Sample the next message; Ctrl-C ends it where it is.

        Raises:
            ContextFull: there is no room for another turn; the conversation is as it was.
        """
        new = conversation[self._known :]
        if self._ids:
            prompt = self._rendering.after(new, cut=not self._finished)
        else:
            prompt = self._rendering.opening(new)[-(self._room - self._turn) :]
        if len(self._ids) + len(prompt) + self._turn > self._room:
            raise ContextFull
        self._decoder.forget(1 - self._row)
        self._ids += prompt
        self._known, self._heard = len(conversation) + 1, len(self._ids)
        said = self._speak(self._row, self._noise, self._temperature, on_text)
        self._ids += said.ids
        self._finished = said.finished
        return said

    def another(self) -> Said:
        """Sample another reply at temperature 1 in the place of the last one, which stays for now.

        It does not touch the noise of what is said later. Ctrl-C ends it where it is.
        """
        assert self._heard
        self._decoder.forget(1 - self._row)
        return self._speak(1 - self._row, self._noise.spawn(1)[0], 1.0, lambda _: None)

    def take(self, other: Said) -> None:
        """Go on from what `another` has just said, as it was sampled."""
        self._row = 1 - self._row
        self._ids[self._heard :] = other.ids
        self._finished = other.finished

    def _speak(
        self, row: int, noise: np.random.Generator, temperature: float, on_text: OnText
    ) -> Said:
        """Say something after the tokens that come before the last reply."""
        ids: list[int] = []
        logprobs: list[float] = []
        stream, end = _Stream(self._rendering, on_text), self._rendering.end_of_turn

        def hear(_: int, token: int, logprob: float) -> None:
            ids.append(token)
            logprobs.append(logprob)
            stream.show(ids, last=token == end)

        stopped = False
        self._decoder.temperature = temperature
        try:
            lacking = self._ids[self._decoder.length(row) : self._heard]
            self._decoder.generate({row: lacking}, {row: noise.random}, self._turn, hear)
        except KeyboardInterrupt:
            stopped = True
        finished = ids[-1:] == [end]
        text = stream.show(ids, last=finished)
        return Said(
            text, finished, stopped and not finished, tuple(ids), tuple(logprobs), temperature
        )


class _Stream:
    """Shows the text of a growing list of tokens; a character only when it is whole."""

    def __init__(self, rendering: Rendering, on_text: OnText):
        self._rendering, self._on_text, self._shown = rendering, on_text, ""

    def show(self, ids: list[int], last: bool) -> str:
        """Pass on what is new; return the text so far.

        Args:
            ids: all tokens so far.
            last: nothing follows, so that bytes that are no character are shown as such.
        """
        text = self._rendering.text(ids)
        if not last:
            text = text.rstrip(_HALF)
        if not text.startswith(self._shown):
            return text  # a tokenizer that tidied up behind itself: wait until it fits again
        new, self._shown = text[len(self._shown) :], text
        if new:
            self._on_text(new)
        return text
