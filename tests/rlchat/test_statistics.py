from __future__ import annotations

import math
import statistics
import tracemalloc

import numpy as np
import pytest

from rlchat.statistics import Interval, RunningStd, bootstrap, paired, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe 1998, table I, method 3: the score interval without continuity correction
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_is_the_textbooks(successes: int, trials: int, low: float, high: float) -> None:
    out = wilson(successes, trials)
    assert out.mean == successes / trials
    assert (out.low, out.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_reaches_its_ends_exactly_and_knows_nothing_of_nothing() -> None:
    assert wilson(0, 7).low == 0.0
    assert wilson(7, 7).high == 1.0
    nothing = wilson(0, 0)
    assert math.isnan(nothing.mean)
    assert (nothing.low, nothing.high) == (0.0, 1.0)


def test_bootstrap_quantiles_are_the_binomials() -> None:
    """A mean of five draws from (0, 0, 0, 0, 1) is a Binomial(5, .2) / 5.

    P(X <= 0) = .328 and P(X <= 2) = .942 < .975 <= P(X <= 3) = .993.
    """
    assert bootstrap([0.0, 0.0, 1.0, 0.0, 0.0]) == Interval(0.2, 0.0, 0.6)


def test_bootstrap_is_close_to_the_normal_interval_of_many() -> None:
    values = [float(i % 10) for i in range(1000)]
    half = 1.96 * math.sqrt(8.25 / 1000)  # 0..9 have the variance (100 - 1) / 12
    out = bootstrap(values)
    assert out.mean == pytest.approx(4.5)
    assert (out.low, out.high) == pytest.approx((4.5 - half, 4.5 + half), abs=0.02)


def test_bootstrap_repeats_and_takes_few() -> None:
    assert bootstrap([1.0, 5.0, 2.0], seed=3) == bootstrap([1.0, 5.0, 2.0], seed=3)
    assert bootstrap([4.0]) == Interval(4.0, 4.0, 4.0)
    nothing = bootstrap([])
    assert all(math.isnan(x) for x in (nothing.mean, nothing.low, nothing.high))


@pytest.mark.parametrize("size", [7, 333, 1001])
def test_the_bootstrap_cut_into_pieces_is_the_whole_to_the_bit(size: int) -> None:
    x = np.random.default_rng(9).normal(size=size)
    means = x[np.random.default_rng(4).integers(0, size, (3_000, size))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    assert bootstrap(x.tolist(), 3_000, seed=4) == Interval(float(x.mean()), low, high)


def test_the_bootstrap_of_many_takes_little_memory() -> None:
    """10,000 resamples of 2,000 numbers are 160 MB of places and as much of values."""
    values = [float(i % 10) for i in range(2_000)]
    tracemalloc.start()
    try:
        bootstrap(values)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_pairs_that_differ_by_a_constant_leave_no_doubt() -> None:
    """However widely both vary."""
    assert paired([11.0, 51.0, 91.0], [10.0, 50.0, 90.0]) == Interval(1.0, 1.0, 1.0)
    out = paired([1.0, 0.0, 0.0, 0.0, 0.0], [0.0] * 5)
    assert out == Interval(0.2, 0.0, 0.6)


def test_pairs_have_two_halves() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        paired([1.0, 2.0], [1.0])


def test_running_std_by_hand() -> None:
    """1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9."""
    running = RunningStd()
    assert running.std == 0.0
    running.add([1.0])
    assert (running.mean, running.std) == (1.0, 0.0)
    running.add([2.0, 3.0])
    running.add([])
    running.add([6.0])
    assert (running.count, running.mean) == (4, pytest.approx(3.0))
    assert running.std == pytest.approx(math.sqrt(14 / 4))


def test_running_std_keeps_small_spreads_about_large_means() -> None:
    values = [1e8 + i % 7 for i in range(70)]
    running = RunningStd()
    for start in range(0, 70, 9):
        running.add(values[start : start + 9])
    assert running.std == pytest.approx(statistics.pstdev(range(7)), rel=1e-6)
