"""What the verb `reward build` does: preferences from simulators, people and files in one file."""

from __future__ import annotations

from pathlib import Path

from rlchat.cli.progress import Progress
from rlchat.cli.reward import BuildOptions
from rlchat.errors import UserError
from rlchat.inference.agents import load_agent
from rlchat.rollout.branching import Forest
from rlchat.rollout.environment import WorldConfig
from rlchat.settings import names
from rlchat_reward_models.datasets import chitchat
from rlchat_reward_models.preferences import Preference, read_preferences


def _simulated(options: BuildOptions, progress: Progress) -> list[Preference]:
    world = WorldConfig(options.env, names(options.users))
    say, counter = progress.say, progress.counter
    forest = Forest(world, options.split, options.seed, options.rollout, say, counter)
    speaker = load_agent(options.speaker, options.policy, say=progress.say)
    follower = speaker
    if options.follower and options.follower != options.speaker:
        follower = load_agent(options.follower, options.policy, say=progress.say)
    source = "conversations" if options.branches.whole else "simulator"
    return forest.preferences(speaker, follower, options.branches, source)


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
