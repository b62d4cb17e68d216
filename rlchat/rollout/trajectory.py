"""Episodes in text, and trajectories: episodes with their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rlchat_envs import Conversation

if TYPE_CHECKING:  # an episode needs no torch
    from torch import Tensor


class Ending(StrEnum):
    """How an episode ended.

    There is none for an environment that raised: the error leaves `collect` and `play_episode`, and
    the episode is no result.
    """

    GOAL = "goal"  # terminated, and the environment calls it a success
    GAVE_UP = "gave_up"  # terminated without: the user left, or the verdict was against the agent
    TURN_LIMIT = "turn_limit"  # truncated by the environment
    TOKEN_LIMIT = "token_limit"  # the next turn might not have fitted into the episode's budget
    CONTEXT_FULL = "context_full"  # the agent had no room for another turn


@dataclass
class Episode:
    """One episode in text: what was said, what each turn was worth, and how it ended.

    Attributes:
        index: the episode's number among those played together.
        seed: of the environment; it decides goal and user.
        conversation: all messages.
        parts: the named score parts of each turn.
        costs: what was unsafe in each turn, by name; no part of the score.
        knowledge: look-ups, hits among them.
        success: whether the goal was reached; None where the environment tells no success.
        terminated: whether the environment ended it.
        truncated: whether a limit cut it short.
        dropped: characters that the environment's action space does not have.
        stopped_by: which limit, if it was not the environment's own.
        env_score: the environment's own score, once another took the place of its ``parts``.
        env: the environment's Gymnasium id where a run has several; empty where it has one.
        answers: of judges who were asked about it, by judge and question; None is unreadable.
    """

    index: int
    seed: int
    _: KW_ONLY
    conversation: Conversation = ()
    parts: list[Mapping[str, float]] = field(default_factory=list)
    costs: list[Mapping[str, float]] = field(default_factory=list)
    knowledge: Mapping[str, int] = field(default_factory=dict)
    success: bool | None = None
    terminated: bool = False
    truncated: bool = False
    dropped: int = 0
    stopped_by: Ending | None = None
    env_score: float | None = None
    env: str = ""
    answers: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The episode's score: the sum of all parts of all turns."""
        return sum(sum(p.values()) for p in self.parts)

    @property
    def cost(self) -> float:
        """The episode's cost: the sum of all that was unsafe, which is no part of the score."""
        return sum(sum(c.values()) for c in self.costs)

    @property
    def ending(self) -> Ending | None:
        """How it ended; None while it goes on, and where the environment tells no success."""
        if self.stopped_by is not None:
            return self.stopped_by
        if self.truncated:
            return Ending.TURN_LIMIT
        if not self.terminated or self.success is None:
            return None
        return Ending.GOAL if self.success else Ending.GAVE_UP


@dataclass
class Trajectory(Episode):
    """One episode with its tokens: flat and ragged.

    Where the agent thinks, and its chat template leaves thoughts out of later turns, what the agent
    read changes: then the tokens are several contexts, one behind the other, each of which is read
    from its own beginning. ``begins`` says where; a token is a context's that begins before it.
    ``turns`` gives each action token's turn and -1 elsewhere; ``sampled_logprobs`` are nats under
    the sampler and 0 elsewhere; ``privileged`` is what the environment hid before each turn,
    and, if truncated, before the turn that would have followed; ``thoughts`` are those of its
    turns, if it thinks.
    ``cached_states`` (T - 1, D), if they were kept and the episode terminated, are the states of
    all tokens but the last after the layers that have nothing to train. ``sampled_states``
    (A, 2, D), under the same conditions, are the states that its A action tokens were drawn from:
    the last layer's, and those two thirds up.
    """

    ids: list[int]
    action_mask: list[bool] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    sampled_logprobs: list[float] = field(default_factory=list)
    privileged: list[Mapping[str, Any]] = field(default_factory=list)
    begins: list[int] = field(default_factory=lambda: [0])
    thoughts: list[str] = field(default_factory=list)
    cached_states: Tensor | None = None
    sampled_states: Tensor | None = None

    def __post_init__(self) -> None:
        """Count the tokens that are there at the start as observation."""
        self._observed(len(self.ids))

    def observe(self, ids: list[int]) -> None:
        """Append tokens that the policy did not sample."""
        self.ids += ids
        self._observed(len(ids))

    def begin(self, ids: list[int]) -> None:
        """Begin another context with tokens that the policy did not sample, or did before."""
        self.begins.append(len(self.ids))
        self.observe(ids)

    def act(self, ids: list[int], logprobs: list[float]) -> None:
        """Append a turn's sampled tokens."""
        self.ids += ids
        self.action_mask += [True] * len(ids)
        self.turns += [len(self.parts)] * len(ids)
        self.sampled_logprobs += logprobs

    def _observed(self, count: int) -> None:
        self.action_mask += [False] * count
        self.turns += [-1] * count
        self.sampled_logprobs += [0.0] * count
