"""Settings of an update: PPO and its critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rlchat.settings import expect

if TYPE_CHECKING:  # torch comes with them, for which --help need not wait
    from rlchat.algorithms import ppo


@dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO: how the policy is updated from an iteration's episodes."""

    learning_rate: float = 2.5e-4
    """Learning rate of the adapter's weights in PPO."""
    layers: float = 1.0
    """Share of the model's layers whose adapter PPO changes, counted from the top; layers without
    an adapter stay as they are."""
    epochs: int = 2
    """Number of passes of PPO over an iteration's episodes."""
    minibatches: int = 4
    """Number of optimizer steps in one pass, each on a part of the episodes."""
    beta: float = 0.03
    """Penalty for each nat of KL divergence from the reference policy, in units of scaled score."""
    kl_target: float = 0.0
    """KL divergence (mean k1 per sampled token, in nats) that beta is adapted to; 0 keeps beta
    fixed."""
    kl_horizon: int = 1000
    """Number of episodes over which beta adapts to the target of the KL divergence."""
    gamma_token: float = 1.0
    """Discount from one token to the next inside a turn; below 1, short replies are rewarded by
    accident."""
    lambda_token: float = 1.0
    """Decay lambda of GAE from one token to the next inside a turn."""
    gamma_turn: float | None = None
    """Discount from one turn to the next. Left out (None), it is 1, or 0 where a reward model or a
    person's style alone is the reward: comparisons of replies cannot be summed over turns."""
    lambda_turn: float = 0.95
    """Decay lambda of GAE from one turn to the next."""
    estimator: Literal["gae", "rloo", "reinforce"] = "gae"
    """Estimator of advantages: gae uses the critic; the others subtract from the reward to come
    what other episodes had to come at the same turn: rloo those that share a start, reinforce
    all."""
    group_size: int = 1
    """Number of episodes that share a goal and a user; the estimator rloo wants at least 2."""
    clip_low: float = 0.2
    """Lower clip of PPO's ratio: the ratio is bounded by 1 minus this from below."""
    clip_high: float = 0.28
    """Upper clip of PPO's ratio: the ratio is bounded by 1 plus this from above."""
    dual_clip: float = 3.0
    """Bound of PPO's ratio where the advantage is negative (dual clip); 0 switches it off."""
    gradient_norm: float = 1.0
    """Largest norm of the gradient; a longer one is scaled down to it."""
    std_floor: float = 0.1
    """Least divisor of advantages, which are divided by their standard deviation."""
    score_floor: float = 0.1
    """Least divisor of scores, which are divided by their running standard deviation."""
    sampler_gap: float = 0.01
    """Mean difference, in nats, between logprobs of the sampler and of the training forward above
    which importance weights correct for it."""
    critic_warmup: int = 0
    """Number of first iterations in which the critic alone learns (with detached states only)."""
    token_budget: int = 1024
    """Most tokens in one forward pass; a longer conversation has a pass of its own."""

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
        from rlchat.algorithms import ppo

        return ppo.Clip(self.clip_low, self.clip_high, self.dual_clip)


@dataclass(frozen=True)
class CriticConfig:
    """Settings of the critic: what it reads and how it is fitted."""

    states: Literal["detached", "shared"] = "detached"
    """Whether the value loss changes the adapter: detached leaves the policy's weights alone,
    shared sends the gradient into them."""
    privileged: bool = True
    """Let the critic read what the simulator hides from the agent, too; the critic is not part of
    the trained agent."""
    learning_rate: float = 5e-4
    """Learning rate of the critic."""
    epochs: int = 10
    """Number of full-batch steps of the critic in an iteration, on states that are computed once
    (with detached states only)."""
    width: int = 256
    """Width of the critic's one hidden layer."""
    loss_weight: float = 0.1
    """Weight of the value loss beside the policy's loss (with shared states only)."""
    value_clip: float = 0.0
    """Largest change of a value in one update that lowers the value loss (value clip); 0 switches
    it off."""
    lambda_return: float = 1.0
    """Decay lambda of the critic's targets from one turn to the next; 1 makes them plain
    returns."""

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        expect(self, "learning_rate", self.learning_rate > 0, "above 0")
        for name in ("epochs", "width"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        for name in ("loss_weight", "value_clip"):
            expect(self, name, getattr(self, name) >= 0, "of at least 0")
        expect(self, "lambda_return", 0 <= self.lambda_return <= 1, "in [0, 1]")
