"""Intervals hold the truth, and tests their level: a short version of `make coverage`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from interval_coverage import World, coverage, rejections, stopped
from pages import put

FEW = 400  # evaluations: of 95%, fewer than 91.8% hold in one of a thousand


@pytest.mark.parametrize("n", [20, 50, 200])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.9, 0.98])
def test_intervals_hold_the_truth(rate: float, n: int) -> None:
    """The bootstrap held .57 to .86 of skewed scores at 20, and .66 to .78 of pairs."""
    found = coverage(World(FEW, n), rate, n)
    success = found.pop("success")
    assert success >= 0.88  # 92% at the edges
    assert min(found.values()) >= 0.915, found
    if n == 200:
        assert max(found.values()) <= 0.995, found


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.8])
def test_tests_of_equal_agents_hold_their_level(rate: float) -> None:
    found = rejections(World(FEW, 1), rate, 50)
    assert max(found.values()) <= 0.085, found


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.8])
def test_stopping_at_a_width_changes_neither(rate: float) -> None:
    found = stopped(World(FEW, 2), rate, 0.15, most=1_000)
    assert found["coverage"] >= 0.915 and found["McNemar"] <= 0.085
    assert 50 <= found["episodes"] < 400


def test_what_is_made_stands_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<a>\nold\n<b>\nafter\n", "utf-8")
    for _ in range(2):
        put(page, "new", "<a>", "<b>")
    assert page.read_text("utf-8") == "before\n<a>\n\nnew\n\n<b>\nafter\n"
