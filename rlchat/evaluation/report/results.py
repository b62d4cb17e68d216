"""What evaluations measured: tables with intervals, differences, and a heat map of many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlchat.evaluation.evaluate import EvaluationResult, difference, p_value
from rlchat.evaluation.report.elements import Figure, Section, Table, number, plain
from rlchat.evaluation.report.sources import Source
from rlchat.evaluation.report.svg import LEVELS, drawn
from rlchat.evaluation.summary import FORMATS, cells, measured_names, with_interval
from rlchat.statistics.significance import holm

_DIFFERENCES = {"success": "{:+.0%}", "score": "{:+.2f}", "turns": "{:+.1f}", "cost": "{:+.2f}"}
Named = tuple[str, EvaluationResult]
"""What an agent is called in the report, and what was measured of it."""
Cell = tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...], str]
"""Environment, users, knowledge, stated style and split."""


def evaluations(sources: Sequence[Source]) -> Section:
    """All evaluations, those of the same users side by side."""
    tables: list[Table] = []
    groups = by_cell(sources)
    corrected = _corrected(groups)
    for cell, named in groups.items():
        results = [result for _, result in named]
        names, counts = measured_names(results), sorted({len(r.episodes) for r in results})
        tables.append(
            Table(
                f"{told(cell)}, {' or '.join(map(str, counts))} episodes",
                ["agent", *names],
                [[name, *cells(result, names)] for name, result in named],
            )
        )
        tables += _differences(cell, named, corrected)
    notes = [] if tables else ["There is no evaluation yet; rlchat eval makes one."]
    about = "Means with 95% intervals."
    if corrected:
        about += (
            " Differences are paired: the same users, one by one. p is of success, or of the score "
            "where no success is told."
        )
    if len(corrected) > 1:
        about += f" Holm's p holds for all {len(corrected)} comparisons of this page together."
    return Section("results", "Results", about if tables else "", tables=tables, notes=notes)


def by_cell(sources: Sequence[Source]) -> dict[Cell, list[Named]]:
    """Results of the same environment and users, under names that tell them apart."""
    groups: dict[Cell, list[Named]] = {}
    for source in sources:
        for result in source.results:
            if not result.episodes:
                continue
            env = result.env
            about = tuple(env.users), tuple(env.knowledge), tuple(env.stated_style)
            cell = env.env, *about, result.split
            name = result.agent if len(sources) == 1 else f"{result.agent}, {source.name}"
            groups.setdefault(cell, []).append((name, result))
    return groups


def told(cell: Cell) -> str:
    """An environment and its users in words."""
    env, users, knowledge, style, split = cell
    more = f", users {', '.join(users)}" if users else ""
    more += f", knowledge {', '.join(knowledge)}" if knowledge else ""
    more += f", stated style {', '.join(style)}" if style else ""
    return f"{env}, {split} side{more}"


def _compared(cell: Cell, named: Sequence[Named]) -> list[tuple[str, str, EvaluationResult]]:
    """Agents that talked to the same users as the first: a key, the name and the result of each."""
    (_, base), *others = named
    seeds = [e.seed for e in base.episodes]
    return [
        (f"{place} in {cell}", name, result)
        for place, (name, result) in enumerate(others)
        if [e.seed for e in result.episodes] == seeds
    ]


def _corrected(groups: Mapping[Cell, Sequence[Named]]) -> dict[str, float]:
    """P-values of all comparisons by their keys, corrected for one another (Holm)."""
    return holm(
        {
            key: p_value(result, named[0][1])
            for cell, named in groups.items()
            for key, _, result in _compared(cell, named)
        }
    )


def _differences(cell: Cell, named: Sequence[Named], corrected: Mapping[str, float]) -> list[Table]:
    """Paired differences of all agents against the first that talked to the same users."""
    first, base = named[0]
    known = measured_names([result for _, result in named])
    rows, names = [], [name for name in _DIFFERENCES if name in known]
    for key, name, result in _compared(cell, named):
        found = difference(result, base)
        row = [with_interval(found[n], _DIFFERENCES[n]) if n in found else "" for n in names]
        row.append(f"{p_value(result, base):.2g}")
        if len(corrected) > 1:
            row.append(f"{corrected[key]:.2g}")
        rows.append([f"{name} minus {first}", *row])
    if not rows:
        return []
    head = ["agents", *names, "p", *(["p, Holm"] if len(corrected) > 1 else [])]
    return [Table(f"Paired differences, {told(cell)}", head, rows)]


def matrix(sources: Sequence[Source]) -> Section | None:
    """Agents by environments and users, as a heat map; None where there is but one column.

    Each cell is the mean of success, or of the score where success is not told.
    """
    groups = by_cell(sources)
    agents = list(dict.fromkeys(name for named in groups.values() for name, _ in named))
    if len(groups) < 2:
        return None
    rate = all("success" in r.metrics for named in groups.values() for _, r in named)
    metric = "success" if rate else "score"
    found = {
        (name, cell): result.metrics[metric]
        for cell, named in groups.items()
        for name, result in named
    }
    means = [[_mean(found.get((a, c))) for c in groups] for a in agents]
    columns = [told(cell) for cell in groups]
    title = f"{metric.capitalize()} of agents by environment and users"
    rows = [
        [
            agent,
            *(
                with_interval(found[agent, c], FORMATS[metric]) if (agent, c) in found else "–"
                for c in groups
            ),
        ]
        for agent in agents
    ]
    table = Table(title, ["agent", *columns], rows)
    svg = heat_map(means, agents, columns, title, rate)
    about = "Darker is higher; the table below has the intervals."
    figures = [Figure(title, svg, (), table)]
    return Section("matrix", "Agents by environments and users", about, figures=figures)


def _mean(interval: Any) -> float:
    return math.nan if interval is None else float(interval.mean)


def heat_map(
    means: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    rate: bool,
) -> Any:
    """Draw numbers by rows and columns; NaN is an empty cell."""
    known = [v for line in means for v in line if not math.isnan(v)]
    low, high = (0.0, 1.0) if rate else (min(known, default=0.0), max(known, default=1.0))

    def draw(canvas: Any) -> None:
        from matplotlib.colors import BoundaryNorm, ListedColormap
        from numpy import array, linspace, ma

        axes = canvas.subplots()
        span = high if high > low else low + 1.0
        bounds = linspace(low, span, len(LEVELS) + 1)
        axes.pcolormesh(
            ma.masked_invalid(array(means, dtype=float)),
            cmap=ListedColormap(list(LEVELS)),
            norm=BoundaryNorm(bounds, len(LEVELS)),
            rasterized=False,
        )
        for y, line in enumerate(means):
            for x, v in enumerate(line):
                form = "{:.0%}" if rate else "{:+.2f}"
                axes.text(x + 0.5, y + 0.5, number(v, form), ha="center", va="center")
        axes.set_xticks([x + 0.5 for x in range(len(columns))], [plain(c) for c in columns])
        axes.set_yticks([y + 0.5 for y in range(len(rows))], [plain(r) for r in rows])
        axes.tick_params(axis="x", labelrotation=20 if len(columns) > 2 else 0)
        axes.invert_yaxis()
        axes.grid(False)

    size = (2.6 + 1.3 * len(columns), 1.2 + 0.45 * len(rows))
    return drawn(draw, f"{title}; the numbers are in the table below.", "matrix", size)
