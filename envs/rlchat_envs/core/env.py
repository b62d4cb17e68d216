"""The text world: a Gymnasium environment that is a user and a desk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
import numpy as np

from rlchat_envs.core.messages import Conversation, Message, as_text
from rlchat_envs.core.spaces import Utterance

if TYPE_CHECKING:
    from rlchat_envs.knowledge import Document, Triple

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Reaction:
    """What one assistant message caused."""

    messages: Conversation
    terminated: bool = False
    resolution: float = 0.0  # the world's verdict on a solution, in score units
    costs: Mapping[str, float] = field(default_factory=dict)  # what was unsafe in it, by name


class Case(Protocol):
    """One episode's state: the hidden goal, the user and the desk."""

    @property
    def opening(self) -> Conversation:
        """System message and the user's first words."""
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
    def hidden(self) -> Mapping[str, Any]:
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


class ScriptedAgent(Protocol):
    """An agent made of rules, which may look at what is hidden."""

    def reply(self, conversation: Conversation, hidden: Mapping[str, Any]) -> str:
        """Say the next assistant message; ``hidden`` is ``info["hidden"]``."""
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


@dataclass
class _Episode:
    case: Case
    conversation: list[Message] = field(default_factory=list)
    turn: int = 0
    over: bool = False


class DialogueEnv(gym.Env[str, str]):
    """A conversation with a simulated user, one turn a step.

    ``reset`` gives the user's opening, ``step`` takes one assistant message and gives the user's
    reply. The score of a step is the sum of ``info["parts"]``: ``progress`` (potential-based:
    gamma * Phi(after) - Phi(before), Phi = 0 once the episode has terminated; Ng, Harada and
    Russell 1999), ``resolution`` (the world's verdict), and the parts of ``scorer`` if one is
    given. ``info["conversation"]`` is the conversation so far, ``info["success"]`` whether the
    task is solved, ``info["hidden"]`` what a policy must never see. What was unsafe in the message
    is no part of the score: ``info["costs"]`` names it, ``info["cost"]`` is its sum (Altman 1999,
    "Constrained Markov Decision Processes", keeps cost and reward apart in the same way).
    """

    def __init__(
        self,
        scenario: Scenario,
        split: str = "train",
        users: tuple[str, ...] = (),
        scorer: Scorer | None = None,
        max_turns: int = 24,
        gamma: float = 1.0,
    ):
        """Make the environment.

        Args:
            scenario: the domain.
            split: ``train``, ``dev`` or ``test``: disjoint goals, phrasings and personas.
            users: families of users to draw from; the usual ones if empty.
            scorer: judges how things were said; nobody does if None.
            max_turns: truncation; beyond every user's patience, or stalling would be free.
            gamma: the per-turn discount that progress is shaped with.
        """
        if split not in SPLITS:
            raise ValueError(f"expected a split out of {', '.join(SPLITS)}; got {split!r}")
        if max_turns < 1:
            raise ValueError(f"expected max_turns of at least 1; got {max_turns}")
        self.scenario, self.split, self.users = scenario, split, tuple(users)
        self.scorer, self.max_turns, self.gamma = scorer, max_turns, gamma
        self.observation_space = Utterance()
        self.action_space = Utterance()
        self._episode: _Episode | None = None
        scenario.begin(np.random.default_rng(0), split, self.users)  # refuses unknown users now

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode; the seed alone decides goal, user and all the user's choices."""
        super().reset(seed=seed)
        case = self.scenario.begin(self.np_random, self.split, self.users)
        self._episode = _Episode(case, list(case.opening))
        spoken = tuple(m for m in case.opening if m.role != "system")
        return as_text(spoken), self._info(self._episode, {}, {})

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play one turn; ``action`` is the assistant's message, any string at all."""
        episode = self._episode
        if episode is None or episode.over:
            raise gym.error.ResetNeeded("step() came before reset(), or after the episode's end")
        before, case = tuple(episode.conversation), episode.case
        potential = case.potential
        reaction = case.hear(action)
        after = 0.0 if reaction.terminated else case.potential
        parts = {
            "progress": self.gamma * after - potential,
            "resolution": reaction.resolution,
        }
        if self.scorer is not None:
            parts |= self.scorer.score(before, action)
        episode.conversation += [Message("assistant", action), *reaction.messages]
        episode.turn += 1
        truncated = not reaction.terminated and episode.turn >= self.max_turns
        episode.over = reaction.terminated or truncated
        return (
            as_text(reaction.messages),
            float(sum(parts.values())),
            reaction.terminated,
            truncated,
            self._info(episode, parts, dict(reaction.costs)),
        )

    @property
    def case(self) -> Case:
        """The episode's state, for whoever puts a person in the user's place."""
        if self._episode is None:
            raise gym.error.ResetNeeded("case was read before reset()")
        return self._episode.case

    @staticmethod
    def _info(
        episode: _Episode, parts: dict[str, float], costs: dict[str, float]
    ) -> dict[str, Any]:
        return {
            "conversation": tuple(episode.conversation),
            "parts": parts,
            "costs": costs,
            "cost": float(sum(costs.values())),
            "success": episode.case.success,
            "turn": episode.turn,
            "hidden": dict(episode.case.hidden),
        }
