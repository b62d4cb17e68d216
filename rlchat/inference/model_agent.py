"""A language model as an agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlchat.inference.agents import (
    Batched,
    ContextFull,
    ConversationSettings,
    OnText,
    Reply,
    ReplyStream,
    Resampler,
)
from rlchat.inference.decoder import Decoder
from rlchat.inference.streaming import TextStream, pass_on
from rlchat.models.adapters import POLICY
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.exact.row_limit import row_limit
from rlchat.models.generation_model import GenerationModel
from rlchat.models.policy import Policy
from rlchat_envs import Conversation, Tool, declared


@dataclass(frozen=True)
class ModelAgent:
    """A language model that replies with what it samples."""

    generation: GenerationModel
    template: ChatTemplate
    name: str = "model"
    version: str = ""

    @classmethod
    def of(
        cls, policy: Policy, adapter: str | None = POLICY, name: str = "model", version: str = ""
    ) -> ModelAgent:
        """The agent that replies with one adapter of a policy, or with its base (None)."""
        return cls(policy.generation_model(adapter), policy.template, name, version)

    @property
    def batched(self) -> Batched:
        """The model and its chat template, for batched engines."""
        return Batched(self.generation, self.template)

    def start(self, seed: int, settings: ConversationSettings) -> ModelConversation:
        """Start a conversation whose key-value cache lives as long as it."""
        noise = settings.noise or np.random.default_rng(seed)
        return ModelConversation(self.generation, self.template, settings, noise)


class ModelConversation:
    """A language model whose key-value cache lives as long as the conversation.

    ``_ids`` are all tokens of the conversation. The cache may lag behind them, by the last
    sampled token or by what an interruption cost; what it lacks is sent before the next turn.
    A second row of the cache is for another reply: it begins with a copy of the first.
    """

    def __init__(
        self,
        generation: GenerationModel,
        template: ChatTemplate,
        settings: ConversationSettings,
        noise: np.random.Generator,
    ):
        """Make an empty conversation.

        Args:
            generation: the model.
            template: the chat template of its tokenizer.
            settings: budgets and temperature.
            noise: what sampling draws from.
        """
        most = getattr(generation.model.config, "max_position_embeddings", None)
        most = min(most or settings.max_tokens, row_limit(generation.model) or settings.max_tokens)
        self._room = min(settings.max_tokens, most)
        self._turn = settings.max_new_tokens
        self._template, self._noise = template, noise
        self._temperature = settings.temperature
        self._decoder = Decoder(generation, 2, self._room, template.stop_ids)
        self._row = 0  # of the conversation; the other is for another reply
        self._ids: list[int] = []
        self._tools: tuple[Tool, ...] = ()
        self._known = 0  # messages of the conversation that are in _ids
        self._prefilled = 0  # tokens before the last reply
        self._finished = True

    @property
    def resampler(self) -> Resampler:
        """This conversation itself: a model can sample another reply."""
        return self

    def reply(
        self, conversation: Conversation, privileged: Mapping[str, Any], on_text: OnText
    ) -> Reply:
        """Sample the next message; Ctrl-C ends it where it is.

        Raises:
            ContextFull: there is no room for another turn; the conversation is as it was.
        """
        return pass_on(self.stream(conversation, privileged), on_text)

    def stream(self, conversation: Conversation, privileged: Mapping[str, Any]) -> ReplyStream:
        """Sample the next message, and give its text as it grows; see `reply`."""
        new = conversation[self._known :]
        if self._ids:
            said = conversation[self._known - 1].content if self._tools else ""
            prompt = self._template.after(new, cut=not self._finished, said=said)
        else:
            self._tools = declared(new)
            prompt = self._template.opening(new)[-(self._room - self._turn) :]
        self._template.cuts.warn()
        if len(self._ids) + len(prompt) + self._turn > self._room:
            raise ContextFull
        self._decoder.forget(1 - self._row)
        self._ids += prompt
        self._known, self._prefilled = len(conversation) + 1, len(self._ids)
        reply = yield from self._sample(self._row, self._noise, self._temperature)
        self._ids += reply.ids
        self._finished = reply.finished
        return reply

    def another(self) -> Reply:
        """Sample another reply at temperature 1 in the place of the last one, which stays for now.

        It does not touch the noise of what is sampled later. Ctrl-C ends it where it is.
        """
        assert self._prefilled
        self._decoder.forget(1 - self._row)
        other = self._sample(1 - self._row, self._noise.spawn(1)[0], 1.0)
        return pass_on(other, lambda _: None)

    def take(self, other: Reply) -> None:
        """Go on from what `another` has just given, as it was sampled."""
        self._row = 1 - self._row
        self._ids[self._prefilled :] = other.ids
        self._finished = other.finished

    def _sample(self, row: int, noise: np.random.Generator, temperature: float) -> ReplyStream:
        """Sample a reply after the tokens that come before the last one."""
        ids: list[int] = []
        logprobs: list[float] = []
        pieces: list[str] = []
        stream, ends = (
            TextStream(self._template, pieces.append, self._tools),
            self._template.stop_ids,
        )

        def note(_: int, token: int, logprob: float) -> None:
            ids.append(token)
            logprobs.append(logprob)

        stopped = False
        self._decoder.temperature = temperature
        try:
            lacking = self._ids[self._decoder.length(row) : self._prefilled]
            self._decoder.submit(row, lacking, noise.random, self._turn)
            while self._decoder.busy:
                self._decoder.step(note)
                if ids:
                    stream.show(ids, last=ids[-1] in ends)
                yield from _drained(pieces)
        except KeyboardInterrupt:
            stopped = True
        finally:
            self._decoder.stop()
        finished = bool(ids) and ids[-1] in ends
        text = stream.show(ids, last=finished, over=True)
        with suppress(KeyboardInterrupt):  # it has ended by now
            yield from _drained(pieces)
        return Reply(
            text, finished, stopped and not finished, tuple(ids), tuple(logprobs), temperature
        )


def _drained(pieces: list[str]) -> Iterator[str]:
    while pieces:
        yield pieces.pop(0)
