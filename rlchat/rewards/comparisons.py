"""Preferences between replies, by what became of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

from rlchat.inference.agents import Agent
from rlchat.rollout.branching import Branch, BranchingRollouts
from rlchat.rollout.config import BranchConfig
from rlchat_reward_models.preferences import Preference, weight


def compare_outcomes(
    rollouts: BranchingRollouts, speaker: Agent, follower: Agent, config: BranchConfig, source: str
) -> list[Preference]:
    """Compare what a speaker might say, by how a follower fares after it.

    Args:
        rollouts: where, and with which seed.
        speaker: plays the dialogues, and gives the replies, at temperature 1.
        follower: goes on after a reply, to the end.
        config: how many, how often; whole conversations are compared if it says so.
        source: is written into every preference.
    """
    if config.whole:
        groups = rollouts.conversations(speaker, config.dialogues, config.replies)
    else:
        groups = rollouts.branches(speaker, config)
        flat = [branch for siblings in groups for branch in siblings]
        rollouts.follow(flat, follower, config.continuations)
    name = f"{source}-{rollouts.split}"
    return [
        p
        for number, siblings in enumerate(groups)
        for p in compare(siblings, config.noise, source, f"{name}-{number}")
    ]


def compare(
    siblings: Sequence[Branch], noise: float, source: str, dialogue: str
) -> Iterator[Preference]:
    """Each pair of replies at a snapshot; ties and all, which `tidy` leaves out."""
    for a, b in combinations(siblings, 2):
        better, worse = (a, b) if a.mean >= b.mean else (b, a)
        difference = round(better.mean - worse.mean, 9)  # sums of one value in another order tie
        error = math.sqrt(a.squared_error + b.squared_error)
        yield Preference(
            a.context,
            better.reply,
            worse.reply,
            weight(difference, error, noise),
            source,
            len(a.snapshot.said),
            dialogue,
            difference,
            error,
        )
