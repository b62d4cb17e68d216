"""How the policy is updated: settings of PPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlchat.algorithms import ppo
from rlchat.algorithms.advantages import EstimatorSettings
from rlchat.algorithms.critic import CriticConfig
from rlchat.settings import expect


@dataclass(frozen=True)
class PPOConfig:
    """How the policy is updated from an iteration's episodes."""

    learning_rate: float = 2.5e-4
    """Of the adapter."""
    layers: float = 1.0
    """Share of the model's layers, from the top, whose adapter PPO changes, if they have one."""
    epochs: int = 2
    """Passes over an iteration's episodes."""
    minibatches: int = 4
    """Optimizer steps a pass."""
    beta: float = 0.03
    """Price of a nat of KL to the reference, in units of scaled score."""
    kl_target: float = 0.0
    """Mean k1 per action token that beta is adapted to; 0 keeps beta fixed."""
    kl_horizon: int = 1000
    """Episodes over which beta adapts."""
    gamma_token: float = 1.0
    """Discount inside a turn; below 1 it pays for brevity by accident."""
    lambda_token: float = 1.0
    """GAE decay inside a turn."""
    gamma_turn: float | None = None
    """Discount across the user's reply; if none is given 1, or 0 where a reward model or a
    person's style pays and the world does not: comparisons of replies cannot be summed."""
    lambda_turn: float = 0.95
    """GAE decay across the user's reply."""
    estimator: Literal["gae", "rloo", "reinforce"] = "gae"
    """gae uses the critic; the others the reward to come, less what other episodes had to come at
    the same turn: rloo those that share a start, reinforce all."""
    group_size: int = 1
    """Episodes that share a goal and a user (rloo wants at least 2)."""
    clip_low: float = 0.2
    """Lower bound of the ratio is 1 - this."""
    clip_high: float = 0.28
    """Upper bound of the ratio is 1 + this."""
    dual_clip: float = 3.0
    """Bound of the loss where the advantage is negative; 0 is off."""
    gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    std_floor: float = 0.1
    """Advantages are divided by their std, but by no less than this."""
    score_floor: float = 0.1
    """Scores are divided by their running std, but by no less than this."""
    sampler_gap: float = 0.01
    """Mean nats between sampler and training forward above which importance weights correct it."""
    critic_warmup: int = 0
    """Iterations in which only the critic learns (detached only)."""
    token_budget: int = 1024
    """Most tokens in one forward; a longer conversation has one of its own."""

    def __post_init__(self) -> None:
        """Refuse settings out of range, in one sentence."""
        for name in ("learning_rate", "gradient_norm", "kl_horizon"):
            expect(self, name, getattr(self, name) > 0, "above 0")
        for name in ("epochs", "minibatches", "group_size", "token_budget"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        for name in ("beta", "kl_target", "dual_clip", "std_floor", "score_floor", "critic_warmup"):
            expect(self, name, getattr(self, name) >= 0, "of at least 0")
        for name in ("gamma_token", "lambda_token", "gamma_turn", "lambda_turn"):
            if getattr(self, name) is not None:
                expect(self, name, 0 <= getattr(self, name) <= 1, "in [0, 1]")
        expect(self, "layers", 0 < self.layers <= 1, "above 0 and at most 1")
        expect(self, "clip_low", 0 < self.clip_low < 1, "between 0 and 1")
        expect(self, "clip_high", self.clip_high > 0, "above 0")
        if self.estimator == "rloo":
            expect(self, "group_size", self.group_size >= 2, "of at least 2 for rloo")

    @property
    def clip(self) -> ppo.Clip:
        """The bounds of one update."""
        return ppo.Clip(self.clip_low, self.clip_high, self.dual_clip)

    def settings(self, critic: CriticConfig, compared: bool = False) -> EstimatorSettings:
        """What the estimator needs to know.

        Args:
            critic: its settings.
            compared: whether scores come from comparisons of replies alone. Those know a reply's
                worth in its context up to a constant, which a sum over turns would pay for.
        """
        gamma = (0.0 if compared else 1.0) if self.gamma_turn is None else self.gamma_turn
        return EstimatorSettings(
            self.estimator,
            ppo.Discounts(self.gamma_token, self.lambda_token, gamma, self.lambda_turn),
            critic.lambda_return,
            self.group_size,
            self.std_floor,
            self.score_floor,
            self.sampler_gap,
        )
