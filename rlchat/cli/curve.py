"""The course of a training in the terminal: a curve, or one line of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from rlchat.statistics import Interval
from rlchat.training.config import TrainConfig
from rlchat.training.learning_curve import Curve, Rows, measured, success_interval
from rlchat.training.run_folder import RunFolder, read_metrics

_WIDEST = 100  # characters


def show_curve(run: RunFolder, config: TrainConfig, console: Console) -> None:
    """Print the learning curve of a run.

    Args:
        run: has the metrics.
        config: of the run.
        console: a terminal, or a file.
    """
    rows = read_metrics(run.metrics)
    points = len(Curve.of(rows, config.episodes).values)
    if points > 1 and not console.options.ascii_only:
        console.print(terminal_curve(rows, console.width, config.episodes), soft_wrap=True)


def terminal_curve(rows: Rows, width: int = 80, episodes: int = 64) -> Text:
    """The learning curve in so many columns: a line, with its 95% intervals as points.

    Args:
        rows: metrics, one row an iteration.
        width: of the terminal.
        episodes: of an iteration, on which the intervals depend.
    """
    from uniplot import plot_to_string

    curve, wide = Curve.of(rows, episodes), min(width, _WIDEST)
    options: dict[str, Any]
    if curve.band:
        bounds = [[i.low for i in curve.band], [i.high for i in curve.band]]
        drawn = [[100 * v for v in series] for series in (*bounds, curve.values)]
        options = {"lines": [False, False, True], "color": ["blue", "blue", "green"]}
        options |= {"title": "success by iteration, 95% intervals"}
        options |= {"y_min": 0, "y_max": 100, "y_unit": "%"}
    else:
        drawn, options = [curve.values], {"lines": True, "color": ["green"]}
        options |= {"title": "return by iteration"}
    picture = plot_to_string(
        ys=drawn,
        xs=[curve.iterations] * len(drawn),
        width=wide,
        line_length_hard_cap=wide,
        height=12,
        x_gridlines=[],
        y_gridlines=[],
        **options,
    )
    return Text.from_ansi(picture)


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
