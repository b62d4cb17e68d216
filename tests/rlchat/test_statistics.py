from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from rlchat.statistics import (
    Interval,
    RunningStd,
    by_cluster,
    mean_interval,
    paired,
    pass_power,
    wilson,
)
from rlchat.statistics.intervals import interval_of_rate, mean_intervals
from rlchat.statistics.power import episodes_needed, looks
from rlchat.statistics.significance import holm, mcnemar, sign_flip


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


@pytest.mark.parametrize(
    ("ones", "n", "low", "high"),
    # Quantiles of Beta(ones, zeros + 1/2) and Beta(ones + 1/2, zeros), from tables.
    [
        (0, 20, 0.0, 0.11941),
        (20, 20, 0.88059, 1.0),
        (3, 20, 0.03293, 0.35890),
        (10, 20, 0.27880, 0.72120),
    ],
)
def test_of_zeros_and_ones_the_bounds_are_betas(ones: int, n: int, low: float, high: float) -> None:
    out = mean_interval([1.0] * ones + [0.0] * (n - ones), 0.0, 1.0)
    assert out.mean == ones / n
    assert (out.low, out.high) == pytest.approx((low, high), abs=2.5e-3)


def test_of_many_the_bounds_are_the_normal_ones() -> None:
    values = [float(i % 10) for i in range(1000)]
    half = 1.96 * math.sqrt(8.25 / 1000)  # 0..9 have the variance (100 - 1) / 12
    out = mean_interval(values)
    assert out.mean == pytest.approx(4.5)
    assert (out.low, out.high) == pytest.approx((4.5 - half, 4.5 + half), abs=0.01)


def test_nothing_observed_is_not_nothing_possible() -> None:
    """Twenty episodes without a cost: a cost in one of nine is not refuted."""
    none = mean_interval([0.0] * 20, 0.0, 1.0)
    assert (none.mean, none.low) == (0.0, 0.0)
    assert 0.1 < none.high < 0.13
    assert mean_interval([4.0]) == Interval(4.0, 4.0, 4.0)  # where no other value is possible
    nothing = mean_interval([])
    assert all(math.isnan(x) for x in (nothing.mean, nothing.low, nothing.high))


def test_bounds_move_with_the_values_and_turn_with_their_sign() -> None:
    x = [0.3, 1.0, 0.9, 0.95, -1.2]
    out, moved = mean_interval(x, -2.0, 1.0), mean_interval([3 * v + 5 for v in x], -1.0, 8.0)
    assert (moved.low, moved.high) == pytest.approx((3 * out.low + 5, 3 * out.high + 5))
    turned = mean_interval([-v for v in x], -1.0, 2.0)
    assert (turned.low, turned.high) == pytest.approx((-out.high, -out.low))
    assert out.low < out.mean < out.high


def test_many_samples_at_once_are_those_of_each() -> None:
    samples = np.random.default_rng(0).exponential(size=(5, 30))
    low, high = mean_intervals(samples, 0.0, 9.0)
    for row, bounds in zip(samples, zip(low, high, strict=True), strict=True):
        one = mean_interval(row.tolist(), 0.0, 9.0)
        assert (one.low, one.high) == pytest.approx(bounds)


def test_pairs_that_differ_by_a_constant_leave_no_doubt_but_what_was_not_seen() -> None:
    """However widely both vary."""
    assert paired([11.0, 51.0, 91.0], [10.0, 50.0, 90.0]).high == 1.0
    alike = paired([1.0] * 30, [1.0] * 30, 1.0)
    assert alike.mean == 0.0 and -0.12 < alike.low < -0.05 and 0.05 < alike.high < 0.12


def test_pairs_have_two_halves() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        paired([1.0, 2.0], [1.0])


def test_clusters_are_means_in_their_order() -> None:
    assert by_cluster([1.0, 0.0, 3.0, 1.0], ["b", "a", "b", "a"]) == [2.0, 0.5]
    assert interval_of_rate([0.0, 1.0, 1.0]) == wilson(2, 3)
    halves = interval_of_rate([0.5] * 10)
    assert halves.mean == 0.5 and 0.0 < halves.low < 0.5 < halves.high < 1.0


def test_pass_power_by_hand() -> None:
    """3 of 4 succeeded: of the 6 pairs 3 are successes alone, of the 4 triples 1."""
    assert [pass_power(3, 4, k) for k in (1, 2, 3, 4)] == [0.75, 0.5, 0.25, 0.0]
    for n, k, p in ((5, 3, 0.7), (8, 2, 0.35)):  # unbiased: its mean is p^k
        chances = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
        mean = sum(chance * pass_power(c, n, k) for c, chance in enumerate(chances))
        assert mean == pytest.approx(p**k)


def test_mcnemar_by_hand() -> None:
    """Of 9 pairs that differ, 2 the other way: 2·(1 + 9 + 36/2) / 512."""
    assert mcnemar(7, 2) == mcnemar(2, 7) == pytest.approx((2 * (1 + 9) + 36) / 512)
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1.0
    assert mcnemar(6, 0) == pytest.approx(1 / 64)


def test_sign_flips_by_hand() -> None:
    """1, 1, 2: of 8 signs only ±4 are as far; of six ones they are McNemar's."""
    assert sign_flip([1.0, 1.0, 2.0]) == pytest.approx(2 / 8 / 2)
    assert sign_flip([1.0] * 7 + [-1.0] * 2 + [0.0] * 30) == pytest.approx(mcnemar(7, 2))
    assert sign_flip([0.0, 0.0]) == 1.0
    many = [1.0] * 30 + [-1.0] * 12
    assert sign_flip(many) == pytest.approx(mcnemar(30, 12), abs=2e-3)


def test_no_permutation_is_impossible_and_roundings_are_ties() -> None:
    """What was seen is one of the draws; .1 + .2 is not .3 in doubles, but as far."""
    assert 0.0 < sign_flip([1.0] * 40) < 1e-3
    assert sign_flip([0.1, 0.2, -0.3]) == pytest.approx(sign_flip([1.0, 2.0, -3.0]))
    assert sign_flip([0.1, 0.2, 0.3]) == pytest.approx(2 / 8 / 2)


def test_holm_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_episodes_needed_by_hand() -> None:
    """Connor's formula: (1.96·√.3 + .8416·√(.3 - .01))² / .01 = 233.2."""
    assert episodes_needed(0.1, 0.3) == 234
    assert episodes_needed(-0.1, 0.3) == 234
    assert episodes_needed(0.2, 0.1) == episodes_needed(0.2, 0.2)


def test_the_power_is_what_was_asked_for() -> None:
    n = episodes_needed(0.1, 0.3)
    draws = np.random.default_rng(2).multinomial(n, [0.2, 0.1, 0.7], 2_000)
    seen = np.mean([mcnemar(int(b), int(c)) < 0.05 for b, c, _ in draws])
    assert 0.77 < seen < 0.84


def test_looks_are_few_and_whole_blocks() -> None:
    assert looks(40) == [40]
    assert looks(110) == [50, 63, 79, 98, 110]
    assert all(n % 64 == 0 for n in looks(1_000, 64)[:-1])


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
