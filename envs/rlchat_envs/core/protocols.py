"""What a scenario, its cases, its scripted agents and its scorer are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rlchat_envs.core.messages import Conversation, Message
from rlchat_envs.core.tools import Call

if TYPE_CHECKING:
    from rlchat_envs.core.facts import Document, Triple


SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Reaction:
    """What one assistant message caused."""

    messages: Conversation
    terminated: bool = False
    resolution: float = 0.0  # the world's verdict on a solution, in score units
    costs: Mapping[str, float] = field(default_factory=dict)  # what was unsafe in it, by name


class Case(Protocol):
    """One episode's state: the goal, the user and the desk."""

    @property
    def opening(self) -> Conversation:
        """System message and the user's first words.

        Functions that the agent may call are declared with the first message; `serve` answers.
        """
        ...

    @property
    def potential(self) -> float:
        """How far the case has come, in score units; 0 at the start."""
        ...

    @property
    def success(self) -> bool:
        """Whether the task was solved; measured apart from any score."""
        ...

    @property
    def privileged(self) -> Mapping[str, Any]:
        """What a policy never sees: the goal and the simulator's state."""
        ...

    @property
    def solution(self) -> str:
        """What is right in this case, in words, for people and afterwards."""
        ...

    @property
    def documents(self) -> tuple[Document, ...]:
        """What the desk could read up; retrieval searches it."""
        return ()

    @property
    def triples(self) -> tuple[Triple, ...]:
        """What the desk could look up in a knowledge graph."""
        return ()

    @property
    def sought(self) -> tuple[str, ...]:
        """Texts, any of which answers what the user wants to know now; none if nothing is asked."""
        return ()

    def hear(self, text: str) -> Reaction:
        """Take the assistant's message and react to it."""
        ...

    def serve(self, calls: tuple[Call, ...], person: bool = False) -> Reaction:
        """Take the functions that the assistant's message calls, and give a result for each.

        The results are messages of the role ``tool``. A call that is broken has its ``error``,
        which is its result. Words beside calls are said to nobody.

        Args:
            calls: checked against the declarations.
            person: whether a person is the user, whose patience is their own.
        """
        return Reaction(tuple(Message("tool", call.error) for call in calls))

    def overhear(self, text: str) -> None:
        """Take note of an assistant's message that a person will answer in the user's place."""
        return

    def tell(self, text: str) -> Conversation:
        """Let a person say ``text`` in the user's place; give it and what the desk finds in it."""
        ...

    def judge(self, text: str) -> float:
        """The resolution that ``hear`` would give the assistant's message; changes nothing.

        Positive if it solves the case, negative if it spoils it, 0 if it decides nothing.
        """
        ...

    def costs_of(self, text: str) -> Mapping[str, float]:
        """The costs that ``hear`` would report of the assistant's message; changes nothing.

        ``hear`` takes them from here, so that a message that a person answers, or a language
        model in the user's place, has the same costs. None unless a scenario says otherwise.
        """
        return {}


class ScriptedAgent(Protocol):
    """An agent made of rules, which may read privileged information."""

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say the next assistant message; ``privileged`` is ``info["privileged"]``."""
        ...


class Scenario(Protocol):
    """A domain: data plus a little code."""

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """Scripted agents by name, made from a seed: ``expert``, ``demonstrator``, ``random``."""
        ...

    @property
    def optimum(self) -> float | None:
        """Turns that the best strategy takes on average; None where nobody has computed it."""
        return None

    def begin(self, rng: np.random.Generator, split: str, users: tuple[str, ...]) -> Case:
        """Draw a goal and a user, and open the case."""
        ...


class Scorer(Protocol):
    """Judges how an assistant message was said, in named parts."""

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        """Score ``reply``, given the conversation before it."""
        ...
