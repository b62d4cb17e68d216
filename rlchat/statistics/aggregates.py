"""What several runs of one setting come to together, and how sure that is (Agarwal et al. 2021).

Scores of runs are arrays of runs × environments. Where users are told apart, there is an array of
runs × users for each environment; all runs met the same users.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rlchat.statistics.intervals import Interval, Z, mean_interval

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""Gives a number for each row of numbers."""
DRAWS = 2_000
HELD = {3: 0.71, 5: 0.85, 10: 0.84}
"""How often the bootstrap's 95% intervals of so many runs held the truth, in simulations."""
_NODES = 200  # of the integration
_STEPS = 60  # halvings


def iqm(values: Array) -> Array:
    """Interquartile mean of each row: without the lowest and the highest quarter.

    Of n values as many are left out on either side as n / 4 has whole ones, as in rliable and in
    scipy's ``trim_mean``: of three none, so that it is the mean; of five one.
    """
    ordered = np.sort(values, axis=-1)
    out = values.shape[-1] // 4
    kept: Array = ordered[..., out : values.shape[-1] - out].mean(axis=-1)
    return kept


def mean(values: Array) -> Array:
    """The mean of each row."""
    found: Array = values.mean(axis=-1)
    return found


def optimality_gap(values: Array) -> Array:
    """How far below 1 each row is on average, where values above 1 count as 1."""
    gap: Array = np.maximum(1.0 - values, 0.0).mean(axis=-1)
    return gap


def stratified_bootstrap(
    scores: Array, statistic: Statistic = iqm, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """A statistic over runs × environments with its percentile interval, 95%.

    Runs are drawn anew with replacement within each environment. Of few runs the interval is too
    narrow: see `HELD`.

    Args:
        scores: runs × environments.
        statistic: of all of them.
        draws: how often runs are drawn.
        seed: of the draws.

    Returns:
        The statistic with its bounds; without bounds (NaN) of a single run.
    """
    value = float(statistic(scores.reshape(1, -1))[0])
    if len(scores) < 2:
        return Interval(value, math.nan, math.nan)
    drawn = _redrawn(scores, draws, np.random.default_rng(seed))
    return _percentiles(value, statistic(drawn.reshape(draws, -1)))


def improvement(first: Array, second: Array) -> float:
    """The chance that a run of the first setting is better than one of the second.

    A tie counts one half; the mean over environments.

    Args:
        first: runs × environments.
        second: likewise, of as many environments.
    """
    return float(_improvements(first[None], second[None])[0])


def bootstrapped_improvement(
    first: Array, second: Array, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """`improvement` with rliable's interval: both settings' runs are drawn anew.

    Where every run of one is better than every run of the other it has no width at all.
    """
    value = improvement(first, second)
    if min(len(first), len(second)) < 2:
        return Interval(value, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    a, b = (_redrawn(scores, draws, rng) for scores in (first, second))
    return _percentiles(value, _improvements(a, b))


def improvement_interval(first: Array, second: Array) -> Interval:
    """`improvement` with a score interval (Newcombe 2006, method 5), which has width at 0 and 1.

    Of several environments it is that of one, which is wide enough for their mean.
    """
    value, m, n = improvement(first, second), len(first), len(second)
    if min(m, n) < 2:
        return Interval(value, math.nan, math.nan)

    def inside(chance: float) -> bool:
        more = ((m + n) / 2 - 1) * ((1 - chance) / (2 - chance) + chance / (1 + chance))
        variance = chance * (1 - chance) * (1 + more) / (m * n)
        return (value - chance) ** 2 <= Z * Z * variance

    return Interval(value, _edge(inside, value, 0.0), _edge(inside, value, 1.0))


def mean_of_runs(
    outcomes: Sequence[Array], low: float = math.inf, high: float = -math.inf
) -> Interval:
    """The mean over runs and users with its 95% interval: other runs, met by other users.

    Runs and users are crossed: all runs met the same users, so their luck with users is one. The
    variance is that of runs' means plus that of users', which what both have in common is taken
    from; the quantile is Student's with Satterthwaite's degrees of freedom. So three runs are
    enough, if the means of runs are about normally distributed. The interval is never narrower than
    Student's of the runs alone, nor than that of the users alone, `mean_interval`, which has width
    where nothing varied.

    Args:
        outcomes: of each environment the outcomes of runs × users, as many runs in each.
        low: the lowest that there is, as in `mean_interval`; unknown if left out.
        high: the highest.

    Returns:
        The mean with its bounds; without bounds (NaN) of a single run.
    """
    count, runs = len(outcomes), len(outcomes[0])
    of_runs = np.mean([o.mean(axis=1) for o in outcomes], axis=0)
    value = float(of_runs.mean())
    if runs < 2:
        return Interval(value, math.nan, math.nan)
    between = float(of_runs.var(ddof=1)) / runs
    users = sum(_variance_of_users(o) for o in outcomes) / count**2
    both = _half_width(between, runs - 1, users, sum(o.shape[1] - 1 for o in outcomes))
    half = max(both, student(runs - 1) * math.sqrt(between))
    alone = [mean_interval(o.mean(axis=0).tolist(), low, high) for o in outcomes]
    below = math.hypot(*(i.mean - i.low for i in alone)) / count
    above = math.hypot(*(i.high - i.mean for i in alone)) / count
    least, most = (low, high) if low < high else (-math.inf, math.inf)
    return Interval(
        value, max(least, value - max(half, below)), min(most, value + max(half, above))
    )


def _variance_of_users(outcomes: Array) -> float:
    """Of the mean over runs × users, the variance that comes from users being drawn."""
    runs, users = outcomes.shape
    if users < 2:
        return 0.0
    of_users = outcomes.mean(axis=0)
    rest = outcomes - of_users - outcomes.mean(axis=1, keepdims=True) + outcomes.mean()
    common = float((rest**2).sum()) / ((runs - 1) * (users - 1))
    found: float = max(0.0, float(of_users.var(ddof=1)) - common / runs) / users
    return found


def _half_width(between: float, runs: int, users: float, more: int) -> float:
    """Student's interval of a sum of two variances with their degrees of freedom."""
    total = between + users
    if total == 0.0:
        return 0.0
    freedom = total * total / (between * between / runs + users * users / max(1, more))
    return student(freedom) * math.sqrt(total)


def caution(runs: int) -> str:
    """Say how far intervals of so many runs can be trusted."""
    if runs < 2:
        return "One run tells nothing of how much runs differ; --seeds 0 1 2 trains three."
    known = max((n for n in HELD if n <= runs), default=0)
    held = f"about {HELD[known]:.0%}" if known else f"fewer than {min(HELD.values()):.0%}"
    return (
        "Bootstrap intervals of few runs are too narrow, and take the users for all that there "
        f"are: of {known or runs} runs they hold the truth in {held} of sweeps instead of 95%. The "
        "interval of the mean is as wide as it has to be if runs are about normally distributed."
    )


def student(freedom: float) -> float:
    """The 97.5% quantile of Student's distribution with so many degrees of freedom, at least 1.

    With t = √ν·tan θ its density is that of cos(θ)^(ν − 1).
    """
    nodes, weights = _legendre()
    angles = (nodes + 1) * math.pi / 4

    def share(angle: float) -> float:
        """Of the mass above 0, that below an angle."""
        scale = angle / (math.pi / 2)
        below = float(weights @ np.cos(angles * scale) ** (freedom - 1)) * scale
        return below / float(weights @ np.cos(angles) ** (freedom - 1))

    near, far = 0.0, math.pi / 2
    for _ in range(_STEPS):
        middle = (near + far) / 2
        near, far = (middle, far) if share(middle) < 0.95 else (near, middle)
    return math.sqrt(freedom) * math.tan(near)


@lru_cache(maxsize=1)
def _legendre() -> tuple[Array, Array]:
    """Nodes and weights of the integration."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def _redrawn(scores: Array, draws: int, rng: np.random.Generator) -> Array:
    """Draws × runs × environments: runs of each environment with replacement."""
    runs, envs = scores.shape
    places = rng.integers(0, runs, (draws, runs, envs))
    return scores[places, np.arange(envs)]


def _improvements(first: Array, second: Array) -> Array:
    """For each of many pairs of settings, the chance that a run of the first is better."""
    a, b = first[:, :, None, :], second[:, None, :, :]
    chances: Array = ((a > b) + 0.5 * (a == b)).mean(axis=(1, 2, 3))
    return chances


def _percentiles(value: float, drawn: Array) -> Interval:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def _edge(inside: Callable[[float], bool], value: float, end: float) -> float:
    """Where an interval around a value ends on the side of an end."""
    near, far = value, end
    for _ in range(_STEPS):
        middle = (near + far) / 2
        near, far = (middle, far) if inside(middle) else (near, middle)
    return near
