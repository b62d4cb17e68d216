"""Intervals hold the truth, tests and alarms their level: a short version of `make coverage`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from alarm_rates import rings
from interval_coverage import (
    HIGH,
    LOW,
    RATES,
    SIZES,
    bca,
    coverage,
    rejections,
    wilson_holds,
    within_reach,
)
from pages import put
from stopping import stopped, stopped_against, stopped_trials
from synthetic import Synthetic

FEW = 400  # evaluations: of 95%, fewer than 91.8% hold in one of a thousand


@pytest.mark.parametrize("n", [20, 50, 200])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.9, 0.98])
def test_intervals_hold_the_truth(rate: float, n: int) -> None:
    """The bootstrap held .57 to .86 of skewed scores at 20, and .66 to .78 of pairs."""
    found = coverage(Synthetic(FEW, n), rate, n)
    success = found.pop("success")
    assert success >= 0.92  # 92% at the edges
    assert min(found.values()) >= 0.915, found
    if n == 200:
        assert max(found.values()) <= 0.995, found


def test_wilson_is_low_only_where_every_interval_of_a_rate_is_low_or_high() -> None:
    low = {(n, rate) for n in SIZES for rate in RATES if wilson_holds(rate, n) < LOW}
    none = {(n, rate) for n in SIZES for rate in RATES if not within_reach(rate, n)}
    assert low == none == {(20, 0.05), (20, 0.95), (50, 0.02), (50, 0.98)}
    high = {(n, rate) for n in SIZES for rate in RATES if wilson_holds(rate, n) > HIGH}
    assert high == {(20, 0.3), (20, 0.7), (50, 0.1), (50, 0.9)}


def test_bootstraps_fail_where_the_intervals_hold() -> None:
    """Of 20 episodes of a rate of .98, two thirds have no failure that could be drawn."""
    pytest.importorskip("scipy", reason="pip install -e '.[dev]' brings scipy")
    world = Synthetic(60, 3)
    assert bca(world, world.successes(0.98, 20), 0.98) < 0.5
    assert bca(world, world.costs(0.05, 20), 0.05) < 0.8
    assert bca(world, world.successes(0.5, 200), 0.5) > 0.85


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.8])
def test_tests_of_equal_agents_hold_their_level(rate: float) -> None:
    found = rejections(Synthetic(FEW, 1), rate, 50)
    assert max(found.values()) <= 0.085, found


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.8])
def test_stopping_at_a_width_changes_neither(rate: float) -> None:
    found = stopped(Synthetic(FEW, 2), rate, 0.15, most=1_000)
    assert found["success"] >= 0.915 and found["score"] >= 0.915
    assert found["McNemar"] <= 0.085
    assert 50 <= found["users"] < 400


@pytest.mark.parametrize("shared", [0.0, 0.6])
def test_stopping_at_the_width_of_a_difference_keeps_its_coverage(shared: float) -> None:
    found = stopped_against(Synthetic(FEW, 4), 0.5, 0.2, shared, most=600)
    assert min(found["success"], found["difference"]) >= 0.915, found
    own = stopped(Synthetic(FEW, 4), 0.5, 0.2, most=600)
    assert found["users"] > own["users"]  # a difference takes more to be known


def test_stopping_where_users_are_met_several_times_keeps_coverage() -> None:
    found = stopped_trials(Synthetic(FEW, 5), 0.5, 0.2, most=300)
    assert found["success"] >= 0.915, found


def test_alarms_ring_when_success_falls_and_seldom_when_it_stays() -> None:
    rng = np.random.default_rng(0)
    assert rings(rng, [0.3] * 7, 64, 300) <= 0.08  # .04 and four standard errors
    assert rings(rng, [0.3] * 7, 64, 200, second=True) <= 0.08
    assert rings(rng, [0.7] * 4 + [0.4] * 3, 64, 100) >= 0.95


def test_what_is_made_stands_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<a>\nold\n<b>\nafter\n", "utf-8")
    for _ in range(2):
        put(page, "new", "<a>", "<b>")
    assert page.read_text("utf-8") == "before\n<a>\n\nnew\n\n<b>\nafter\n"
