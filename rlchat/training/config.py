"""Settings: one source for command-line flags, help texts and the record in a run folder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.errors import UserError
from rlchat.models.config import PROMPTED, AdapterConfig
from rlchat.rewards.config import RewardConfig
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_options import AgentEnvOptions, MixedEnvOptions
from rlchat.rollout.environment import EnvConfig
from rlchat.settings import SEEDS, expect


@dataclass(frozen=True)
class WarmStartConfig:
    """Supervised start from demonstrations, before PPO."""

    demonstrations: int = 2000
    """Number of demonstrations to imitate: conversations of the scenario's demonstrator, which is
    mediocre; 0 skips the warm start."""
    learning_rate: float = 1.4e-3
    """Learning rate of the warm start; it falls like a bell curve, to a hundredth at the end."""
    batch: int = 4
    """Number of conversations in one optimizer step of the warm start."""
    epochs: int = 2
    """Most passes over the conversations. One pass takes half the time and imitates less well."""
    max_tokens: int = 1024
    """Most tokens of one conversation; a longer one is cut there, and left out if the agent says
    nothing before, which is told."""
    tolerance: float = 0.01
    """Least share by which an epoch has to improve the validation loss; the warm start ends with
    the first that does not. With -1 it never ends early."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "demonstrations", self.demonstrations >= 0, "of at least 0")
        expect(self, "learning_rate", self.learning_rate > 0, "above 0")
        for name in ("batch", "epochs"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        expect(self, "max_tokens", self.max_tokens >= 2, "of at least 2")
        expect(self, "tolerance", self.tolerance < 1, "below 1")


@dataclass(frozen=True)
class RewardMonitorConfig:
    """Settings of the reward monitor, which measures PPO by what its reward does not pay for."""

    every: int = 4
    """Iterations from one measurement on held-out users to the next, with a learned reward or a
    judge's only; 0 never measures."""
    episodes: int = 64
    """Number of held-out conversations (dev split) in each measurement, sampled as in training."""
    model: Path | None = None
    """Folder of a second reward model, trained on other data, as another measure beside success;
    none if left out."""
    stop: bool = False
    """Stop training at an alarm, and leave the adapter of the best measurement as the result;
    such a run is not resumed."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "every", self.every >= 0, "of at least 0")
        expect(self, "episodes", self.episodes >= 8, "of at least 8")


@dataclass(frozen=True)
class TrainConfig(MixedEnvOptions):
    """Fetch a model, warm-start it, train it by PPO against simulated users, evaluate it."""

    policy: str = "smollm2-135m"
    """What is trained: a model of `rlchat models list`, a Hugging Face id, a folder, or a run."""
    run: Path = Path("runs/latest")
    """Run folder, where settings, metrics, transcripts and the trained adapter go."""
    iterations: int = 24
    """Number of iterations of PPO: each collects episodes and updates the policy."""
    episodes: int = 64
    """Number of episodes that each iteration collects."""
    seed: int = 0
    """Seed of episodes, sampling, initial weights and order."""
    resume: bool = False
    """Go on with what the run folder holds; finished parts are not done again."""
    evaluation: int = 100
    """Number of episodes of the evaluation before and after, on the dev split, in each environment;
    0 skips it."""
    track: str = ""
    """Experiment trackers, comma-separated: tensorboard, wandb, trackio, mlflow; their files go to
    RUN/tracking, and nothing leaves this machine unless their environment variables say so."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    watch: RewardMonitorConfig = field(default_factory=RewardMonitorConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        object.__setattr__(self, "run", Path(self.run))  # callers from Python give strings too
        expect(self, "episodes", self.episodes >= 1, "of at least 1")
        for name in ("iterations", "evaluation"):
            expect(self, name, getattr(self, name) >= 0, "of at least 0")
        expect(self, "seed", 0 <= self.seed < SEEDS, f"of at least 0 and below {SEEDS}")
        whole = self.ppo.layers == 1 or self.adapter.method not in PROMPTED
        expect(self.ppo, "layers", whole, "of 1, as virtual tokens come before all layers")
        if self.episodes < self.ppo.minibatches:
            raise UserError(
                f"expected at least as many episodes as minibatches ({self.ppo.minibatches}); got "
                f"{self.episodes}"
            )
        if self.episodes % self.ppo.group_size:
            raise UserError(
                f"expected episodes in whole groups of {self.ppo.group_size}; got {self.episodes}"
            )
        if self.ppo.kl_target and self.ppo.kl_horizon < self.episodes:
            raise UserError(
                f"expected kl_horizon of at least an iteration's episodes ({self.episodes}), or "
                f"beta could turn negative; got {self.ppo.kl_horizon}"
            )
        if not self.stated_style and any(n.startswith("stated") for n in self.reward.weighed):
            raise UserError("expected --stated-style with a weight for stated; got none")
        _ = self.mixture  # which refuses weights that are none

    @property
    def env_config(self) -> EnvConfig:
        """Settings of the environment, with the learner's discount per turn."""
        gamma = 1.0 if self.ppo.gamma_turn is None else self.ppo.gamma_turn
        return replace(super().env_config, gamma=gamma)


@dataclass(frozen=True)
class SFTConfig(MixedEnvOptions):
    """Warm-start a model on demonstrations, or on conversations from a file."""

    data: Path | None = None
    """Conversations to imitate instead of demonstrations in the environment: a file (JSON lines, a
    JSON array, CSV, parquet), or a data set of the hub as OWNER/NAME:SPLIT."""
    policy: str = "smollm2-135m"
    """What is trained: a model of `rlchat models list`, a Hugging Face id, a folder, or a run."""
    out: Path = Path("runs/warm-start")
    """Folder for the trained adapter, which must not exist yet."""
    seed: int = 0
    """Seed of demonstrations, initial weights and order."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        object.__setattr__(self, "out", Path(self.out))  # callers from Python give strings too
        expect(self, "seed", 0 <= self.seed < SEEDS, f"of at least 0 and below {SEEDS}")
        _ = self.mixture  # which refuses weights that are none


@dataclass(frozen=True)
class KtoConfig:
    """Settings of KTO: how an adapter learns from thumbs."""

    learning_rate: float = 3e-5
    """Learning rate of the adapter's weights in KTO."""
    epochs: float = 3.0
    """Number of passes over the thumbs."""
    batch: int = 8
    """Number of thumbs in one optimizer step, at least 2."""
    beta: float = 0.1
    """Weight of staying close to the adapter as it was: a smaller one lets it move farther."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "batch", self.batch >= 2, "of at least 2, as replies are paired in it")


@dataclass(frozen=True)
class FeedbackUpdateConfig(AgentEnvOptions):
    """Settings of learning from ratings, and what an update has to pass."""

    method: Literal["kto", "ppo"] = "kto"
    """How the run learns: kto from + and -; ppo from a reward model, which learned from pairs and
    edits."""
    person: str = ""
    """Name of the person whose thumbs count; if empty, everybody's count."""
    all_thumbs: bool = False
    """Learn from thumbs given to any agent in any environment; otherwise only from those given to
    this run, in any of its versions, in the environment in which updates are measured."""
    episodes: int = 200
    """Number of held-out conversations (dev split) by which an update is accepted or rolled
    back."""
    max_kl: float = 0.2
    """Largest KL divergence of an update from the version before, in nats per token."""
    reward: Path | None = None
    """Folder of a reward model (rlchat reward train), which the method ppo wants."""
    iterations: int = 4
    """Number of iterations of PPO, with the method ppo."""
    least: int = 10
    """Least number of thumbs to learn from, with the method kto."""
    flip: bool = False
    """Take every thumb for its opposite: a harmful update, to see that it is rolled back."""
    seed: int = 0
    """Seed of the order of thumbs and of held-out users."""
    kto: KtoConfig = field(default_factory=KtoConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name in ("episodes", "iterations", "least"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        expect(self, "max_kl", self.max_kl > 0, "above 0")
        expect(self, "seed", 0 <= self.seed < SEEDS, f"of at least 0 and below {SEEDS}")
        if (self.method == "ppo") != (self.reward is not None):
            raise UserError(
                "expected --reward with --method ppo, and only then; got "
                f"{self.method} and {self.reward}"
            )
