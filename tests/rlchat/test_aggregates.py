"""Several runs of a setting: aggregates and intervals, beside numbers worked out by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from rlchat.statistics import Interval, mean_interval
from rlchat.statistics.aggregates import (
    HELD,
    bootstrapped_improvement,
    caution,
    improvement,
    improvement_interval,
    iqm,
    mean,
    mean_of_runs,
    optimality_gap,
    stratified_bootstrap,
    student,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], 3.0),
        ([0.0, 9.0, 3.0], 4.0),  # of three none is left out
        ([8.0, 1.0, 2.0, 4.0], 3.0),  # 2 and 4
        ([100.0, 1.0, 2.0, 4.0, 6.0], 4.0),  # 2, 4 and 6
        ([9.0, 1.0, 2.0, 4.0, 6.0, 8.0, 0.0], 4.2),  # of seven one on either side: 1, 2, 4, 6, 8
        ([7.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 99.0], 3.5),  # 2, 3, 4, 5
    ],
)
def test_the_interquartile_mean(values: list[float], expected: float) -> None:
    assert iqm(np.array(values)) == pytest.approx(expected)
    stats = pytest.importorskip("scipy.stats")
    assert iqm(np.array(values)) == pytest.approx(stats.trim_mean(values, 0.25))


def test_the_gap_to_the_optimum_counts_what_is_above_as_none() -> None:
    assert optimality_gap(np.array([[0.5, 1.2], [1.0, 0.9]])).tolist() == pytest.approx(
        [0.25, 0.05]
    )


def test_a_tie_is_half_an_improvement() -> None:
    first, second = np.array([[1.0], [2.0]]), np.array([[1.0], [0.0]])
    assert improvement(first, second) == (0.5 + 1 + 1 + 1) / 4
    assert improvement(second, first) == 1 - 3.5 / 4
    # The mean over environments: in the second all are alike.
    both = np.array([[1.0, 5.0], [2.0, 5.0]]), np.array([[1.0, 5.0], [0.0, 5.0]])
    assert improvement(*both) == (3.5 / 4 + 0.5) / 2


@pytest.mark.parametrize("scores", [[0.1, 0.5, 0.9], [0.11, 0.34, 0.52, 0.73, 0.98]])
def test_the_bootstrap_is_the_one_that_draws_everything(scores: list[float]) -> None:
    """Of three runs there are 27 draws, of five 3,125, all equally likely."""
    every = iqm(np.array(list(product(scores, repeat=len(scores)))))
    low, high = np.quantile(every, (0.025, 0.975), method="inverted_cdf")
    found = stratified_bootstrap(np.array(scores)[:, None], draws=20_000)
    assert found.mean == pytest.approx(iqm(np.array(scores)))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)
    if len(scores) == 3:  # one draw of 27 is all the lowest: more than 2.5%
        assert (found.low, found.high) == pytest.approx((0.1, 0.9))


def test_the_bootstrap_is_scipy_s() -> None:
    stats = pytest.importorskip("scipy.stats")
    scores = np.random.default_rng(1).beta(5, 2, 9)
    found = stratified_bootstrap(scores[:, None], iqm, draws=20_000)
    other = stats.bootstrap(
        (scores,), lambda x, axis: iqm(x), method="percentile", n_resamples=20_000, vectorized=True
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.01)


def test_runs_are_drawn_within_their_environment() -> None:
    """Two environments on other levels, in each of which all runs are alike."""
    scores = np.array([[0.1, 0.9]] * 4)
    found = stratified_bootstrap(scores, mean)
    assert (found.low, found.mean, found.high) == pytest.approx((0.5, 0.5, 0.5))
    # Drawn independently in each: the spread of a mean of two independent means.
    apart = np.random.default_rng(0).normal(0, 1, (40, 2))
    found = stratified_bootstrap(apart, mean)
    spread = math.hypot(*(apart.std(axis=0) / 40**0.5)) / 2
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_a_single_run_has_no_interval() -> None:
    one = np.array([[0.5]])
    assert stratified_bootstrap(one).mean == 0.5 and math.isnan(stratified_bootstrap(one).low)
    assert math.isnan(mean_of_runs([np.ones((1, 5))]).high)
    assert math.isnan(improvement_interval(one, np.array([[0.1], [0.2]])).low)
    assert math.isnan(bootstrapped_improvement(one, one).low)


def test_the_interval_of_an_improvement_has_width_where_all_runs_are_better() -> None:
    better, worse = np.array([[0.8], [0.9], [0.85]]), np.array([[0.1], [0.2], [0.3]])
    assert bootstrapped_improvement(better, worse) == Interval(1.0, 1.0, 1.0)
    found = improvement_interval(better, worse)
    # At a bound (1 − p)² = z² V(p), by Newcombe's formula.
    p, z2 = found.low, 1.959963984540054**2
    variance = p * (1 - p) * (1 + 2 * ((1 - p) / (2 - p) + p / (1 + p))) / 9
    assert found.high == 1.0 and (1 - p) ** 2 == pytest.approx(z2 * variance)
    mirrored = improvement_interval(worse, better)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low))


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.706205), (2, 4.302653), (2.5, 3.574655), (30, 2.042272)]
)
def test_student_s_quantile(freedom: float, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, abs=1e-5)


def test_where_users_are_alike_the_interval_of_the_mean_is_student_s() -> None:
    """Two outcomes of runs × users that users do not differ in: only runs do."""
    outcomes = np.repeat(np.array([[0.2], [0.4], [0.9]]), 50, axis=1)
    found = mean_of_runs([outcomes])
    half = 4.302652729749464 * np.std([0.2, 0.4, 0.9], ddof=1) / 3**0.5
    assert (found.mean, found.high - found.mean) == pytest.approx((0.5, half))


def test_where_runs_are_alike_it_is_not_narrower_than_that_of_users() -> None:
    users = np.array([1.0] * 8 + [0.0] * 2)
    found, alone = mean_of_runs([np.stack([users] * 3)], 0.0, 1.0), mean_interval(users, 0.0, 1.0)
    assert found.low <= alone.low + 1e-9 and found.high >= alone.high - 1e-9
    assert found.high <= 1.0
    assert mean_of_runs([np.ones((3, 20))], 0.0, 1.0).low < 0.95  # nothing varied


def test_environments_count_alike_and_runs_are_one_in_all_of_them() -> None:
    """A run that is better is so in both: averaging over environments does not hide that."""
    level = np.array([[0.2], [0.4], [0.9]])
    one = [np.repeat(level, 30, axis=1)]
    both = mean_of_runs([*one, *one])
    alone = mean_of_runs(one)
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high))


def test_the_caution_says_how_often_intervals_hold() -> None:
    assert f"{HELD[3]:.0%}" in caution(4) and "of 3 runs" in caution(4)
    assert f"{HELD[10]:.0%}" in caution(20)
    assert "fewer than" in caution(2)
    assert "One run" in caution(1)
