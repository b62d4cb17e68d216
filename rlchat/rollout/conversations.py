"""Conversations in files: to imitate, to score, to compare users with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlchat.errors import UserError
from rlchat.listener import Listener
from rlchat_envs import Conversation, Message, declare
from rlchat_reward_models.messages import declared_of, messages_of, transcript, whole
from rlchat_reward_models.records import read

LISTS = ("messages", "conversations", "conversation")  # what formats call a row's messages


def read_conversations(
    source: Path, listener: Listener | None = None, liked: bool = False
) -> list[Conversation]:
    """Read conversations: JSON lines, a JSON array, CSV, parquet, or a data set of the hub.

    A row has ``messages``, ShareGPT's ``conversations``, or ``prompt`` and ``completion``. Calls of
    functions are read where ``tools`` beside the messages declares them. Rows that cannot be used
    are left out.

    Args:
        source: a file, or the hub's OWNER/NAME or OWNER/NAME:SPLIT.
        listener: warned once of what is left out, by reason and line.
        liked: leave out completions whose ``label`` says that they are bad.

    Raises:
        UserError: no such file, or nothing in it that can be used.
    """

    def parse(row: Mapping[str, Any], number: int) -> Conversation:
        if liked and row.get("label") is False:
            raise ValueError("rated as bad, which nobody is to imitate")
        return conversation(row)

    try:
        return read(source, "conversations", parse, (listener or Listener()).warn)
    except ValueError as error:
        raise UserError(str(error)) from error


def conversation(row: Mapping[str, Any]) -> Conversation:
    """A row's conversation.

    Raises:
        ValueError: it has none in which an assistant says something.
    """
    said = _said(row)
    if not any(m.role == "assistant" for m in said):
        raise ValueError("no assistant says anything in it")
    return said


def _said(row: Mapping[str, Any]) -> Conversation:
    for name in LISTS:
        if name in row:
            tools = declared_of(row)
            said = messages_of(row[name], name, keep_calls=bool(tools))
            return declare((*_instructions(row), *said), tools)
    if "prompt" in row and "completion" in row:
        tools = declared_of(row)
        asked = _side(row["prompt"], "prompt", "user", bool(tools))
        answered = _side(row["completion"], "completion", "assistant", bool(tools))
        return declare((*_instructions(row), *asked, *answered), tools)
    text = row.get("text")
    if isinstance(text, str) and (said := transcript(text)):
        return said
    raise ValueError(
        'expected a list "messages" of {"role": …, "content": …}, "conversations" of '
        '{"from": …, "value": …}, or "prompt" and "completion"'
    )


def _instructions(row: Mapping[str, Any]) -> Conversation:
    """Some formats have the system message beside the others, and not among them."""
    text = row.get("system")
    return (Message("system", whole(text)),) if isinstance(text, str) and text else ()


def _side(value: object, field: str, role: str, keep_calls: bool) -> Conversation:
    """Messages, a transcript, or a text as one message of ``role``."""
    if not isinstance(value, str):
        return messages_of(value, field, keep_calls)
    return transcript(value) or (Message(role, whole(value)),)  # type: ignore[arg-type]
