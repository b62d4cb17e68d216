"""A language model as an agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlchat.inference.agents import (
    Batched,
    ContextFull,
    ConversationSettings,
    OnText,
    Reply,
    Resampler,
)
from rlchat.inference.decoder import Decoder
from rlchat.inference.streaming import TextStream
from rlchat.models.adapters import POLICY
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.generation_model import GenerationModel
from rlchat.models.policy import Policy
from rlchat_envs import Conversation


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
        """The model and its tokens."""
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
            template: its tokens.
            settings: budgets and temperature.
            noise: what sampling draws from.
        """
        most = getattr(generation.model.config, "max_position_embeddings", None)
        self._room = min(settings.max_tokens, most or settings.max_tokens)
        self._turn = settings.max_new_tokens
        self._template, self._noise = template, noise
        self._temperature = settings.temperature
        self._decoder = Decoder(generation, 2, self._room, template.end_of_turn)
        self._row = 0  # of the conversation; the other is for another reply
        self._ids: list[int] = []
        self._known = 0  # messages of the conversation that are in _ids
        self._heard = 0  # tokens before the last reply
        self._finished = True

    @property
    def resampler(self) -> Resampler:
        """This conversation: a model can say something else."""
        return self

    def reply(
        self, conversation: Conversation, privileged: Mapping[str, Any], on_text: OnText
    ) -> Reply:
        """Sample the next message; Ctrl-C ends it where it is.

        Raises:
            ContextFull: there is no room for another turn; the conversation is as it was.
        """
        new = conversation[self._known :]
        if self._ids:
            prompt = self._template.after(new, cut=not self._finished)
        else:
            prompt = self._template.opening(new)[-(self._room - self._turn) :]
        if len(self._ids) + len(prompt) + self._turn > self._room:
            raise ContextFull
        self._decoder.forget(1 - self._row)
        self._ids += prompt
        self._known, self._heard = len(conversation) + 1, len(self._ids)
        said = self._speak(self._row, self._noise, self._temperature, on_text)
        self._ids += said.ids
        self._finished = said.finished
        return said

    def another(self) -> Reply:
        """Sample another reply at temperature 1 in the place of the last one, which stays for now.

        It does not touch the noise of what is said later. Ctrl-C ends it where it is.
        """
        assert self._heard
        self._decoder.forget(1 - self._row)
        return self._speak(1 - self._row, self._noise.spawn(1)[0], 1.0, lambda _: None)

    def take(self, other: Reply) -> None:
        """Go on from what `another` has just said, as it was sampled."""
        self._row = 1 - self._row
        self._ids[self._heard :] = other.ids
        self._finished = other.finished

    def _speak(
        self, row: int, noise: np.random.Generator, temperature: float, on_text: OnText
    ) -> Reply:
        """Say something after the tokens that come before the last reply."""
        ids: list[int] = []
        logprobs: list[float] = []
        stream, end = TextStream(self._template, on_text), self._template.end_of_turn

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
        return Reply(
            text, finished, stopped and not finished, tuple(ids), tuple(logprobs), temperature
        )
