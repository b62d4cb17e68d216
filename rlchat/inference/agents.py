"""The protocol of agents: they start conversations, and reply in them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rlchat_envs import Conversation, Scenario

if TYPE_CHECKING:  # which bring torch; scripts and servers need none
    from rlchat.models.chat_template import ChatTemplate
    from rlchat.models.generation_model import GenerationModel

OnText = Callable[[str], None]


class ContextFull(Exception):
    """The conversation has no room for another turn."""


@dataclass(frozen=True, slots=True)
class Reply:
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


ReplyStream = Generator[str, None, Reply]
"""Pieces of a message as they come, and at last the reply.

A KeyboardInterrupt in it, raised or thrown, ends the message where it is; the reply follows all the
same. Only what is interrupted or run to its end is part of the conversation.
"""


@dataclass(frozen=True)
class ConversationSettings:
    """Settings that an agent needs before a conversation starts.

    Attributes:
        scenario: of the environment, for scripted agents; None where there is none.
        env: the environment's name, for error messages.
        temperature: 0 is greedy.
        max_tokens: budget of the conversation.
        max_new_tokens: budget of one reply.
        thinking: whether a language model thinks first; see `RolloutConfig.thinking`.
        noise: what sampling draws from; made from the seed if left out.
    """

    scenario: Scenario | None = None
    env: str = ""
    temperature: float = 0.0
    max_tokens: int = 768
    max_new_tokens: int = 48
    thinking: str = ""
    noise: np.random.Generator | None = None


class AgentConversation(Protocol):
    """An agent's side of one conversation."""

    def reply(
        self, conversation: Conversation, privileged: Mapping[str, Any], on_text: OnText
    ) -> Reply:
        """Give the next message.

        Args:
            conversation: all messages so far; it only grows from call to call.
            privileged: what the environment hides from models; scripted agents may look.
            on_text: called with pieces of the message as they come.

        Raises:
            ContextFull: there is no room for another turn; the conversation is as it was.
        """
        ...

    def stream(self, conversation: Conversation, privileged: Mapping[str, Any]) -> ReplyStream:
        """Give the next message as `reply` does, as an iterator of its pieces."""
        ...

    @property
    def resampler(self) -> Resampler | None:
        """The means to sample another reply in the place of the last one, if there is one."""
        ...


class Resampler(Protocol):
    """A second sample of the last reply, which may take its place."""

    def another(self) -> Reply:
        """Sample another reply at temperature 1 in the place of the last one, which stays."""
        ...

    def take(self, other: Reply) -> None:
        """Go on from what `another` has just given."""
        ...


@dataclass(frozen=True)
class Batched:
    """A local language model and its chat template, from which batched engines sample."""

    generation: GenerationModel
    template: ChatTemplate


class Agent(Protocol):
    """A participant that replies in conversations: a model, a script, an endpoint, any object."""

    @property
    def name(self) -> str:
        """The agent's name on the command line."""
        ...

    @property
    def version(self) -> str:
        """A hash of weights, or else the name: it tells agents of one name apart."""
        ...

    @property
    def batched(self) -> Batched | None:
        """The model for many conversations at once; None for agents that reply one at a time."""
        ...

    def start(self, seed: int, settings: ConversationSettings) -> AgentConversation:
        """Start a conversation with this agent.

        Args:
            seed: decides everything that is random in it.
            settings: budgets, temperature, and the scenario.

        Raises:
            UserError: the agent cannot take part in such a conversation.
        """
        ...
