"""Results of evaluations as lines of text and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.statistics import Interval

FORMATS = {
    "success": "{:.0%}",
    "score": "{:+.2f}",
    "turns": "{:.1f}",
    "cost": "{:.2f}",
    "regret": "{:+.2f}",
    "hit rate": "{:.0%}",
    "style followed": "{:.0%}",
}


def summary(result: EvaluationResult) -> str:
    """Summarize what was measured of one agent in a line, for people who wait for more."""
    metrics = result.metrics
    said = ", ".join(
        f"{name} {with_interval(metrics[name], FORMATS[name])}"
        for name in ("success", "score")
        if name in metrics
    )
    return f"{result.agent}: {said}; {len(result.episodes)} users of the {result.split} side"


def with_interval(interval: Interval, form: str) -> str:
    """``mean (low … high)``; alone where no interval is known, and a dash where no mean is."""
    if math.isnan(interval.mean):
        return "–"
    mean, low, high = (form.format(x) for x in (interval.mean, interval.low, interval.high))
    return mean if math.isnan(interval.low) else f"{mean} ({low} … {high})"


def markdown(results: Sequence[EvaluationResult]) -> str:
    """The results table for a document."""
    names = measured_names(results)
    lines = [f"| agent | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
    for result in results:
        lines.append(f"| {result.agent} | {' | '.join(cells(result, names))} |")
    return "\n".join(lines)


def measured_names(results: Sequence[EvaluationResult]) -> list[str]:
    """Every metric that some result has; cost only where some agent caused any."""
    found = dict.fromkeys(name for result in results for name in result.metrics)
    if not any(trajectory.cost for result in results for trajectory in result.episodes):
        found.pop("cost", None)
    return list(found)


def cells(result: EvaluationResult, names: Sequence[str]) -> list[str]:
    """Format a result's metrics by name, each with its interval; empty where it has none."""
    metrics = result.metrics
    return [with_interval(metrics[n], form_of(n)) if n in metrics else "" for n in names]


def form_of(metric: str) -> str:
    """The format of a metric's numbers."""
    return "{:.0%}" if metric.startswith("pass^") else FORMATS[metric]
