"""The learning curve: success over iterations, as numbers and as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.files import write_bytes
from rlchat.statistics import Interval, wilson
from rlchat.training.comparison import before_and_after, by_environment
from rlchat.training.config import TrainConfig
from rlchat.training.run_folder import RunFolder, read_metrics

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Curve:
    """Success over iterations with its intervals; the return without, where success is unknown."""

    name: str
    iterations: list[int]
    values: list[float]
    band: list[Interval]

    @classmethod
    def of(cls, rows: Rows, episodes: int) -> Curve:
        """Read it from metrics; iterations without a value are left out.

        Args:
            rows: one an iteration.
            episodes: of an iteration, on which the intervals depend.
        """
        name, values = measured(rows)
        known = [(r, v) for r, v in zip(rows, values, strict=True) if not math.isnan(v)]
        band: list[Interval] = []
        if name == "success":
            band = [success_interval(v, telling(row, episodes)) for row, v in known]
        return cls(name, [int(row["iteration"]) for row, _ in known], [v for _, v in known], band)


def leave_curve(run: RunFolder, results: Sequence[EvaluationResult], config: TrainConfig) -> None:
    """Draw the learning curve of a run into its folder, if there is an iteration to draw.

    Args:
        run: has the metrics.
        results: of the evaluation before and after, if there was one.
        config: of the run.
    """
    rows = read_metrics(run.metrics)
    if Curve.of(rows, config.episodes).values:
        title = f"Learning curve, {config.env}"
        groups = by_environment(results)  # of several, no one point tells
        evaluated = before_and_after(groups[0]) if len(groups) == 1 else ()
        draw_png(rows, run.folder / "curve.png", config.episodes, evaluated, title)


def draw_png(
    rows: Rows,
    path: Path,
    episodes: int = 64,
    evaluated: Sequence[EvaluationResult] = (),
    title: str = "Learning curve",
) -> None:
    """Draw the learning curve into a PNG file, whole or not at all.

    Args:
        rows: metrics, one row an iteration.
        path: the file.
        episodes: of an iteration, on which the intervals depend.
        evaluated: evaluations before and after, drawn as points with their intervals.
        title: stands above.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    curve = Curve.of(rows, episodes)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, parse_math=False)
    axes.set_xlabel("iteration")
    axes.set_ylabel("success" if curve.band else "return, score an episode")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _draw_iterations(axes, curve)
    _draw_evaluations(axes, curve, evaluated)
    if curve.band:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="best")
    drawing = io.BytesIO()
    figure.savefig(drawing, format="png", dpi=120)
    write_bytes(path, drawing.getvalue())


def _draw_iterations(axes: Any, curve: Curve) -> None:
    axes.plot(curve.iterations, curve.values, "o-", ms=3, color="#3182bd", label="training users")
    if curve.band:
        low, high = [i.low for i in curve.band], [i.high for i in curve.band]
        axes.fill_between(
            curve.iterations, low, high, color="#9ecae1", alpha=0.5, lw=0, label="95% interval"
        )


def _draw_evaluations(axes: Any, curve: Curve, evaluated: Sequence[EvaluationResult]) -> None:
    """The policy of the first iteration, and the one after the last update."""
    metric = "success" if curve.band else "score"
    places = (curve.iterations[0], curve.iterations[-1] + 1)
    for place, result, mark in zip(places, evaluated, "sD", strict=False):
        if (interval := result.metrics.get(metric)) is None:
            continue
        # Of values that are all alike, a bound can be off by a rounding.
        below, above = interval.mean - interval.low, interval.high - interval.mean
        reach = [[max(0.0, below)], [max(0.0, above)]]
        label = f"{result.agent}: {len(result.episodes)} {result.split} users, greedy"
        axes.errorbar(
            [place], [interval.mean], yerr=reach, fmt=mark, capsize=4, color="#e6550d", label=label
        )


def measured(rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[float]]:
    """The metric of the curve and its values: success, or return where success is unknown.

    A value that is missing is NaN.
    """
    for name in ("success", "return"):
        values = [_number(row.get(name)) for row in rows]
        if not all(math.isnan(v) for v in values):
            return name, values
    return "return", [math.nan] * len(rows)


def telling(row: Mapping[str, Any], episodes: int) -> int:
    """Of an iteration's episodes, those of environments that tell success."""
    told = [key for key in row if key.startswith("success/")]
    if not told:
        return episodes
    known = [key for key in told if not math.isnan(_number(row[key]))]
    return sum(int(row[key.replace("success/", "episodes/", 1)]) for key in known)


def success_interval(rate: float, episodes: int) -> Interval:
    """The Wilson interval of a rate of success over so many episodes."""
    return wilson(round(rate * episodes), episodes)


def _number(value: object) -> float:
    """JSON has null for NaN."""
    return float(value) if isinstance(value, int | float) else math.nan
