"""The pieces that sections of a report are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

MOST_ROWS = 200  # of a table that is made of iterations


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its heading.

    Attributes:
        caption: stands above it.
        head: of the columns.
        rows: of cells.
        filters: for each row the fact and the value that its episodes have, which the browser of
            transcripts can be asked for; empty if there is nothing to ask.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    filters: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Figure:
    """A figure with the numbers that it is drawn from.

    Attributes:
        title: stands above it.
        svg: the drawing.
        legend: pairs of a class of color and what has it.
        table: the same in numbers.
    """

    title: str
    svg: Markup
    legend: Sequence[tuple[str, str]]
    table: Table


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: its anchor.
        title: its heading.
        about: what it shows, in a sentence or two.
        tables: shown as they are.
        figures: shown with their numbers folded away.
        notes: sentences, such as why there is nothing to show.
    """

    name: str
    title: str
    about: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = field(default=())


def thinned(rows: Sequence[Sequence[str]], most: int = MOST_ROWS) -> list[Sequence[str]]:
    """At most so many rows, evenly spaced, the last among them; nobody reads thousands."""
    step = -(-len(rows) // most)
    return list(rows[::-1][::step][::-1]) if step > 1 else list(rows)


def plain(label: str, most: int = 34) -> str:
    """A label for a figure: short, and without characters that XML does not know."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in label)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def number(value: float | None, form: str = "{:.3g}") -> str:
    """A number for a cell; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return form.format(value)
