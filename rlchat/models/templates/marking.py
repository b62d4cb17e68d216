"""Marks that stand for messages' texts while a chat template is rendered, and what lies between."""

from __future__ import annotations

from collections.abc import Sequence

from rlchat_envs import Conversation, Message

MARK = "\u2042"  # with a number, stands for a message's text while the template is rendered


class UnwrittenError(ValueError):
    """A template left a message out, wrote it twice or in another order."""


def marked(messages: Conversation) -> list[tuple[Message, str]]:
    """Messages with the mark that stands for each one's text; an empty one has none."""
    return [(m, f"{MARK}{i}{MARK}" if m.content else "") for i, m in enumerate(messages)]


def parted(written: str, marks: Sequence[str]) -> tuple[str, ...]:
    """What was written before, between and after marks, of which empty ones have no place."""
    pieces, rest = [], written
    for mark in filter(None, marks):
        piece, found, rest = rest.partition(mark)
        if not found:
            raise UnwrittenError
        pieces.append(piece)
    return (*pieces, rest)
