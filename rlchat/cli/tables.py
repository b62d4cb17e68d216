"""Results as tables, for the terminal and for documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlchat.cli.terminal import printable
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.evaluation.stated_style import StyleRow
from rlchat.evaluation.summary import cells, measured_names, with_interval
from rlchat.listener import FinishedEpisode
from rlchat.statistics import Interval
from rlchat.training.config import TrainConfig
from rlchat_envs import Conversation, Message, read_message

if TYPE_CHECKING:  # which brings torch; a chat with a script needs none
    from rlchat.training.learning_curve import Rows
    from rlchat.training.run_folder import RunFolder

MARGIN = 8  # characters before a message, for the speaker's name
_STYLES = {"assistant": "bold green", "user": "bold cyan", "tool": "yellow", "system": "dim"}
_DIFFERENCES = {"success": "{:+.0%}", "score": "{:+.2f}", "turns": "{:+.1f}", "cost": "{:+.2f}"}


def results_table(results: Sequence[EvaluationResult]) -> Table:
    """One row an agent: what was measured, each with its 95% interval."""
    names = measured_names(results)
    first = results[0]
    table = Table(
        "agent",
        *names,
        title=f"{first.env.env}{_met(first)}, {first.split} side, {len(first.episodes)} episodes",
        caption="mean [95% interval]",
    )
    for result in results:
        table.add_row(Text(result.agent), *cells(result, names))
    return table


def _met(result: EvaluationResult) -> str:
    """Which users were met, if not the usual ones, and how often each."""
    users = f", users {'+'.join(result.env.users)}" if result.env.users else ""
    style = f", style {'+'.join(result.env.stated_style)}" if result.env.stated_style else ""
    return users + style + (f", {result.trials} trials each" if result.trials > 1 else "")


def style_table(rows: Sequence[StyleRow]) -> Table:
    """How far stated styles are followed, and what that costs in success."""
    columns: list[tuple[str, list[str]]] = [
        ("agent", [row.agent for row in rows]),
        ("environment, users", [", ".join((row.env, *row.users)) for row in rows]),
    ]
    columns = [column for column in columns if len(set(column[1])) > 1]
    columns += [
        ("style", [_asked(row) for row in rows]),
        ("episodes", [str(row.episodes) for row in rows]),
    ]
    for name, form, intervals in (
        ("replies in it", "{:.0%}", [row.followed for row in rows]),
        ("where not stated", "{:.0%}", [row.otherwise for row in rows]),
        ("difference", "{:+.0%}", [row.gained for row in rows]),
        ("success, difference", "{:+.0%}", [row.success for row in rows]),
    ):
        if any(intervals):
            columns.append((name, [with_interval(i, form) if i else "–" for i in intervals]))
    paired = any(row.gained for row in rows)
    table = Table(
        *(name for name, _ in columns),
        title="How far a stated style is followed",
        caption="mean [95% interval]"
        + ("; differences to the same users with nothing stated" if paired else ""),
    )
    for row_cells in zip(*(told for _, told in columns), strict=True):
        table.add_row(*map(Text, row_cells))
    return table


def _asked(row: StyleRow) -> str:
    """A side, and what stated it if that states more."""
    return row.side if row.stated == (row.side,) else f"{row.side} (of {'+'.join(row.stated)})"


def difference_table(name: str, against: str, differences: Mapping[str, Interval]) -> Table:
    """Paired differences of two agents."""
    table = Table("metric", "difference", title=Text(f"{name} minus {against}, same episodes"))
    for metric, interval in differences.items():
        if metric == "cost" and interval.mean == 0.0:  # mostly where neither had any
            continue
        table.add_row(metric, with_interval(interval, _DIFFERENCES[metric]))
    return table


def dialogue(conversation: Conversation) -> Text:
    """A conversation for reading; nobody's text is taken for markup."""
    out = Text()
    for message in conversation:
        if message.role != "system":
            out.append_text(spoken(message)).append("\n")
    return out


def spoken(message: Message, name: str = "") -> Text:
    """One message with its speaker before it."""
    said = readable(message.content) if message.role == "assistant" else message.content
    return label(message.role, name).append(indented(said))


def readable(text: str) -> str:
    """An agent's message with its calls of functions as people write them."""
    said = read_message(text)
    if not said.calls:
        return text
    return "\n".join(filter(None, (said.words, *(f"[calls {call}]" for call in said.calls))))


def label(role: str, name: str = "") -> Text:
    """The speaker's name as a column of `MARGIN` characters."""
    shown = name or {"assistant": "agent", "tool": "desk"}.get(role, role)
    return Text(f"{shown:>{MARGIN - 2}}  ", _STYLES[role])


def indented(text: str) -> str:
    """Printable text whose further lines keep clear of the column in which speakers stand.

    Otherwise a line break would let anybody write a line of somebody else's.
    """
    return printable(text).replace("\n", "\n" + " " * MARGIN)


def parts_line(parts: Mapping[str, float]) -> str:
    """The named score parts of a turn and their sum, zeros left out."""
    named = ", ".join(f"{name} {value:+.2f}" for name, value in parts.items() if value)
    total = f"{sum(parts.values()):+.2f}"
    return f"score {total}: {named}" if named else f"score {total}"


def ending(episode: FinishedEpisode) -> str:
    """Say in a few words how an episode ended."""
    solved = {True: "solved", False: "not solved", None: "over"}[episode.success]
    return f"{solved}, score {episode.score:+.2f}, {len(episode.parts)} turns"


WIDEST = 100  # characters


def show_curve(run: RunFolder, config: TrainConfig, console: Console) -> None:
    """Print the learning curve of a run.

    Args:
        run: has the metrics.
        config: of the run.
        console: a terminal, or a file.
    """
    from rlchat.training.learning_curve import Curve
    from rlchat.training.run_folder import read_metrics

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

    from rlchat.training.learning_curve import Curve

    curve, wide = Curve.of(rows, episodes), min(width, WIDEST)
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
    from rlchat.training.learning_curve import measured, success_interval, telling

    name, values = measured(rows)
    known = [v for v in values if not math.isnan(v)]
    if not known:
        return ""
    if name == "success":
        last = next(row for row, v in zip(rows[::-1], values[::-1], strict=True) if v == v)
        interval = success_interval(known[-1], telling(last, episodes))
        bars = sparkline(values[-_SHOWN:])
        return f"success {bars} {interval.mean:.0%} ({bounds(interval)})"
    low, high = min(known), max(known)
    bars = sparkline(values[-_SHOWN:], low, high)
    return f"return {bars} {known[-1]:+.2f} (from {low:+.2f} to {high:+.2f})"


def own_columns(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Columns of each of several environments: its success, or its return if it tells none.

    Args:
        rows: metrics of the iterations so far.

    Returns:
        Of each column the title, the metric and its format.
    """
    columns = []
    for key in (key for key in rows[-1] if key.startswith("success/")):
        env = key.removeprefix("success/")
        known = [row.get(key) for row in rows]
        told = any(value is not None and not math.isnan(value) for value in known)
        kind, form = ("success", "{:.2f}") if told else ("return", "{:+.2f}")
        columns.append((f"{env.rpartition('/')[2]} {kind}", f"{kind}/{env}", form))
    return columns


def bounds(interval: Interval) -> str:
    """The bounds of a rate's interval, such as ``53–77%``."""
    return f"{100 * interval.low:.0f}–{interval.high:.0%}"


def _height(value: float, low: float, high: float) -> int:
    share = (value - low) / (high - low) if high > low else 0.0
    return min(len(BARS) - 1, max(0, int(share * len(BARS))))
