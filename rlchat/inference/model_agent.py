"""A language model as an agent."""

from __future__ import annotations

import copy
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
from rlchat.inference.engine import decoder_of
from rlchat.inference.streaming import TextStream, pass_on
from rlchat.models.adapters import POLICY
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.exact.row_limit import row_limit
from rlchat.models.generation_model import GenerationModel
from rlchat.models.policy import Policy
from rlchat.models.templates.context import Context
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

    The cache may lag behind the tokens of the conversation, by the last sampled one or by what an
    interruption cost; what it lacks is sent before the next turn. A second row of the cache is for
    another reply: it begins with a copy of the first.
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

        Raises:
            UserError: the template has no thoughts, or there is no room for them.
        """
        most = getattr(generation.model.config, "max_position_embeddings", None)
        most = min(most or settings.max_tokens, row_limit(generation.model) or settings.max_tokens)
        self._room = min(settings.max_tokens, most)
        self._template = template.thinking(settings.thinking)
        self._context = Context(self._template, settings.max_new_tokens)
        self._context.check_room(self._room)
        self._noise = noise
        self._temperature = settings.temperature
        self._decoder = decoder_of(generation, 2, self._room, template.stop_ids)
        self._row = 0  # of the conversation; the other is for another reply
        self._other = self._context  # with another reply, while one is compared
        self._tools: tuple[Tool, ...] = ()
        self._known = 0  # messages of the conversation that are in its context
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
        new, context = conversation[self._known :], copy.copy(self._context)
        known = 0
        if context.ids:
            known = context.hear(new, cut=not self._finished)
        else:
            self._tools = declared(new)
            context.open(new, self._room - context.longest_turn)
        self._template.cuts.warn()
        if len(context.ids) + context.longest_turn > self._room:
            raise ContextFull
        self._decoder.forget(1 - self._row)
        self._decoder.rewind(self._row, known)
        self._context, self._known = context, len(conversation) + 1
        reply = yield from self._sample(self._row, self._noise, self._temperature)
        self._finished = reply.finished
        return reply

    def another(self) -> Reply:
        """Sample another reply at temperature 1 in the place of the last one, which stays for now.

        It does not touch the noise of what is sampled later. Ctrl-C ends it where it is.
        """
        assert self._context.ids
        self._decoder.forget(1 - self._row)
        kept, self._context = self._context, self._context.another_turn()
        other = pass_on(self._sample(1 - self._row, self._noise.spawn(1)[0], 1.0), lambda _: None)
        self._context, self._other = kept, self._context
        return other

    def take(self, other: Reply) -> None:
        """Go on from what `another` has just given, as it was sampled."""
        self._row, self._context = 1 - self._row, self._other
        self._finished = other.finished

    def _sample(self, row: int, noise: np.random.Generator, temperature: float) -> ReplyStream:
        """Sample a turn after the tokens of the context."""
        context, logprobs, pieces = self._context, [0.0][:0], [""][:0]
        stream = TextStream(self._template, pieces.append, self._tools)
        ends = self._template.stop_ids

        def note(_: int, token: int, logprob: float) -> None:
            context.add([token])
            logprobs.append(logprob)

        stopped, whole = False, True
        self._decoder.temperature = temperature
        try:
            most: int | None = context.first_tokens
            while most is not None:
                lacking = context.ids[self._decoder.length(row) :]
                self._decoder.submit(row, lacking, noise.random, most)
                while self._decoder.busy:
                    self._decoder.step(note)
                    if turn := context.turn:
                        stream.show(context.said, last=turn[-1] in ends)
                    yield from _drained(pieces)
                written, most = context.goes_on() or ([], None)
                context.add(written)
                whole = whole and not written
        except KeyboardInterrupt:
            stopped = True
        except GeneratorExit:  # nobody takes the turn: it is no part of the conversation
            self._context = context.another_turn()
            raise
        finally:
            self._decoder.stop()
        turn = context.turn
        finished = bool(turn) and turn[-1] in ends
        text = stream.show(context.said, last=finished, over=True)
        with suppress(KeyboardInterrupt):  # it has ended by now
            yield from _drained(pieces)
        # What was written for the agent has no logprobs: then nothing is told of its tokens.
        sampled = (tuple(turn), tuple(logprobs)) if whole else ((), ())
        return Reply(text, finished, stopped and not finished, *sampled, temperature)


def _drained(pieces: list[str]) -> Iterator[str]:
    while pieces:
        yield pieces.pop(0)
