"""What a sweep came to, as tables and curves for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from rlchat.cli.tables import WIDEST
from rlchat.evaluation.summary import with_interval
from rlchat.statistics.aggregates import caution

if TYPE_CHECKING:
    from rich.console import Console

    from rlchat.training.sweep.aggregates import Aggregates, Band, Comparison, Level
    from rlchat.training.sweep.sweep import Sweep

_LINES = 4  # settings whose curves can be told apart in a terminal
_COLORS = ("green", "blue", "red", "magenta")


def show_aggregates(sweep: Sweep, console: Console) -> None:
    """Print levels, comparisons and learning curves of what is finished."""
    found = sweep.aggregates()
    if found is None:
        return
    console.print(levels_table(found, _title(sweep, found)))
    if found.comparisons:
        console.print(comparisons_table(found.comparisons, found.metric))
    bands = [band for band in found.bands if len(band.iterations) > 1]
    if bands and not console.options.ascii_only:
        console.print(curves(bands, console.width), soft_wrap=True)
    told = [caution(min(level.runs for level in found.levels))]
    told += [f"{n} failed and is left out, which flatters its setting." for n in sweep.failures]
    for line in told:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _title(sweep: Sweep, found: Aggregates) -> Text:
    config = sweep.config
    users = f", users {config.users}" if config.users else ""
    return Text(
        f"{config.env}{users}, {config.split} side, {config.evaluation} users: {found.metric}"
    )


def levels_table(found: Aggregates, title: Text) -> Table:
    """One row a setting: interquartile mean, mean and optimality gap."""
    rate = found.metric == "success"
    table = Table(title=title)
    table.add_column("setting", overflow="fold")
    for name in ("runs", "IQM", "mean", *(["optimality gap"] if rate else [])):
        table.add_column(name)
    table.caption = (
        "IQM: interquartile mean over runs, with stratified bootstrap intervals as the gap to 1 "
        "has; mean: with an interval for other runs and other users; all 95%"
    )
    for level in found.levels:
        table.add_row(Text(level.setting), str(level.runs), *_cells(level, rate))
    return table


def _cells(level: Level, rate: bool) -> list[str]:
    form = "{:.0%}" if rate else "{:+.2f}"
    told = [level.iqm, level.mean, level.optimality_gap]
    return [with_interval(interval, form) for interval in told if interval is not None]


def comparisons_table(comparisons: Sequence[Comparison], metric: str) -> Table:
    """Every setting beside the one that all are compared with."""
    against = comparisons[0].against
    table = Table(title=Text(f"Compared with {against}"))
    table.add_column("setting", overflow="fold")
    for name in ("difference of means", "probability of improvement"):
        table.add_column(name)
    table.caption = (
        "differences: same seeds, same users; probability that a run of the setting is better than "
        "one of the other"
    )
    form = "{:+.0%}" if metric == "success" else "{:+.2f}"
    for one in comparisons:
        chance = with_interval(one.improvement, "{:.0%}")
        table.add_row(Text(one.setting), with_interval(one.difference, form), chance)
    return table


def curves(bands: Sequence[Band], width: int = 80) -> Text:
    """Interquartile means by iteration, with bounds as points where few settings leave room."""
    from uniplot import plot_to_string

    drawn = [b for b in bands if b.metric == bands[0].metric][:_LINES]
    rate, wide = drawn[0].metric == "success", min(width, WIDEST)
    scale = 100.0 if rate else 1.0
    series = [
        (color, band, bound)
        for color, band in zip(_COLORS, drawn, strict=False)
        for bound in (*_bounds(band, len(drawn)), "mean")
    ]
    more = "" if len(drawn) == len(bands) else f", the first {len(drawn)} settings"
    options: dict[str, Any] = {"y_min": 0, "y_max": 100, "y_unit": "%"} if rate else {}
    picture = plot_to_string(
        ys=[[scale * getattr(v, bound) for v in band.values] for _, band, bound in series],
        xs=[band.iterations for _, band, _ in series],
        lines=[bound == "mean" for _, _, bound in series],
        color=[color for color, _, _ in series],
        title=f"{drawn[0].metric} of training users by iteration, IQM of runs{more}",
        width=wide,
        line_length_hard_cap=wide,
        height=12,
        x_gridlines=[],
        y_gridlines=[],
        **options,
    )
    out = Text.from_ansi(picture)
    for color, band in zip(_COLORS, drawn, strict=False):
        out.append(f"\n── {band.setting}", color)
    return out


def _bounds(band: Band, settings: int) -> tuple[str, ...]:
    """Bounds that are drawn: those of one or two settings, if there are any."""
    known = all(math.isfinite(value.low) for value in band.values)
    return ("low", "high") if settings <= 2 and known else ()
