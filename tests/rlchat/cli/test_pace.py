"""What other processes use, by counters that are set by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import psutil
import pytest

from rlchat.cli.live.pace import Load, Used, processors, read_used, slowed


def counted(*readings: Used) -> Callable[[], Used]:
    following: Iterator[Used] = iter(readings)
    return lambda: next(following)


def test_what_is_not_own_is_of_others() -> None:
    load = Load(counted(Used(0.0, 50.0, 20.0), Used(10.0, 69.6, 30.0), Used(12.0, 71.6, 32.0)), 2)
    assert load.cores == 2
    assert load.sample() == pytest.approx(0.96)  # (19.6 - 10) / 10
    assert load.sample() == 0.0  # what came since is all own


def test_bounds_and_what_cannot_be_known() -> None:
    # A child that nobody waited for takes its seconds with it; no more than all cores are used.
    load = Load(counted(Used(0.0, 0.0, 5.0), Used(1.0, 2.5, 0.0), Used(1.0, 2.5, 0.0)), 2)
    assert load.sample() == 2.0
    assert math.isnan(load.sample())  # no time has passed

    def refused() -> Used:
        raise psutil.AccessDenied

    assert math.isnan(Load(refused, 2).sample())


@pytest.mark.parametrize(
    ("others", "cores", "speed", "line"),
    [
        (0.24, 2, 0.4, ""),
        (math.nan, 2, 0.4, ""),
        (
            0.96,
            2,
            0.4,
            "other processes use 0.96 of 2 cores; practice runs at 0.4 of its fastest speed",
        ),
        (0.96, 2, None, "other processes use 0.96 of 2 cores"),
        (
            0.25,
            1,
            1.0,
            "other processes use 0.25 of 1 core; practice runs at its fastest speed",
        ),
    ],
)
def test_the_sentence(others: float, cores: int, speed: float | None, line: str) -> None:
    assert slowed(others, cores, speed) == line


def test_the_system_counts_and_never_backwards() -> None:
    first = read_used()
    sum(range(100_000))
    second = read_used()
    assert second.clock > first.clock
    assert second.everybody >= first.everybody > 0
    assert second.own >= first.own > 0
    load = Load()
    assert load.cores == len(processors()) >= 1


def test_time_for_guests_is_not_counted_twice_and_stolen_time_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = psutil.cpu_times()._fields
    by_hand = {"user": 5.0, "system": 2.0, "idle": 100.0, "iowait": 9.0, "steal": 1.0, "guest": 3.0}
    times = type(psutil.cpu_times())(*(by_hand.get(name, 0.0) for name in fields))
    monkeypatch.setattr("rlchat.cli.live.pace.processors", lambda: {0, 2})
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [times] * 4)
    expected = 2 * sum(by_hand[n] for n in ("user", "system", "steal") if n in fields)
    assert read_used().everybody == expected  # 16 on Linux: two of the four, 5 + 2 + 1 each
