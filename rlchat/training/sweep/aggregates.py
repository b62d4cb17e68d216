"""What the runs of a sweep come to together: levels, differences and curves of settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.rollout.trajectory import Episode
from rlchat.statistics import Interval
from rlchat.statistics.aggregates import (
    Array,
    bootstrapped_improvement,
    improvement_interval,
    iqm,
    mean_of_runs,
    optimality_gap,
    stratified_bootstrap,
)
from rlchat.training.learning_curve import measured


@dataclass(frozen=True)
class FinishedRun:
    """One run with all that aggregates are made of.

    Attributes:
        setting: name of its setting.
        seed: of its training.
        results: of its evaluation, one for each environment.
        rows: metrics of its iterations.
    """

    setting: str
    seed: int
    results: Sequence[EvaluationResult]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Level:
    """What the runs of one setting reach on users whom they have not met.

    Attributes:
        setting: its name.
        runs: how many are finished.
        iqm: interquartile mean over runs × environments, with a stratified bootstrap interval.
        mean: over runs and users, with an interval for other runs and other users.
        optimality_gap: how far below 1, with a stratified bootstrap interval; None of scores.
    """

    setting: str
    runs: int
    iqm: Interval
    mean: Interval
    optimality_gap: Interval | None


@dataclass(frozen=True)
class Comparison:
    """One setting beside the one that all are compared with.

    Attributes:
        setting: its name.
        against: name of the other.
        pairs: how many seeds both have finished.
        difference: of means, same seed and same users, with an interval.
        improvement: the chance that a run of it is better than one of the other, with an interval.
        bootstrap: the same with rliable's interval.
    """

    setting: str
    against: str
    pairs: int
    difference: Interval
    improvement: Interval
    bootstrap: Interval


@dataclass(frozen=True)
class Band:
    """Interquartile mean of one setting's runs on training users, iteration by iteration."""

    setting: str
    metric: str
    iterations: list[int]
    values: list[Interval]


@dataclass(frozen=True)
class Aggregates:
    """All that finished runs come to together; ``metric`` is success, or score where none is."""

    metric: str
    levels: list[Level]
    comparisons: list[Comparison]
    bands: list[Band]


def aggregate(runs: Sequence[FinishedRun], first: str) -> Aggregates:
    """Bring finished runs together.

    Args:
        runs: with the same users in the same environments.
        first: name of the setting that others are compared with, if it has a finished run.
    """
    metric = metric_of(runs)
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(run.setting, []).append(run)
    others = [name for name in groups if name != first and first in groups]
    return Aggregates(
        metric,
        [_level(name, own, metric) for name, own in groups.items()],
        [_comparison(groups[name], groups[first], metric) for name in others],
        [band for name, own in groups.items() for band in _bands(name, own)],
    )


def metric_of(runs: Sequence[FinishedRun]) -> str:
    """Success where every environment tells it, else the score."""
    told = all(e.success is not None for run in runs for r in run.results for e in r.episodes)
    return "success" if told else "score"


def _level(name: str, runs: Sequence[FinishedRun], metric: str) -> Level:
    outcomes = _outcomes(runs, metric)
    scores = _scores(outcomes)
    rate = metric == "success"
    return Level(
        name,
        len(runs),
        stratified_bootstrap(scores, iqm),
        mean_of_runs(outcomes, 0.0, 1.0) if rate else mean_of_runs(outcomes),
        stratified_bootstrap(scores, optimality_gap) if rate else None,
    )


def _comparison(
    own: Sequence[FinishedRun], others: Sequence[FinishedRun], metric: str
) -> Comparison:
    a, b = {run.seed: run for run in own}, {run.seed: run for run in others}
    seeds = [seed for seed in a if seed in b]
    difference = Interval(math.nan, math.nan, math.nan)
    if seeds:
        pairs = zip(
            _outcomes([a[s] for s in seeds], metric),
            _outcomes([b[s] for s in seeds], metric),
            strict=True,
        )
        apart = [x - y for x, y in pairs]
        far = max(float(np.abs(d).max()) for d in apart)
        far = max(far, 1.0) if metric == "success" else far
        difference = mean_of_runs(apart, -far, far)
    first, second = _scores(_outcomes(own, metric)), _scores(_outcomes(others, metric))
    return Comparison(
        own[0].setting,
        others[0].setting,
        len(seeds),
        difference,
        improvement_interval(first, second),
        bootstrapped_improvement(first, second),
    )


def _outcomes(runs: Sequence[FinishedRun], metric: str) -> list[Array]:
    """Of each environment the outcomes of runs × users."""
    read: Callable[[Episode], float] = (
        (lambda e: float(bool(e.success))) if metric == "success" else (lambda e: e.score)
    )
    envs = range(len(runs[0].results))
    return [np.array([[read(e) for e in run.results[i].episodes] for run in runs]) for i in envs]


def _scores(outcomes: Sequence[Array]) -> Array:
    """Means of runs × environments."""
    return np.stack([own.mean(axis=1) for own in outcomes], axis=1)


def _bands(name: str, runs: Sequence[FinishedRun]) -> Iterator[Band]:
    """The learning curve of a setting with its band; none if its runs share no iteration."""
    metrics = {measured(run.rows)[0] for run in runs}
    metric = "success" if metrics == {"success"} else "return"
    tables = [{int(row["iteration"]): row for row in run.rows} for run in runs]
    iterations, values = [], []
    for iteration in sorted(set(tables[0]).intersection(*tables[1:])):
        found = [_by_environment(table[iteration], metric) for table in tables]
        if all(found) and len({len(own) for own in found}) == 1:
            iterations.append(iteration)
            values.append(stratified_bootstrap(np.array(found), iqm))
    if iterations:
        yield Band(name, metric, iterations, values)


def _by_environment(row: Mapping[str, Any], metric: str) -> list[float]:
    """A metric of an iteration in each environment that tells it; empty if none does."""
    keys = [key for key in row if key.startswith(f"{metric}/")] or [metric]
    known = [row.get(key) for key in keys]
    return [float(v) for v in known if isinstance(v, int | float) and math.isfinite(v)]
