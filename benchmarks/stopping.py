"""Synthetic evaluations that stop at a width: what holds of their intervals when they end."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from synthetic import Array, Synthetic, difference_intervals, score_of

from rlchat.statistics import Interval, wilson
from rlchat.statistics.intervals import mean_intervals
from rlchat.statistics.power import looks
from rlchat.statistics.significance import mcnemar

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]
Narrow = Callable[[Rows, int], Flags]
"""Of some evaluations, after so many users, those whose intervals are narrow enough."""
MOST = 4_000  # users of an evaluation


def stopped(world: Synthetic, rate: float, width: float, most: int = MOST) -> dict[str, float]:
    """Stop two equal agents at the widths of their own intervals."""
    pair = world.both(rate, rate, most)
    at = stops(world.evaluations, most, both_narrow(pair, width))
    scores = world.scores(pair[0])

    def score_held(rows: Rows, n: int) -> Flags:
        return held(*mean_intervals(scores[rows, :n], -1.0, 1.0), score_of(rate))

    def different(rows: Rows, n: int) -> Flags:
        gains = pair[0][rows, :n] - pair[1][rows, :n]
        return np.array([mcnemar(int((d > 0).sum()), int((d < 0).sum())) < 0.05 for d in gains])

    return {
        "success": share_at(at, success_held(pair[0], rate)),
        "score": share_at(at, score_held),
        "McNemar": share_at(at, different),
        "users": float(at.mean()),
    }


def stopped_against(
    world: Synthetic, rate: float, width: float, shared: float, most: int = MOST
) -> dict[str, float]:
    """Stop at those widths and at that of the difference to an agent ten points apart."""
    other = rate - 0.1 if rate > 0.5 else rate + 0.1
    pair = world.both(rate, other, most, shared)
    own = both_narrow(pair, width)

    def bounds(rows: Rows, n: int) -> tuple[Array, Array]:
        return difference_intervals(pair[0][rows, :n] - pair[1][rows, :n], 1.0)

    def narrow(rows: Rows, n: int) -> Flags:
        found = own(rows, n)
        if found.any():
            low, high = bounds(rows[found], n)
            found[found] = high - low <= width
        return found

    at = stops(world.evaluations, most, narrow)
    return {
        "success": share_at(at, success_held(pair[0], rate)),
        "difference": share_at(at, lambda rows, n: held(*bounds(rows, n), rate - other)),
        "users": float(at.mean()),
    }


def stopped_trials(
    world: Synthetic, rate: float, width: float, most: int = MOST
) -> dict[str, float]:
    """Stop an agent that meets each user several times."""
    outcomes = world.goals(world.goal_rates(rate, most))

    def bounds(rows: Rows, n: int) -> tuple[Array, Array]:
        return mean_intervals(outcomes[rows, :n], 0.0, 1.0)

    def narrow(rows: Rows, n: int) -> Flags:
        low, high = bounds(rows, n)
        return high - low <= width

    at = stops(world.evaluations, most, narrow)
    found = share_at(at, lambda rows, n: held(*bounds(rows, n), rate))
    return {"success": found, "users": float(at.mean())}


def stops(count: int, most: int, narrow: Narrow) -> Rows:
    """The first look of each evaluation at which it is narrow enough."""
    at = np.full(count, most)
    going = np.arange(count)
    for n in looks(most):
        if not going.size:
            break
        done = narrow(going, n)
        at[going[done]] = n
        going = going[~done]
    return at


def both_narrow(pair: tuple[Array, Array], width: float) -> Narrow:
    """Whether both agents' own intervals of success are narrow enough."""
    counts = [outcomes.cumsum(axis=1) for outcomes in pair]

    def narrow(rows: Rows, n: int) -> Flags:
        wide = [[_wide(int(c), n) for c in own[rows, n - 1]] for own in counts]
        found: Flags = np.array(wide).max(axis=0) <= width
        return found

    return narrow


def success_held(outcomes: Array, rate: float) -> Narrow:
    """Whether Wilson's interval holds the rate."""

    def found(rows: Rows, n: int) -> Flags:
        own = [_wilson(int(c), n) for c in outcomes[rows, :n].sum(axis=1)]
        return np.array([i.low <= rate <= i.high for i in own])

    return found


def held(low: Array, high: Array, truth: float) -> Flags:
    """Whether intervals hold the truth."""
    return (low <= truth) & (truth <= high)


def share_at(at: Rows, found: Narrow) -> float:
    """The share of evaluations of which something is so where they stopped."""
    total = sum(int(found(np.flatnonzero(at == n), int(n)).sum()) for n in np.unique(at))
    return total / len(at)


@cache
def _wilson(successes: int, n: int) -> Interval:
    return wilson(successes, n)


def _wide(successes: int, n: int) -> float:
    interval = _wilson(successes, n)
    return interval.high - interval.low
