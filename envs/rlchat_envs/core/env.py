"""The text world: a Gymnasium environment that is a user and a desk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np

from rlchat_envs.core.messages import Conversation, Message, as_text, declared
from rlchat_envs.core.protocols import SPLITS, Case, Reaction, Scenario, Scorer
from rlchat_envs.core.spaces import Utterance
from rlchat_envs.core.tools import Call, Spoken, read_message


@dataclass
class _Episode:
    case: Case
    conversation: list[Message] = field(default_factory=list)
    turn: int = 0
    over: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """What one assistant message led to."""

    messages: Conversation  # what is said to it, by the user and the desk
    parts: dict[str, float]  # of its score, by name
    costs: dict[str, float]  # what was unsafe in it, by name
    terminated: bool


class DialogueEnv(gym.Env[str, str]):
    """A conversation with a simulated user, one turn a step.

    ``reset`` gives the user's opening, ``step`` takes one assistant message and gives the user's
    reply. The score of a step is the sum of ``info["parts"]``: ``progress`` (potential-based:
    gamma * Phi(after) - Phi(before), Phi = 0 once the episode has terminated; Ng, Harada and
    Russell 1999), ``resolution`` (the world's verdict), and the parts of ``scorer`` if one is
    given. ``info["conversation"]`` is the conversation so far, ``info["success"]`` whether the
    task is solved, ``info["privileged"]`` what a policy must never see. What was unsafe in the
    message is no part of the score: ``info["costs"]`` names it, ``info["cost"]`` is its sum (Altman
    1999, "Constrained Markov Decision Processes", keeps cost and reward apart in the same way).

    Where the case declares functions, ``info["tools"]`` of ``reset`` lists them, and a message
    that calls some is answered with their results; the user does not speak in that step. A call
    is written as `rlchat_envs.core.tools` has it.
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
        info = self._info(self._episode, {}, {})
        if tools := declared(case.opening):
            info["tools"] = [tool.declaration for tool in tools]
        return as_text(spoken), info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play one turn; ``action`` is the assistant's message, any string at all."""
        turn, episode = self.answer(action), self._begun("step()")
        truncated = not turn.terminated and episode.turn >= self.max_turns
        episode.over = turn.terminated or truncated
        return (
            as_text(turn.messages),
            float(sum(turn.parts.values())),
            turn.terminated,
            truncated,
            self._info(episode, turn.parts, turn.costs),
        )

    def answer(self, action: str, said: str | None = None) -> Turn:
        """Play one turn as ``step`` does, with no limit of turns and for a person if there is one.

        Args:
            action: the assistant's message.
            said: what a person says in the user's place; None for the simulated user's own words.
                To functions that are called nobody says anything: any text will do.
        """
        episode = self._begun("step()")
        if episode.over:
            raise gym.error.ResetNeeded("step() came after the episode's end")
        before, case = tuple(episode.conversation), episode.case
        potential, calls = case.potential, self.calls(action)
        if calls:
            costs = case.costs_of(action)  # of what was known when they were made
            reaction = replace(case.serve(calls, person=said is not None), costs=costs)
        elif said is None:
            reaction = case.hear(action)
        else:
            costs = case.costs_of(action)  # of what was known when it was said
            case.overhear(action)
            reaction = Reaction(case.tell(said), costs=costs)
        after = 0.0 if reaction.terminated else case.potential
        parts = self._parts(before, action, self.gamma * after - potential, reaction.resolution)
        episode.conversation += [Message("assistant", action), *reaction.messages]
        episode.turn += 1
        episode.over = reaction.terminated
        return Turn(reaction.messages, parts, dict(reaction.costs), reaction.terminated)

    def calls(self, action: str) -> tuple[Call, ...]:
        """The functions that a message calls; none where the episode declares none."""
        return self._read(action).calls

    def _read(self, action: str) -> Spoken:
        tools = declared(self._begun("calls()").case.opening)
        return read_message(action, tools) if tools else Spoken(action)

    def tell(self, said: str) -> Conversation:
        """Let a person say what answers no message that counts.

        That is their first line, in the place of the simulated user's opening, and all that they
        say once the case is closed.

        Returns:
            The line, and what the desk finds in it.
        """
        episode = self._begun("tell()")
        if tuple(episode.conversation) == episode.case.opening:
            episode.conversation = [m for m in episode.conversation if m.role == "system"]
        messages = episode.case.tell(said)
        episode.conversation += messages
        return messages

    def preview(self, action: str) -> Turn:
        """What is known of a turn before somebody answers it, whose progress is 0 until then.

        It changes nothing, and nothing is decided in it; see `verdict`.
        """
        episode = self._begun("preview()")
        parts = self._parts(tuple(episode.conversation), action, 0.0, 0.0)
        return Turn((), parts, dict(episode.case.costs_of(action)), False)

    def verdict(self, action: str) -> Turn | None:
        """The turn that ends an episode with the assistant's message, and nobody's answer.

        Where a person is the user, nobody but the case says that they have what they want. It
        changes nothing.

        Returns:
            The turn, or None if the message decides nothing.
        """
        episode = self._begun("verdict()")
        if not (resolution := episode.case.judge(action)):
            return None
        progress = 0.0 - episode.case.potential  # the potential is 0 once an episode has terminated
        parts = self._parts(tuple(episode.conversation), action, progress, resolution)
        return Turn((), parts, dict(episode.case.costs_of(action)), True)

    def _parts(
        self, before: Conversation, action: str, progress: float, resolution: float
    ) -> dict[str, float]:
        """The named parts of a turn's score."""
        parts = {"progress": progress, "resolution": resolution}
        if self.scorer is not None:
            said = self._read(action)
            scores = self.scorer.score(before, said.words if said.calls else action)
            # Calls alone are said to nobody: there is no manner in them.
            parts |= dict.fromkeys(scores, 0.0) if said.calls and not said.words else scores
        return parts

    def _begun(self, call: str) -> _Episode:
        if self._episode is None:
            raise gym.error.ResetNeeded(f"{call} came before reset()")
        return self._episode

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
            "privileged": dict(episode.case.privileged),
        }
