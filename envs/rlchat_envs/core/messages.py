"""What is said: a message, and a conversation made of messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said, by whom.

    Records, documents and other facts of the desk have the role ``tool``: they are never part of
    a user's text, so a user cannot forge them.
    """

    role: Role
    content: str


Conversation: TypeAlias = tuple[Message, ...]


def as_text(messages: Conversation) -> str:
    """Show messages as one string, for agents that read observations and not conversations.

    Tool messages start with ``[desk] ``. The same mark inside anybody else's text is written
    ``(desk)``, so that only the desk can speak as the desk.
    """
    return "\n".join(
        f"[desk] {m.content}" if m.role == "tool" else m.content.replace("[desk]", "(desk)")
        for m in messages
    )
