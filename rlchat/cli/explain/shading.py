"""Tokens shaded by a number each: in color, or with a bar under each where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from rlchat.cli.tables import BARS, MARGIN
from rlchat.cli.terminal import printable

_POSITIVE, _NEGATIVE = (46, 160, 67), (218, 54, 51)
_DIGITS = "0123456789"
_DARK = 0.55  # share of the color above which text on it is white


def in_color(console: Console) -> bool:
    """Whether a console shows colors."""
    return console.color_system is not None and not console.no_color


def shaded(
    tokens: Sequence[str], values: Sequence[float], most: float, signed: bool, console: Console
) -> Text:
    """Tokens, each shaded by its value.

    Args:
        tokens: their texts, as they follow one another.
        values: one a token.
        most: size at which the shade is full.
        signed: whether values below 0 are of another color; else 0 is the least.
        console: decides between colors, bars and digits.
    """
    width = max(20, min(console.width, 120) - MARGIN)
    out = Text()
    for number, line in enumerate(_lines([_shown(token) for token in tokens], width)):
        out.append("\n" + " " * MARGIN if number else "")
        for i, piece in line:
            out.append(piece, background(values[i], most) if in_color(console) else "")
        if not in_color(console):
            out.append("\n" + " " * MARGIN)
            levels = _DIGITS if console.options.ascii_only else BARS
            for i, piece in line:
                out.append(level(values[i], most, signed, levels) * cell_len(piece))
    return out


def background(value: float, most: float) -> str:
    """A style whose background is the stronger the larger the value, red below 0."""
    share = min(1.0, abs(value) / most) if most > 0 else 0.0
    full = _NEGATIVE if value < 0 else _POSITIVE
    mixed = (round(255 + (part - 255) * share) for part in full)
    text = "white" if share > _DARK else "black"
    return f"{text} on rgb({','.join(map(str, mixed))})"


def level(value: float, most: float, signed: bool, levels: str) -> str:
    """One of some levels for a value from -most, or from 0, to most."""
    low = -most if signed else 0.0
    share = (value - low) / (most - low) if most > low else 0.0
    return levels[min(len(levels) - 1, max(0, int(share * len(levels))))]


def legend(name: str, most: float, signed: bool, console: Console) -> Text:
    """Say what shades mean."""
    low = f"{-most:.2f}" if signed else "0"
    out = Text(f"shaded by {name}: ", "dim")
    if in_color(console):
        if signed:
            out.append(f" {low} ", background(-most, most)).append(" … ", "dim")
        return out.append(f" {most:.2f} ", background(most, most))
    levels = _DIGITS if console.options.ascii_only else BARS
    return out.append(f"{levels[0]} {low} … {levels[-1]} {most:.2f}, under each token", "dim")


def _shown(token: str) -> str:
    return printable(token).replace("\n", " ")


def _lines(tokens: Sequence[str], width: int) -> Iterator[list[tuple[int, str]]]:
    """Tokens in lines of so many columns, each with its number; a long one is broken."""
    line: list[tuple[int, str]] = []
    used = 0
    for i, token in enumerate(tokens):
        for piece in _pieces(token, width):
            if line and used + cell_len(piece) > width:
                yield line
                line, used = [], 0
            line.append((i, piece))
            used += cell_len(piece)
    if line:
        yield line


def _pieces(token: str, width: int) -> Iterator[str]:
    for begin in range(0, len(token), width // 2):  # characters may take two columns
        yield token[begin : begin + width // 2]
