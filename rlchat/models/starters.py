"""Trained adapters that come with the package, so that there is an agent before any training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rlchat.errors import UserError

FOLDER: Final = Path(__file__).parent / "starter"
CARD = "card.json"  # how the adapters were made, what they fit to and what they achieve


@dataclass(frozen=True)
class Starter:
    """A trained adapter of the package.

    Attributes:
        name: On the command line.
        place: Its folder, in the package's.
        about: What it is.
    """

    name: str
    place: str
    about: str

    @property
    def folder(self) -> Path:
        """The folder of the adapter, an ordinary PEFT one.

        Raises:
            UserError: the package was installed without it.
        """
        folder = FOLDER / self.place
        if not (folder / "adapter_config.json").is_file():
            raise UserError(
                f"expected the adapter {self.name} in {folder}, where the package brings it; it is "
                "not there; install rlchat again"
            )
        return folder

    @property
    def megabytes(self) -> float:
        """Size on disk, in megabytes."""
        return sum(file.stat().st_size for file in self.folder.iterdir()) / 1e6


STARTERS: Final = {
    starter.name: starter
    for starter in (
        Starter("starter", "ppo", "Support-v0's desk after practice by PPO"),
        Starter("starter:warm-start", "warm-start", "the same before: it imitates demonstrations"),
    )
}


def read_card() -> dict[str, Any]:
    """Read the card of the starters: how they were made, what they fit, what they achieve."""
    card: dict[str, Any] = json.loads((FOLDER / CARD).read_text("utf-8"))
    return card
