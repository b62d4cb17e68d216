"""Which dialogues a reward model is trained on, calibrated with and tested on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal, Protocol, TypeVar

HELD_OUT = 0.2  # share of dialogues that no training sees
CALIBRATION = 0.1  # share of the others that only sets a reward model's temperature

Split = Literal["train", "calibration", "held-out"]


class OfDialogue(Protocol):
    """Anything that belongs to a dialogue, such as a preference."""

    @property
    def dialogue(self) -> str:
        """The dialogue's name."""
        ...


Item = TypeVar("Item", bound=OfDialogue)


def split_of(dialogue: str) -> Split:
    """The split of a dialogue; its name alone decides, on every machine the same."""
    if fraction(dialogue) < HELD_OUT:
        return "held-out"
    return "calibration" if fraction(f"calibrate {dialogue}") < CALIBRATION else "train"


def fraction(name: str) -> float:
    """A number in [0, 1) that depends on a name alone, on every machine the same."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def by_split(items: Iterable[Item]) -> dict[Split, list[Item]]:
    """Sort items into splits by their dialogues; no dialogue is in two splits."""
    found: dict[Split, list[Item]] = {"train": [], "calibration": [], "held-out": []}
    for item in items:
        found[split_of(item.dialogue)].append(item)
    return found
