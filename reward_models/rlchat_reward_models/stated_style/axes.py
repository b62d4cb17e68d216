"""Axes of style, their two sides, and which of them an episode states."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TypeAlias

import numpy as np

AXES: dict[str, tuple[str, str]] = {
    "length": ("brief", "detailed"),
    "tone": ("formal", "friendly"),
    "language": ("plain", "advanced"),  # the level of language
}
SIDES: dict[str, str] = {side: axis for axis, sides in AXES.items() for side in sides}
ANY = "any"
Style: TypeAlias = tuple[str, ...]
"""What is stated: one side of some of the axes, in the order of `AXES`; nothing if empty."""


def check_names(names: Sequence[str]) -> None:
    """Refuse names that state no style.

    Raises:
        ValueError: a name is unknown, two exclude each other, or ``any`` has company.
    """
    for name in names:
        if name not in (*SIDES, ANY):
            near = get_close_matches(name, [*SIDES, ANY], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            known = ", ".join([*SIDES, ANY])
            raise ValueError(f"expected stated styles out of {known}; got {name!r}{hint}")
    if ANY in names and len(names) > 1:
        raise ValueError(
            f"expected the stated style {ANY} alone, or others by name; got {','.join(names)}; "
            "leave one out"
        )
    axes = [SIDES[name] for name in names if name != ANY]
    if twice := next((axis for axis in axes if axes.count(axis) > 1), None):
        raise ValueError(
            f"expected one stated style, {' or '.join(AXES[twice])}; got {','.join(names)}; "
            "leave one out"
        )


def draw_style(names: Sequence[str], rng: np.random.Generator) -> Style:
    """The style that an episode states.

    Args:
        names: sides that every episode states, or ``any``: then each axis is left unstated, or is
            on one of its sides, a third of the episodes each.
        rng: the episode's own.
    """
    if tuple(names) != (ANY,):
        return tuple(side for sides in AXES.values() for side in sides if side in names)
    drawn = [(*sides, "")[int(rng.integers(3))] for sides in AXES.values()]
    return tuple(filter(None, drawn))
