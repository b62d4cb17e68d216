"""The desk's books: what the shop knows, once somebody has said what identifies it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from rlchat_envs.core.messages import Message

_WORD = re.compile(r"\w+")
_SMALL = {"a", "an", "the", "it", "is", "i", "my", "of", "in", "on", "to", "for", "by", "with"}
_SHARE = 0.6  # of a detail's words: a person who plays the customer need not quote the card


class Filed(Protocol):
    """What the books hold about one problem, and what they find it by."""

    @property
    def order_number(self) -> str:
        """Identifies the order."""
        ...

    @property
    def detail(self) -> str:
        """Identifies the policy, once the order is known."""
        ...

    @property
    def record_text(self) -> str:
        """The order."""
        ...

    @property
    def policy_text(self) -> str:
        """The rules that apply."""
        ...


@dataclass
class Desk:
    """Looks things up in what a customer says, be it simulated or a person."""

    goal: Filed
    has_record: bool = False
    has_detail: bool = False
    has_policy: bool = False

    def read(self, text: str) -> tuple[Message, ...]:
        """Find new facts in the customer's text; each is shown once."""
        found = []
        self.has_detail = self.has_detail or _mentions(text, self.goal.detail)
        if not self.has_record and self.goal.order_number.lower() in text.lower():
            self.has_record = True
            found.append(Message("tool", self.goal.record_text))
        if self.has_record and self.has_detail and not self.has_policy:
            self.has_policy = True
            found.append(Message("tool", self.goal.policy_text))
        return tuple(found)


def _mentions(text: str, detail: str) -> bool:
    said = set(_WORD.findall(text.lower()))
    words = [w for w in _WORD.findall(detail.lower()) if w not in _SMALL] or [detail.lower()]
    return sum(w in said for w in words) >= _SHARE * len(words)
