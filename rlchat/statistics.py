"""Intervals and running moments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z = 1.959963984540054  # the 97.5% quantile of the normal distribution
_AT_ONCE = 500_000  # numbers that the bootstrap draws into memory, 4 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float


def wilson(successes: int, trials: int) -> Interval:
    """The Wilson score interval of a rate, 95% (Wilson 1927); sound near 0 and 1 too."""
    if trials == 0:
        return Interval(math.nan, 0.0, 1.0)
    p, z2 = successes / trials, Z * Z
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z / (1 + z2 / trials) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials**2))
    # At 0 and at 1 the bound is exact; arithmetic would miss it by a rounding.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(p, low, high)


def bootstrap(values: Sequence[float], resamples: int = 10_000, seed: int = 0) -> Interval:
    """The percentile bootstrap interval of a mean, 95% (Efron 1979)."""
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    most = max(1, _AT_ONCE // x.size)  # a stream of numbers is the same however it is cut
    means = np.concatenate(
        [
            x[rng.integers(0, x.size, (min(most, resamples - done), x.size))].mean(axis=1)
            for done in range(0, resamples, most)
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(x.mean()), float(low), float(high))


def paired(values: Sequence[float], against: Sequence[float], seed: int = 0) -> Interval:
    """The bootstrap interval of the mean difference of pairs."""
    if len(values) != len(against):
        raise ValueError(
            f"expected as many pairs' firsts as seconds; got {len(values)} and {len(against)}"
        )
    return bootstrap([a - b for a, b in zip(values, against, strict=True)], seed=seed)


@dataclass(slots=True)
class RunningStd:
    """Spread of all numbers seen so far (Chan, Golub and LeVeque 1983, parallel updates)."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: Sequence[float]) -> None:
        """Take more numbers into account."""
        if not values:
            return
        n, mean = len(values), sum(values) / len(values)
        squares = sum((v - mean) ** 2 for v in values)
        total, shift = self.count + n, mean - self.mean
        self.squares += squares + shift * shift * self.count * n / total
        self.mean += shift * n / total
        self.count = total

    @property
    def std(self) -> float:
        """Biased standard deviation; 0 before anything was seen."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0
