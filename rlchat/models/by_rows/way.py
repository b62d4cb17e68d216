"""How a model is computed here: in packings, or by rows, and what is exact then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedModel

Turns = Literal["whole", "single", "anew"]
_ATTRIBUTE = "rlchat_by_rows"


@dataclass(frozen=True)
class ByRows:
    """A way to compute a model that packing and our key-value cache do not compute exactly.

    Attributes:
        turns: How a state that is kept goes on: with all new tokens at once (``whole``), one at a
            time (``single``), or not at all: each token then takes a forward of its whole row
            (``anew``).
        together: Whether rows of unequal lengths go on by as many tokens side by side.
    """

    turns: Turns = "whole"
    together: bool = True


def by_rows(model: PreTrainedModel) -> ByRows | None:
    """How a model is computed by rows; None if it is computed in packings."""
    way: Any = getattr(model, _ATTRIBUTE, None)
    return way if isinstance(way, ByRows) else None


def take_by_rows(model: PreTrainedModel, way: ByRows) -> None:
    """Have a model, and copies that are made of it, computed by rows from now on.

    Its attention is transformers' plain one, with which it was tried.
    """
    if model.config._attn_implementation != "eager":
        model.set_attn_implementation("eager")
    setattr(model, _ATTRIBUTE, way)
