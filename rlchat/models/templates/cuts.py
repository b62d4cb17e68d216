"""How long a message may be that a model reads, and the count of those that were longer."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from rlchat.errors import Notice

MAX_MESSAGE_TOKENS = 512  # of a message that is not the agent's own, unless somebody says otherwise


@dataclass
class Cuts:
    """Cuts messages at a number of tokens, and counts them, so that it can be told.

    Attributes:
        most: Tokens that a message keeps.
        messages: How many messages there were.
        cut: How many of them were longer.
        openings: How many conversations were begun.
        shortened: How many of them opened with more tokens than there was room for.
    """

    most: int
    messages: int = 0
    cut: int = 0
    openings: int = 0
    shortened: int = 0
    _told: bool = False
    _told_openings: bool = False

    def apply(self, ids: list[int]) -> list[int]:
        """The tokens of a message that are kept."""
        self.messages += 1
        self.cut += len(ids) > self.most
        return ids[: self.most]

    def open(self, tokens: int, room: int) -> None:
        """Count the opening of a conversation, of which no more than ``room`` tokens are kept."""
        self.openings += 1
        self.shortened += tokens > room

    def notice(self) -> str:
        """What was cut, the first time that there is something to tell; whoever asks tells it."""
        if not self.cut or self._told:
            return ""
        self._told = True
        return (
            f"{self.cut:,} of {self.messages:,} messages that the model has read were cut to their "
            f"first {self.most} tokens; --adapter.max-message-tokens leaves it more"
        )

    def _notice_of_openings(self) -> str:
        if not self.shortened or self._told_openings:
            return ""
        self._told_openings = True
        return (
            f"{self.shortened:,} of {self.openings:,} conversations open with more tokens than "
            "there is room for before the agent's first turn; only the last of them were read; "
            "--rollout.max-tokens gives more room"
        )

    def warn(self) -> None:
        """Tell what was cut, if that was not told before."""
        for told in (self.notice(), self._notice_of_openings()):
            if told:
                warnings.warn(told, Notice, stacklevel=2)
