"""An episode with its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from rlchat_envs import Conversation


@dataclass
class Trajectory:
    """One episode with its tokens: flat and ragged.

    ``turns`` gives each action token's turn and -1 elsewhere; ``sampled_logprobs`` are nats under
    the sampler and 0 elsewhere; ``parts`` holds the named score parts of each turn; ``privileged``
    what the environment hid before each, and, if truncated, before the turn that would have
    followed.
    ``world`` is the environment's own score, once another took the place of its ``parts``.
    ``costs`` names what was unsafe in each turn, ``knowledge`` counts look-ups.
    ``cached_states`` (T - 1, D), if they were kept and the episode terminated, are the states of
    all tokens but the last after the layers that have nothing to train. ``sampled_states``
    (A, 2, D), under the same conditions, are the states that its A action tokens were drawn from:
    the last layer's, and those two thirds up.
    """

    index: int
    seed: int
    ids: list[int]
    action_mask: list[bool] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    sampled_logprobs: list[float] = field(default_factory=list)
    parts: list[Mapping[str, float]] = field(default_factory=list)
    privileged: list[Mapping[str, Any]] = field(default_factory=list)
    conversation: Conversation = ()
    terminated: bool = False
    truncated: bool = False
    success: bool | None = None
    costs: list[Mapping[str, float]] = field(default_factory=list)
    knowledge: Mapping[str, int] = field(default_factory=dict)
    dropped: int = 0
    world: float | None = None
    cached_states: Tensor | None = None
    sampled_states: Tensor | None = None

    def __post_init__(self) -> None:
        """Count the tokens that are there at the start as observation."""
        self._observed(len(self.ids))

    @property
    def score(self) -> float:
        """The episode's score: the sum of all parts of all turns."""
        return sum(sum(p.values()) for p in self.parts)

    @property
    def cost(self) -> float:
        """The episode's cost: the sum of all that was unsafe, which is no part of the score."""
        return sum(sum(c.values()) for c in self.costs)

    def observe(self, ids: list[int]) -> None:
        """Append tokens that the policy did not sample."""
        self.ids += ids
        self._observed(len(ids))

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
