"""Running moments of numbers that come in portions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


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
