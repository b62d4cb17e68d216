"""What is said: a message, and a conversation made of messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from rlchat_envs.core.tools import Tool, read_tools

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said, by whom.

    Records, documents and other facts of the desk have the role ``tool``: they are never part of
    a user's text, so a user cannot forge them. A call of a function is part of an assistant's
    text; see `rlchat_envs.core.tools`.

    Attributes:
        role: Whose it is.
        content: The text.
        tools: Functions that the agent may call, declared with a conversation's first message.
    """

    role: Role
    content: str
    tools: tuple[Tool, ...] = field(default=(), repr=False)


Conversation: TypeAlias = tuple[Message, ...]


def declared(conversation: Conversation) -> tuple[Tool, ...]:
    """The functions that the agent may call in a conversation."""
    return conversation[0].tools if conversation else ()


def declare(conversation: Conversation, tools: Sequence[Tool]) -> Conversation:
    """A conversation in which the agent may call functions."""
    if not tools or not conversation:
        return conversation
    return (replace(conversation[0], tools=tuple(tools)), *conversation[1:])


def of_row(row: Mapping[str, Any]) -> Conversation:
    """The conversation that `to_row` has written.

    Raises:
        ValueError: its ``tools`` are no functions.
    """
    messages = tuple(Message(m["role"], m["content"]) for m in row["messages"])
    return declare(messages, read_tools(row.get("tools") or ()))


def to_row(conversation: Conversation) -> dict[str, Any]:
    """A conversation as ``messages`` of role and content, with ``tools`` if it declares any."""
    row: dict[str, Any] = {
        "messages": [{"role": m.role, "content": m.content} for m in conversation]
    }
    if tools := declared(conversation):
        row["tools"] = [tool.declaration for tool in tools]
    return row


def as_text(messages: Conversation) -> str:
    """Show messages as one string, for agents that read observations and not conversations.

    Tool messages start with ``[desk] ``. The same mark inside anybody else's text is written
    ``(desk)``, so that only the desk can speak as the desk.
    """
    return "\n".join(
        f"[desk] {m.content}" if m.role == "tool" else m.content.replace("[desk]", "(desk)")
        for m in messages
    )
