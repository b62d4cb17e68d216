"""Calibration: whether a reward model's probabilities match how often it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """Comparisons of about one confidence: how many, how sure on average, how often right."""

    count: int
    confidence: float
    accuracy: float


def fit_temperature(margins: Numbers, labels: Numbers) -> float:
    """Find what to divide score differences by, so that probabilities fit (Guo et al. 2017).

    Args:
        margins: score differences in logits, of what was preferred over what was not.
        labels: how probable it is that a rater agrees, in (0.5, 1].

    Returns:
        The temperature with the least mean cross-entropy, from 0.02 to 50.
    """
    d, y = np.asarray(margins, float), np.asarray(labels, float)
    grid = np.geomspace(0.02, 50, 400)
    z = d[None, :] / grid[:, None]
    loss = y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)
    return float(grid[loss.mean(axis=1).argmin()])


def bins(margins: Numbers, count: int = 10) -> list[Bin]:
    """Group comparisons by confidence, from 0.5 to 1, in bins of one width.

    Confidence is the probability of the likelier order, and it is right if that is the label's.
    """
    d = np.asarray(margins, float)
    sure = 1 / (1 + np.exp(-np.abs(d)))
    right = np.where(d == 0, 0.5, d > 0)
    place = np.minimum(((sure - 0.5) * 2 * count).astype(int), count - 1)
    return [
        Bin(int(own.sum()), float(sure[own].mean()), float(right[own].mean()))
        for own in (place == b for b in range(count))
        if own.any()
    ]


def calibration_error(margins: Numbers, count: int = 10) -> float:
    """Expected calibration error: mean |accuracy − confidence|, bins by their size."""
    groups = bins(margins, count)
    total = sum(b.count for b in groups)
    return sum(b.count * abs(b.accuracy - b.confidence) for b in groups) / total if total else 0.0
