"""What changed from iteration to iteration, drawn from the metrics of runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rlchat.evaluation.report.elements import Figure, Section, Table, number, thinned
from rlchat.evaluation.report.sources import Source
from rlchat.evaluation.report.svg import GRID, SERIES, drawn
from rlchat.statistics import Interval, wilson

SIZE = (7.2, 3.0)
_HEALTH = (
    ("kl", "KL to the reference, nats a token"),
    ("entropy", "entropy, nats a token"),
    ("explained_variance", "explained variance of the critic"),
)
_MONITOR = (
    ("watch/proxy", "reward of held-out conversations"),
    ("watch/success", "success of held-out conversations"),
    ("watch/second_model", "second reward model"),
)


class Line:
    """One metric of one run over its iterations; values that are missing are left out."""

    def __init__(self, label: str, source: Source, key: str, error: str = ""):
        """Read it.

        Args:
            label: in the legend and the table.
            source: a run.
            key: of the metric.
            error: of the metric's standard error, if it has one.
        """
        self.label = label
        points = [(int(r["iteration"]), value(r, key), value(r, error)) for r in source.rows]
        known = [p for p in points if not math.isnan(p[1])]
        self.x, self.y = [p[0] for p in known], [p[1] for p in known]
        reach = [0.0 if math.isnan(p[2]) else 1.96 * p[2] for p in known]
        self.low = [y - r for y, r in zip(self.y, reach, strict=True)] if error else []
        self.high = [y + r for y, r in zip(self.y, reach, strict=True)] if error else []


def value(row: dict[str, Any], key: str) -> float:
    """A metric of an iteration; NaN where there is none."""
    found = row.get(key)
    known = isinstance(found, int | float) and math.isfinite(found)
    return float(found) if known else math.nan  # type: ignore[arg-type]


def learning(sources: Sequence[Source]) -> Section:
    """Success of the training users by iteration, or the return where success is not told."""
    lines: list[Line] = []
    told = any(not math.isnan(value(r, "success")) for s in sources for r in s.rows)
    name = "success" if told else "return"
    for source in sources:
        line = Line(source.name, source, name)
        if told:
            bands = [_success(source, x, y) for x, y in zip(line.x, line.y, strict=True)]
            line.low, line.high = [b.low for b in bands], [b.high for b in bands]
        lines.append(line)
    title = "Success on training users" if told else "Return, score an episode"
    figures = [figure("learning", title, lines, rate=told)] if any(x.y for x in lines) else []
    if told:
        returns = [Line(s.name, s, "return") for s in sources]
        if any(line.y for line in returns):
            figures.append(figure("return", "Return, score an episode", returns))
    about = "Bands are 95% Wilson intervals of one iteration's episodes." if told else ""
    return Section("learning", "Learning curves", about, figures=figures, notes=_empty(figures))


def _success(source: Source, iteration: int, rate: float) -> Interval:
    episodes = source.config.get("episodes")
    count = max(1, int(episodes)) if isinstance(episodes, int) else 64
    row = next(r for r in source.rows if r["iteration"] == iteration)
    told = [k for k in row if k.startswith("success/") and not math.isnan(value(row, k))]
    if any(k.startswith("success/") for k in row):
        count = sum(int(value(row, k.replace("success/", "episodes/", 1))) for k in told)
    return wilson(min(count, max(0, round(rate * count))), max(1, count))


def components(sources: Sequence[Source]) -> Section:
    """What each part of the score gave, by iteration."""
    figures = []
    for i, source in enumerate(sources):
        keys = dict.fromkeys(k for r in source.rows for k in r if k.startswith("parts/"))
        lines = [Line(k.removeprefix("parts/"), source, k) for k in keys]
        lines = [line for line in lines if any(line.y)]
        if lines:
            title = f"Score components of {source.name}, score an episode"
            figures.append(figure(f"components{i}", title, lines))
    about = "The return is their sum. A component that stays at zero is left out."
    return Section(
        "components", "Score components over time", about, figures=figures, notes=_empty(figures)
    )


def health(sources: Sequence[Source]) -> Section:
    """KL, entropy and explained variance."""
    figures = []
    for key, title in _HEALTH:
        lines = [Line(s.name, s, key) for s in sources]
        if any(line.y for line in lines):
            figures.append(figure(key, f"{title[0].upper()}{title[1:]}", lines))
    about = (
        "KL tells how far the policy went from its start, entropy how much it still tries, "
        "explained variance how well the critic foresees returns."
    )
    return Section("health", "Policy and critic", about, figures=figures, notes=_empty(figures))


def monitor(sources: Sequence[Source]) -> Section:
    """What the reward monitor measured, and when it rang."""
    figures, notes = [], []
    for key, title in _MONITOR:
        lines = [Line(s.name, s, key, f"{key}_error") for s in sources]
        if any(line.y for line in lines):
            name, rate = key.replace("/", "-"), key == "watch/success"
            figures.append(figure(name, f"{title[0].upper()}{title[1:]}", lines, rate=rate))
    for source in sources:
        rung = [int(r["iteration"]) for r in source.rows if value(r, "watch/alarm") > 0]
        if rung:
            told = ", ".join(map(str, rung))
            notes.append(
                f"{source.name}: alarm in iteration {told}: the reward rose beyond noise while "
                "what it does not pay for fell."
            )
        elif any("watch/alarm" in r for r in source.rows):
            notes.append(f"{source.name}: no alarm.")
    if not figures:
        notes.append(
            "Nothing was measured: the monitor watches rewards that are learned (--reward.model)."
        )
    about = "Bars are 95% intervals. Both should rise together."
    return Section(
        "monitor", "Reward monitor", about if figures else "", figures=figures, notes=notes
    )


def figure(name: str, title: str, lines: Sequence[Line], rate: bool = False) -> Figure:
    """Draw lines over iterations, with bands or bars where they have intervals."""

    def draw(canvas: Any) -> None:
        from matplotlib.ticker import MaxNLocator, PercentFormatter

        axes = canvas.subplots()
        for line, color in zip(lines, _colors(len(lines)), strict=True):
            if line.low and not name.startswith("watch"):
                axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.18, lw=0)
            elif line.low:
                axes.vlines(line.x, line.low, line.high, color=color, lw=1.5)
            axes.plot(line.x, line.y, "o-", ms=3, lw=1.6, color=color)
        axes.set_xlabel("iteration")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if rate:
            axes.set_ylim(0, 1)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        else:
            axes.axhline(0, color=GRID, lw=1)

    legend = [(f"s{i % len(SERIES)}", line.label) for i, line in enumerate(lines)]
    svg = drawn(draw, f"{title}, by iteration; the numbers are in the table below.", name, SIZE)
    return Figure(title, svg, legend, _numbers(title, lines, rate))


def _numbers(title: str, lines: Sequence[Line], rate: bool) -> Table:
    form = "{:.0%}" if rate else "{:.3g}"
    known = [dict(zip(line.x, range(len(line.x)), strict=True)) for line in lines]
    rows = []
    for iteration in sorted({x for line in lines for x in line.x}):
        cells = [str(iteration)]
        for line, places in zip(lines, known, strict=True):
            if (at := places.get(iteration)) is None:
                cells.append("–")
                continue
            told = number(line.y[at], form)
            if line.low:
                told += f" ({number(line.low[at], form)} … {number(line.high[at], form)})"
            cells.append(told)
        rows.append(cells)
    shown = thinned(rows)
    more = "" if len(shown) == len(rows) else f"; {len(shown)} of {len(rows)}, evenly"
    return Table(f"{title}, by iteration{more}", ["iteration", *(x.label for x in lines)], shown)


def _colors(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]


def _empty(figures: Sequence[Figure]) -> list[str]:
    return [] if figures else ["There is nothing to draw: no finished iteration of a run."]
