"""Intervals of sweeps hold the truth as often as the docs say: a short `make coverage`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from sweep_coverage import differences_held, levels_held

from rlchat.statistics.aggregates import HELD

FEW = 200  # sweeps: a share of .95 is below .90 in one of a thousand


@pytest.mark.parametrize("runs", [3, 5, 10])
def test_the_mean_s_interval_holds_and_the_bootstrap_s_as_often_as_is_said(runs: int) -> None:
    found = levels_held("alike", runs, FEW, runs)
    assert found["mean, runs and users"] >= 0.90, found
    assert found["IQM, bootstrap"] == pytest.approx(HELD[runs], abs=0.09)


@pytest.mark.parametrize("runs", [3, 5])
def test_intervals_of_differences_hold(runs: int) -> None:
    found = differences_held("alike", runs, FEW, runs)
    assert min(found["difference"], found["improvement"]) >= 0.90, found
