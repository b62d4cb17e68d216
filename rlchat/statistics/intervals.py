"""95% intervals of rates and means that hold at small n, near the edges, and of skewed values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054  # the 97.5% quantile of the normal distribution
Array = NDArray[np.float64]
_UNSEEN = 0.5  # weight of the value that was not seen; 1 is exact for all, and wider than needed
_STEPS = 52  # halvings, which use up a double's digits
_NEAREST, _FARTHEST = -35.0, 12.0  # logarithms of the distances that are searched


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


def mean_interval(
    values: Sequence[float], low: float = math.inf, high: float = -math.inf
) -> Interval:
    """The 95% interval of a mean whose values may be skewed, discrete, or all alike.

    Each bound is a quantile of the mean under random weights (Dirichlet) of the values seen and of
    one value that was not: the lowest possible for the lower bound, the highest for the upper, with
    half a value's weight. With a whole one it would be the interval of Learned-Miller and Thomas
    (2019), which of zeros and ones is Clopper and Pearson's; half a one does what mid-p does there.
    The quantile comes from a saddlepoint approximation (Lugannani and Rice 1980), so that nothing
    is drawn.

    Args:
        values: one a cluster; see `by_cluster` where several belong to one.
        low: a value that might have been seen; the lowest one seen if that is lower.
        high: likewise.

    Returns:
        The mean and its bounds; NaN of no values.
    """
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    bounds = mean_intervals(x[None], low, high)
    # Of values that are all alike, and cannot be others, arithmetic may miss by a rounding.
    mean = float(min(max(x.mean(), x.min()), x.max()))
    return Interval(mean, min(mean, float(bounds[0][0])), max(mean, float(bounds[1][0])))


def mean_intervals(
    samples: Array, low: Array | float = math.inf, high: Array | float = -math.inf
) -> tuple[Array, Array]:
    """Lower and upper bounds of `mean_interval`, for each row of many samples of one size."""
    least = np.minimum(samples.min(axis=1), low)
    most = np.maximum(samples.max(axis=1), high)
    return _lower(samples, least), -_lower(-samples, -most)


def _lower(samples: Array, unseen: Array) -> Array:
    """The 2.5% quantile of the weighted mean, of each row and its unseen value.

    With weights Gamma(w) before they are scaled, P(mean ≤ t) = P(Σ Gamma(w)·(x − t) ≤ 0). At the
    saddlepoint s of that sum, 1 − s·(x − t) = s·(c − x) for a c below all x, which gives both s and
    t in closed form; so one search, for the distance of c, is enough.
    """
    x = np.concatenate([samples, unseen[:, None]], axis=1)
    w = np.ones(x.shape[1])
    w[-1] = _UNSEEN
    least = x.min(axis=1, keepdims=True)
    span = x.max(axis=1, keepdims=True) - least
    scaled = (x - least) / np.where(span > 0, span, 1.0)
    near, far = np.full(len(x), _NEAREST), np.full(len(x), _FARTHEST)
    for _ in range(_STEPS):
        middle = (near + far) / 2
        too_far = _quantile_at(scaled, w, np.exp(middle))[0] > -Z
        far, near = np.where(too_far, middle, far), np.where(too_far, near, middle)
    _, at = _quantile_at(scaled, w, np.exp((near + far) / 2))
    bound: Array = least[:, 0] + span[:, 0] * np.clip(at, 0.0, 1.0)
    return bound


def _quantile_at(x: Array, w: Array, distance: Array) -> tuple[Array, Array]:
    """A normal quantile z and a value t with P(weighted mean ≤ t) = Φ(z)."""
    apart = x + distance[:, None]
    s = -(w / apart).sum(axis=1) / w.sum()
    q = -s[:, None] * apart  # 1 − s·(x − t)
    k = -(w * np.log(q)).sum(axis=1)
    k2 = (w * ((1 / q - 1) / s[:, None]) ** 2).sum(axis=1)
    r, u = -np.sqrt(np.maximum(-2 * k, 0.0)), s * np.sqrt(k2)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = r + np.log(u / r) / r
    # At the mean itself both go to 0; it is no tail.
    return np.where(np.abs(r) < 1e-6, 0.0, z), -distance - 1 / s


def interval_of_rate(outcomes: Sequence[float]) -> Interval:
    """A rate: Wilson's interval of zeros and ones; else that of a mean of clusters' rates."""
    if all(value in (0.0, 1.0) for value in outcomes):
        return wilson(int(sum(outcomes)), len(outcomes))
    return mean_interval(outcomes, 0.0, 1.0)


def paired(values: Sequence[float], against: Sequence[float], least: float = 0.0) -> Interval:
    """The interval of the mean difference of pairs, each of which might have been ±``least``."""
    if len(values) != len(against):
        raise ValueError(
            f"expected as many pairs' firsts as seconds; got {len(values)} and {len(against)}"
        )
    differences = [a - b for a, b in zip(values, against, strict=True)]
    return mean_interval(differences, **reach(differences, least))


def reach(values: Sequence[float], least: float) -> dict[str, float]:
    """The bounds of differences: as far to each side as the farthest seen, and at least so far."""
    far = max((abs(value) for value in values), default=0.0)
    return {"low": -max(far, least), "high": max(far, least)}
