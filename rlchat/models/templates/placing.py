"""Where messages go that a chat template has no place for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from rlchat_envs import Conversation, Message

LABELS = {"system": "[system]", "tool": "[desk]"}  # before what is written as a user's message
_BETWEEN = "\n\n"  # between texts that share a message, as Gemma 3 has it


@dataclass(frozen=True, slots=True)
class Placing:
    """How messages that a template refuses are written instead.

    Attributes:
        fold_system: a system message at the beginning becomes the beginning of the first user's.
        label_system: one further on is a user's message that begins with ``[system]``.
        label_tool: a tool's message is a user's that begins with ``[desk]``.
        join: users' messages that follow one another become one.
    """

    fold_system: bool = False
    label_system: bool = False
    label_tool: bool = False
    join: bool = False

    def place(self, messages: Conversation) -> Conversation:
        """Rewrite messages so that the template takes them."""
        if self == AS_IT_IS:
            return messages
        placed: list[Message] = []
        folded = ""
        for i, message in enumerate(messages):
            if self.fold_system and i == 0 and message.role == "system":
                folded = message.content
                continue
            labelled = {"system": self.label_system, "tool": self.label_tool}.get(message.role)
            if labelled:
                message = Message("user", f"{LABELS[message.role]} {message.content}")
            if self.join and message.role == "user" and placed and placed[-1].role == "user":
                placed[-1] = _joined(placed[-1].content, message.content)
            else:
                placed.append(message)
        if self.fold_system and messages[:1] and messages[0].role == "system":
            if placed and placed[0].role == "user":
                placed[0] = _joined(folded, placed[0].content)
            else:
                placed.insert(0, Message("user", folded))
        return tuple(placed)


AS_IT_IS = Placing()


def _joined(first: str, second: str) -> Message:
    return Message("user", _BETWEEN.join(text for text in (first, second) if text))


def placings(first: bool) -> Iterator[Placing]:
    """All of a conversation's beginning, or of later messages; those first that change least."""
    either = (False, True)
    folds = either if first else (False,)
    for join, label_system, fold_system, label_tool in product(either, either, folds, either):
        yield Placing(fold_system, label_system, label_tool, join)
