"""Preferences from simulators, people and files, brought together."""

from __future__ import annotations

from pathlib import Path

from rlchat.errors import UserError
from rlchat.feedback.export import stored_preferences
from rlchat.inference.load_agent import load_agent
from rlchat.listener import Listener
from rlchat.rewards.comparisons import compare_outcomes
from rlchat.rewards.config import PreferenceConfig
from rlchat.rollout.branching import BranchingRollouts
from rlchat_reward_models.datasets import chitchat
from rlchat_reward_models.preferences import Preference, Tidied, preference, read_preferences, tidy


def collect_preferences(config: PreferenceConfig, listener: Listener | None = None) -> Tidied:
    """Collect preferences from every source that is asked for, without ties and duplicates.

    Raises:
        UserError: a source that has none.
    """
    found: list[Preference] = []
    for path in config.file:
        found += read_file(path, listener)
    if config.people:
        found += [preference(row, row["dialogue"]) for row in stored_preferences()]
    if config.chitchat:
        found += _rated(config.seed)
    if config.simulate:
        found += _simulated(config, listener or Listener())
    return tidy(found)


def _simulated(config: PreferenceConfig, listener: Listener) -> list[Preference]:
    rollouts = BranchingRollouts(
        config.env_config, config.split, config.seed, config.rollout, listener
    )
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


def read_file(source: Path, listener: Listener | None = None) -> list[Preference]:
    """Read preferences from a file in any of trl's formats, or from a data set of the hub.

    Args:
        source: a file, or the hub's OWNER/NAME or OWNER/NAME:SPLIT.
        listener: warned once of rows that cannot be used, by reason and line.

    Raises:
        UserError: there are none that can be used.
    """
    try:
        return read_preferences(source, (listener or Listener()).warn)
    except ValueError as error:
        raise UserError(str(error)) from error
