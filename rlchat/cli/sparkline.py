"""The course of a training in one line of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlchat.statistics import Interval
from rlchat.training.learning_curve import measured, success_interval

BARS = "▁▂▃▄▅▆▇█"
_SHOWN = 48  # iterations; with their name and the last value they fit 80 columns


def sparkline(values: Sequence[float], low: float = 0.0, high: float = 1.0) -> str:
    """One bar a value, between ``low`` and ``high``; a blank for NaN."""
    return "".join(" " if math.isnan(v) else BARS[_height(v, low, high)] for v in values)


def course(rows: Sequence[Mapping[str, Any]], episodes: int) -> str:
    """A sparkline of success with the last value and its interval.

    Where success is not known, the return takes its place, on a scale from its lowest to its
    highest.

    Args:
        rows: metrics of the iterations so far.
        episodes: of an iteration, on which the interval depends.
    """
    name, values = measured(rows)
    known = [v for v in values if not math.isnan(v)]
    if not known:
        return ""
    if name == "success":
        interval = success_interval(known[-1], episodes)
        bars = sparkline(values[-_SHOWN:])
        return f"success {bars} {interval.mean:.0%} ({bounds(interval)})"
    low, high = min(known), max(known)
    bars = sparkline(values[-_SHOWN:], low, high)
    return f"return {bars} {known[-1]:+.2f} (from {low:+.2f} to {high:+.2f})"


def bounds(interval: Interval) -> str:
    """The bounds of a rate's interval, such as ``53–77%``."""
    return f"{100 * interval.low:.0f}–{interval.high:.0%}"


def _height(value: float, low: float, high: float) -> int:
    share = (value - low) / (high - low) if high > low else 0.0
    return min(len(BARS) - 1, max(0, int(share * len(BARS))))
