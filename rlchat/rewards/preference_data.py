"""What the verb `reward build` does: preferences from simulators, people and files in one file."""

from __future__ import annotations

from pathlib import Path

from rlchat.cli.progress import Progress
from rlchat.cli.reward import BuildOptions
from rlchat.errors import UserError
from rlchat.inference.load_agent import load_agent
from rlchat.rewards.comparisons import compare_outcomes
from rlchat.rollout.branching import BranchingRollouts
from rlchat.rollout.environment import EnvConfig
from rlchat.settings import names
from rlchat_reward_models.datasets import chitchat
from rlchat_reward_models.preferences import Preference, read_preferences


def _simulated(options: BuildOptions, progress: Progress) -> list[Preference]:
    world = EnvConfig(options.env, names(options.users))
    rollouts = BranchingRollouts(world, options.split, options.seed, options.rollout, progress)
    speaker = load_agent(options.speaker, options.policy, say=progress.say)
    follower = speaker
    if options.follower and options.follower != options.speaker:
        follower = load_agent(options.follower, options.policy, say=progress.say)
    source = "conversations" if options.branches.whole else "simulator"
    return compare_outcomes(rollouts, speaker, follower, options.branches, source)


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
