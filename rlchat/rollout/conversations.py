"""Conversations in files, in trl's conversational format."""

from __future__ import annotations

import json
from pathlib import Path

from rlchat.errors import UserError
from rlchat_envs import Conversation, Message

ROLES = ("system", "user", "assistant", "tool")


def read_conversations(path: Path) -> list[Conversation]:
    """Read trl's conversational format: one ``{"messages": [{"role", "content"}, …]}`` a line.

    Raises:
        UserError: no such file, an empty one, or a line that is not a conversation.
    """
    try:
        # Not splitlines: JSON leaves U+2028 and its like unescaped inside a text.
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"expected a readable UTF-8 file of conversations; got {path}: {error}"
        ) from error
    conversations = [
        _conversation(path, n, line) for n, line in enumerate(lines, 1) if line.strip()
    ]
    if not conversations:
        raise UserError(f"expected conversations, one a line; {path} is empty")
    return conversations


def _conversation(path: Path, number: int, line: str) -> Conversation:
    def wrong(what: str) -> UserError:
        return UserError(
            f'{path}, line {number}: expected {{"messages": [{{"role": …, "content": …}}, …]}}; '
            f"{what}"
        )

    try:
        row = json.loads(line)
    except ValueError as error:
        raise wrong(f"this is not JSON: {error}") from error
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not messages:
        raise wrong('there is no list "messages"')
    said = []
    for m in messages:
        if (
            not isinstance(m, dict)
            or m.get("role") not in ROLES
            or not isinstance(m.get("content"), str)
        ):
            raise wrong(f"one of its messages has no role out of {', '.join(ROLES)}, or no text")
        said.append(Message(m["role"], m["content"]))
    if not any(m.role == "assistant" for m in said) or said[0].role == "assistant":
        raise wrong("somebody else has to speak first, and then an assistant")
    return tuple(said)
