"""Results as tables, for the terminal and for documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from rlchat.cli.terminal import printable
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.evaluation.summary import cells, measured_names, with_interval
from rlchat.listener import FinishedEpisode
from rlchat.statistics import Interval
from rlchat_envs import Conversation, Message

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
        title=f"{first.world.env}, {first.split} side, {len(first.episodes)} episodes",
        caption="mean [95% interval]",
    )
    for result in results:
        table.add_row(Text(result.agent), *cells(result, names))
    return table


def difference_table(name: str, against: str, differences: Mapping[str, Interval]) -> Table:
    """Paired differences of two agents."""
    table = Table("metric", "difference", title=Text(f"{name} minus {against}, same episodes"))
    for metric, interval in differences.items():
        if metric == "cost" and interval == Interval(0.0, 0.0, 0.0):
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
    return label(message.role, name).append(indented(message.content))


def label(role: str, name: str = "") -> Text:
    """Who speaks: a column of `MARGIN` characters."""
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
    """How an episode ended, in a few words."""
    solved = {True: "solved", False: "not solved", None: "over"}[episode.success]
    return f"{solved}, score {episode.score:+.2f}, {len(episode.parts)} turns"
