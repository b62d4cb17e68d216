"""Preferences between replies, by what became of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

from rlchat.rollout.branching import Branch
from rlchat_reward_models.preferences import Preference, weight


def compare(
    alike: Sequence[Branch], noise: float, source: str, dialogue: str
) -> Iterator[Preference]:
    """Each pair of replies in a moment; ties and all, which `tidy` leaves out."""
    for a, b in combinations(alike, 2):
        better, worse = (a, b) if a.mean >= b.mean else (b, a)
        difference = round(better.mean - worse.mean, 9)  # sums of one value in another order tie
        error = math.sqrt(a.squared_error + b.squared_error)
        yield Preference(
            a.context,
            better.reply,
            worse.reply,
            weight(difference, error, noise),
            source,
            len(a.moment.said),
            dialogue,
            difference,
            error,
        )
