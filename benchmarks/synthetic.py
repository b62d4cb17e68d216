"""Synthetic evaluations whose truth is known, like those of rlchat's environments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlchat.statistics.intervals import mean_intervals

Array = NDArray[np.float64]
TRIALS = 4  # episodes with one goal
SHARED = 0.6  # of users, whose difficulty decides for both agents


class Synthetic:
    """Synthetic agents with a known rate of success, and what their episodes come to."""

    def __init__(self, evaluations: int, seed: int = 0):
        """Draw so many evaluations of everything."""
        self.evaluations, self.rng = evaluations, np.random.default_rng(seed)

    def successes(self, rate: float, n: int) -> Array:
        """One episode a goal: 0 or 1."""
        return (self.rng.random((self.evaluations, n)) < rate).astype(float)

    def both(self, rate: float, other: float, n: int, share: float = SHARED) -> tuple[Array, Array]:
        """Two agents on the same users, of whom a share is equally hard for both."""
        shape = (self.evaluations, n)
        common, shared = self.rng.random(shape), self.rng.random(shape) < share
        a = np.where(shared, common, self.rng.random(shape)) < rate
        b = np.where(shared, common, self.rng.random(shape)) < other
        return a.astype(float), b.astype(float)

    def goal_rates(self, rate: float, n: int) -> Array:
        """Rates of goals that are hard or easy, about a mean rate."""
        return self.rng.beta(rate, 1 - rate, (self.evaluations, n))

    def goals(self, rates: Array) -> Array:
        """Several episodes with each goal: the share of them that succeeds."""
        return self.rng.binomial(TRIALS, rates) / TRIALS

    def scores(self, successes: Array) -> Array:
        """Scores near 1 for successes and about -.9 for failures, either skewed."""
        good = 0.99 - 0.06 * self.rng.gamma(1.0, 1.5, successes.shape)
        bad = -0.4 - 0.35 * self.rng.gamma(1.5, 1.0, successes.shape)
        return np.where(successes > 0, good, bad)

    def turns(self, n: int) -> Array:
        """Turns, of which some episodes have many: 3 on average."""
        return self.rng.geometric(0.5, (self.evaluations, n)).astype(np.float64) + 1.0

    def costs(self, rate: float, n: int) -> Array:
        """Unsafe acts an episode: so many on average, more than one in some."""
        return self.rng.poisson(rate, (self.evaluations, n)).astype(float)


def score_of(rate: float) -> float:
    """The true mean of scores."""
    return rate * 0.9 + (1 - rate) * -0.925


def share(low: Array, high: Array, truth: float) -> float:
    """The share of intervals that hold the truth."""
    return float(((low <= truth) & (truth <= high)).mean())


def means(x: Array, truth: float, low: float = np.inf, high: float = -np.inf) -> float:
    """Coverage of the intervals of means, as `EvaluationResult.metrics` makes them."""
    return share(*mean_intervals(x, low, high), truth)


def differences(x: Array, truth: float, least: float) -> float:
    """Coverage of the intervals of paired differences, as `difference` makes them."""
    return share(*difference_intervals(x, least), truth)


def difference_intervals(x: Array, least: float) -> tuple[Array, Array]:
    """Intervals of paired differences, a row each."""
    far = np.maximum(np.abs(x).max(axis=1), least)
    return mean_intervals(x, -far, far)
