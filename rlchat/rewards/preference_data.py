"""Preferences from simulators, people and files, brought together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlchat.errors import UserError
from rlchat.feedback.export import stored_preferences
from rlchat.inference.load_agent import load_agent
from rlchat.listener import Listener
from rlchat.rewards.comparisons import compare_outcomes
from rlchat.rollout.branching import BranchingRollouts
from rlchat.rollout.config import BranchConfig, RolloutConfig
from rlchat.rollout.environment import EnvConfig
from rlchat.settings import SEEDS, expect, names
from rlchat_reward_models.datasets import chitchat
from rlchat_reward_models.preferences import Preference, Tidied, preference, read_preferences, tidy


@dataclass(frozen=True)
class PreferenceConfig:
    """Where preferences come from: simulators, people's ratings, and files."""

    simulate: bool = True
    """Compare sampled replies in simulated conversations by what becomes of them."""
    chitchat: bool = False
    """Add people's ratings of their conversations; needs pip install 'rlchat[people]'."""
    people: bool = False
    """Add what people chose and edited in rlchat chat."""
    file: tuple[Path, ...] = ()
    """Add files in any of trl's preference formats."""
    env: str = "rlchat/Support-v0"
    """Environment of the simulated conversations."""
    users: str = ""
    """Families of users, comma-separated; the usual ones if none is named."""
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


def collect_preferences(config: PreferenceConfig, listener: Listener | None = None) -> Tidied:
    """Collect preferences from every source that is asked for, without ties and duplicates.

    Raises:
        UserError: a source that has none, or a file with bad lines.
    """
    found: list[Preference] = []
    for path in config.file:
        found += read_file(path)
    if config.people:
        found += [preference(row, row["dialogue"]) for row in stored_preferences()]
    if config.chitchat:
        found += _rated(config.seed)
    if config.simulate:
        found += _simulated(config, listener or Listener())
    return tidy(found)


def _simulated(config: PreferenceConfig, listener: Listener) -> list[Preference]:
    world = EnvConfig(config.env, names(config.users))
    rollouts = BranchingRollouts(world, config.split, config.seed, config.rollout, listener)
    speaker = load_agent(config.speaker, config.policy, say=listener.say)
    follower = speaker
    if config.follower and config.follower != config.speaker:
        follower = load_agent(config.follower, config.policy, say=listener.say)
    source = "conversations" if config.branches.whole else "simulator"
    return compare_outcomes(rollouts, speaker, follower, config.branches, source)


def _rated(seed: int) -> list[Preference]:
    try:
        return chitchat.preferences(chitchat.rated(chitchat.load()), seed=seed)
    except ValueError as error:
        raise UserError(str(error)) from error


def read_file(path: Path) -> list[Preference]:
    """Read preferences.

    Raises:
        UserError: there are none, or bad lines.
    """
    try:
        return read_preferences(path)
    except ValueError as error:
        raise UserError(str(error)) from error
