"""Settings: what a turn is worth in training, preferences, and reward models learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlchat.errors import UserError
from rlchat.rewards.rubric.config import RUBRIC, JudgeConfig, check_both
from rlchat.rollout.config import BranchConfig, RolloutConfig
from rlchat.rollout.env_options import EnvOptions
from rlchat.settings import SEEDS, DTypeName, expect
from rlchat_reward_models.config import RewardModelTraining

PLAIN = {"world": 1.0, "rules": 1.0}


@dataclass(frozen=True)
class RewardConfig:
    """Settings of the reward of each turn in training."""

    model: Path | None = None
    """Folder of a reward model, as rlchat reward train writes it; its score alone is the reward
    then, unless weights are given. Left out (None), the environment's score is the reward."""
    weights: str = ""
    """Weights of the parts of the reward, as in world=1,learned=0.5: world (progress, resolution),
    rules (courtesy, brevity, …), stated (the style that --stated-style asks for: 1 unless given),
    learned, style (a person's), rubric, sentiment, toxicity, or one part by its name; if empty, the
    usual ones."""
    person: str = ""
    """Name of the person whose preferred style is rewarded, learned from their comparisons of
    replies (rlchat feedback style); with a weight of 1 unless weights are given. Nobody if
    empty."""
    rubric: str = ""
    """Rubric by which a judge scores whole conversations: default, or a YAML file; with a weight of
    1 unless weights are given. The score, from -1 to 1, is the reward of the last turn. No judge
    scores if empty."""
    judge: str = ""
    """Language model that answers the rubric's questions: a name of rlchat models list, a folder, a
    Hugging Face id, or openai:MODEL@URL. Check first how far it agrees with the world's verdict:
    rlchat judge."""
    shape: Literal["plain", "log-sigmoid"] = "plain"
    """Scale of the reward model's score: plain is in standard deviations from the reference
    policy's average; log-sigmoid is the log-probability of beating that average, which is never
    above 0."""
    granularity: Literal["auto", "turn", "conversation"] = "auto"
    """What the reward model scores: turn is every reply in its context; conversation is the whole,
    whose score is the reward of the last turn; auto is what the model learned from."""
    cost_limit: float | None = None
    """Allowed mean cost (unsafe acts) of an episode; what goes beyond lowers the reward by a
    Lagrange multiplier that adapts. Left out (None), costs do not count."""
    cost_rate: float = 0.5
    """Step of the Lagrange multiplier of costs: it moves by this times the excess each
    iteration."""
    dtype: DTypeName = "auto"
    """Precision in which the reward model computes; auto measures which is faster on this
    machine."""
    judging: JudgeConfig = field(default_factory=JudgeConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        check_both(self.rubric, self.judge, "reward.")
        if self.cost_limit is not None:
            expect(self, "cost_limit", self.cost_limit >= 0, "of at least 0")
        expect(self, "cost_rate", self.cost_rate > 0, "above 0")
        if self.model is None and self.weighed.get("learned"):
            raise UserError("expected --reward.model with a weight for learned; got none")
        if not self.person and self.weighed.get("style"):
            raise UserError("expected --reward.person with a weight for style; got none")
        if not self.rubric and self.weighed.get(RUBRIC):
            raise UserError("expected --reward.rubric with a weight for rubric; got none")

    @property
    def weighed(self) -> Mapping[str, float]:
        """Parts or groups of parts, and what they count.

        Raises:
            UserError: they cannot be read.
        """
        found = {"style": 1.0} if self.person else {}
        found |= {RUBRIC: 1.0} if self.rubric else {}
        if not self.weights:
            return (PLAIN if self.model is None else {"learned": 1.0}) | found
        for entry in self.weights.split(","):
            name, _, value = (piece.strip() for piece in entry.partition("="))
            try:
                found[name] = float(value)
            except ValueError:
                raise UserError(
                    f"expected weights such as world=1,learned=0.5; got {entry.strip()!r}"
                ) from None
        return found

    @property
    def learned(self) -> bool:
        """Whether a learned score counts."""
        return bool(self.weighed.get("learned"))

    @property
    def judged(self) -> bool:
        """Whether a rubric's score counts."""
        return bool(self.weighed.get(RUBRIC))


@dataclass(frozen=True)
class PreferenceConfig(EnvOptions):
    """Sources of preferences: simulators, people's ratings, and files."""

    simulate: bool = True
    """Compare sampled replies in simulated conversations by what becomes of them."""
    chitchat: bool = False
    """Add people's ratings of their conversations; needs pip install 'rlchat[people]'."""
    people: bool = False
    """Add what people chose and edited in rlchat chat."""
    file: tuple[Path, ...] = ()
    """Add files in any of trl's preference formats, or data sets of the hub as OWNER/NAME:SPLIT."""
    split: Literal["train", "dev", "test"] = "train"
    """Split of the environment that goals come from."""
    speaker: str = "demonstrator"
    """Agent whose replies are compared: a run folder, or a name as for `rlchat eval`."""
    follower: str = ""
    """Agent that goes on after a reply, to the end; the speaker if none is named."""
    policy: str = "smollm2-135m"
    """The model that `base` stands for."""
    seed: int = 0
    """Seed of conversations, replies and continuations."""
    branches: BranchConfig = field(default_factory=BranchConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "seed", 0 <= self.seed < SEEDS, f"of at least 0 and below {SEEDS}")
        if not (self.simulate or self.chitchat or self.people or self.file):
            raise UserError("expected a source of preferences; got none; leave --no-simulate out")
        if self.branches.whole and self.follower:
            raise UserError(
                "expected no follower where whole conversations are compared; got "
                f"{self.follower}; leave --follower or --branches.whole out"
            )


@dataclass(frozen=True, kw_only=True)
class RewardModelConfig:
    """Settings of a reward model: what it reads with, and how it is trained."""

    backbone: str = "minilm-l6"
    """What encodes the text: minilm-l6, an encoder's Hugging Face id or folder, or a language
    model, which then gets an adapter."""
    heads: int = 4
    """Heads of the ensemble, whose disagreement is subtracted from the score."""
    uncertainty_penalty: float = 0.5
    """How much of the standard deviation of the heads' scores is subtracted."""
    max_tokens: int = 192
    """Tokens of a context and a reply together, at most."""
    most: int = 2000
    """Contexts trained on, at most, with all their replies: that bounds the time. Where much hangs
    on the reply they are likelier to be drawn."""
    seed: int = 0
    """Seed of initial weights and order."""
    dtype: DTypeName = "auto"
    """Precision of the products; auto measures what is faster."""
    device: str = "auto"
    """Torch device that training runs on, such as cpu or cuda; auto takes a GPU if there is one."""
    training: RewardModelTraining = field(default_factory=RewardModelTraining)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name in ("heads", "most"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        expect(self, "uncertainty_penalty", self.uncertainty_penalty >= 0, "of at least 0")
        expect(self, "max_tokens", self.max_tokens >= 32, "of at least 32")
