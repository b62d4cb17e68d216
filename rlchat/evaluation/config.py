"""Settings of an evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from rlchat.rollout.config import RolloutConfig
from rlchat.settings import expect


@dataclass(frozen=True)
class EvalConfig:
    """Which users an agent is measured on, and how it samples."""

    split: Literal["train", "dev", "test"] = "dev"
    """Split of goals, phrasings and personas: tune on dev; use test only for what you publish."""
    episodes: int = 100
    """Number of simulated users that the agent talks to, one episode with each."""
    seed: int = 0
    """Seed of users and goals, which are the same for every agent with the same seed."""
    temperature: float = 0.0
    """Sampling temperature of a language model: 0 is greedy; 1 is how agents are trained."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    trials: int = 1
    """Number of episodes with each user and goal, which differ in what is sampled; with several,
    pass^k tells how often k of them all succeed. A language model needs --temperature above 0 to
    reply differently."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "episodes", self.episodes >= 1, "of at least 1")
        expect(self, "trials", self.trials >= 1, "of at least 1")
        expect(self, "temperature", 0 <= self.temperature < math.inf, "of at least 0")
