"""Agents that are programs: a scenario's own, and any object that can reply."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from rlchat.errors import NotThere
from rlchat.inference.agents import ConversationSettings, OnText, Reply, ReplyStream
from rlchat.inference.streaming import pass_on
from rlchat_envs import Conversation
from rlchat_envs.baselines.retrieval import RetrievalAgent

SCRIPTED = ("expert", "demonstrator", "random", "retrieval", "knowledge-graph")


class Replies(Protocol):
    """Anything that can reply: an object of a user's own, or a scenario's agent."""

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any], /) -> str | Reply:
        """Give the next message."""
        ...


@dataclass
class ScriptedConversation:
    """A program's side of one conversation; its replies come in one piece."""

    program: Replies

    @property
    def resampler(self) -> None:
        """None: a program has one reply."""

    def reply(
        self, conversation: Conversation, privileged: Mapping[str, Any], on_text: OnText
    ) -> Reply:
        """Give the next message."""
        return pass_on(self.stream(conversation, privileged), on_text)

    def stream(self, conversation: Conversation, privileged: Mapping[str, Any]) -> ReplyStream:
        """Give the next message in one piece."""
        given = self.program.reply(conversation, privileged)
        reply = given if isinstance(given, Reply) else Reply(given)
        with suppress(KeyboardInterrupt):  # the whole message is there already
            yield reply.text
        return reply


@dataclass(frozen=True)
class ScenarioAgent:
    """A scripted agent by its name; each scenario has its own of that name."""

    name: str

    @property
    def version(self) -> str:
        """The agent's name: a script changes with the package only."""
        return self.name

    @property
    def batched(self) -> None:
        """None: a script replies one conversation at a time."""

    def start(self, seed: int, settings: ConversationSettings) -> ScriptedConversation:
        """Start a conversation in the scenario.

        Raises:
            NotThere: the scenario has none of that name, or there is no scenario.
        """
        scenario, seed = settings.scenario, seed % 2**31
        agents = {} if scenario is None else scenario.agents
        if scenario is not None and self.name == "retrieval" and "demonstrator" in agents:
            return ScriptedConversation(RetrievalAgent(scenario, seed))
        if self.name not in agents:
            raise NotThere(
                f"expected an environment with an agent called {self.name}; "
                f"{settings.env or 'talk without one'} has none; name a model or a run folder, or "
                "an environment of rlchat envs"
            )
        return ScriptedConversation(agents[self.name](seed))


@dataclass(frozen=True)
class ObjectAgent:
    """An object of a user's own as an agent; it replies in every conversation itself."""

    program: Replies
    name: str = "own"

    @property
    def version(self) -> str:
        """The object's class: nothing else is known of it."""
        return type(self.program).__qualname__

    @property
    def batched(self) -> None:
        """None: an object replies one conversation at a time."""

    def start(self, seed: int, settings: ConversationSettings) -> ScriptedConversation:
        """Start a conversation with this agent."""
        return ScriptedConversation(self.program)
