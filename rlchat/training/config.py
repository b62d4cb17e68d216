"""Settings: one source for command-line flags, help texts and the record in a run folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rlchat.algorithms.config import PPOConfig
from rlchat.algorithms.critic import CriticConfig
from rlchat.errors import UserError
from rlchat.models.adapters import PROMPTED, AdapterConfig
from rlchat.rewards.composite import RewardConfig
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig
from rlchat.settings import SEEDS, expect, names
from rlchat.training.reward_monitor import RewardMonitorConfig


@dataclass(frozen=True)
class WarmStartConfig:
    """Supervised start from demonstrations, before PPO."""

    demonstrations: int = 2000
    """Conversations of the scenario's mediocre desk; 0 skips the warm start."""
    learning_rate: float = 1.4e-3
    """Learning rate at first; it falls like a bell curve, to a hundredth at the end."""
    batch: int = 4
    """Conversations an optimizer step."""
    epochs: int = 2
    """Most passes over the conversations. One pass takes half the time and imitates less well."""
    tolerance: float = 0.01
    """It ends with the first epoch that improves the validation loss by less than this share; with
    -1 after all of them."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "demonstrations", self.demonstrations >= 0, "of at least 0")
        expect(self, "learning_rate", self.learning_rate > 0, "above 0")
        for name in ("batch", "epochs"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        expect(self, "tolerance", self.tolerance < 1, "below 1")


@dataclass(frozen=True)
class TrainConfig:
    """Fetch a model, warm-start it, train it by PPO against simulated users, evaluate it."""

    env: str = "rlchat/Support-v0"
    """Environment: a Gymnasium id, or module:Id from the working folder; text in, text out."""
    users: str = ""
    """Families of users to train on, comma-separated; `rlchat envs` lists them."""
    knowledge: str = ""
    """What the desk looks up, comma-separated: bm25, dense or hybrid (the scenario's documents, or
    bm25:FOLDER of text files), graph (its facts, or graph:FILE.tsv or .ttl); nothing if empty."""
    policy: str = "smollm2-135m"
    """What is trained: a model of `rlchat models list`, a Hugging Face id, a folder, or a run."""
    run: Path = Path("runs/latest")
    """Run folder."""
    iterations: int = 24
    """Rounds of collecting episodes and updating."""
    episodes: int = 64
    """Episodes an iteration."""
    seed: int = 0
    """Decides episodes, sampling, initial weights and order."""
    resume: bool = False
    """Go on with what the run folder holds; finished parts are not done again."""
    evaluation: int = 100
    """Episodes of the evaluation at the end, on the dev side; 0 skips it."""
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

    @property
    def world(self) -> EnvConfig:
        """Whom the agent talks to."""
        gamma = 1.0 if self.ppo.gamma_turn is None else self.ppo.gamma_turn
        return EnvConfig(self.env, names(self.users), gamma, names(self.knowledge))


@dataclass(frozen=True)
class SFTConfig:
    """Warm-start a model on demonstrations, or on conversations from a file."""

    env: str = "rlchat/Support-v0"
    """Environment whose demonstrator is imitated."""
    knowledge: str = ""
    """What the desk looks up, comma-separated: bm25, dense or hybrid (the scenario's documents, or
    bm25:FOLDER of text files), graph (its facts, or graph:FILE.tsv or .ttl); nothing if empty."""
    data: Path | None = None
    """Conversations instead: JSON lines of {"messages": [{"role", "content"}, …]}."""
    policy: str = "smollm2-135m"
    """What is trained: a model, a Hugging Face id, a folder, or a run."""
    out: Path = Path("runs/warm-start")
    """Where the adapter goes."""
    seed: int = 0
    """Decides demonstrations, initial weights and order."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "seed", 0 <= self.seed < SEEDS, f"of at least 0 and below {SEEDS}")
