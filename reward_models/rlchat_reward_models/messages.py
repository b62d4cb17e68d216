"""Messages as files have them, in the formats that people use, as a conversation.

Known are transformers' ``role`` and ``content``, ShareGPT's ``from`` and ``value``, contents in
parts, tool calls, and transcripts of ``Human:`` and ``Assistant:`` in one text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from rlchat_envs import Conversation, Message, Tool
from rlchat_envs.core.messages import Role
from rlchat_envs.core.tools import CLOSES, OPENS, read_tools, with_calls

ROLES: tuple[Role, ...] = get_args(Role)
_ALSO: Mapping[str, Role] = {
    "developer": "system",
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "ipython": "tool",
}
_CALLS = ("function_call", "tool_call")  # ShareGPT: a call is a message, and its text a program's
_MARK = re.compile(r"(?:(?<!#)#+ ){0,2}(Human|User|Assistant|System): ?")


def messages_of(value: object, field: str, keep_calls: bool = False) -> Conversation:
    """Messages of a list, or of a transcript.

    System messages at the beginning become one.

    Args:
        value: as it stands in a file.
        field: its name there, for errors.
        keep_calls: calls of functions become an agent's text, as environments read them. If not,
            a call has no text and is said to nobody: it is left out, and what the tool answered
            stays.

    Raises:
        ValueError: it is no list of messages.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError(f"expected {field} to be text or a list of messages")
    said = [m for entry in value if (m := _message(entry, field, keep_calls)) is not None]
    return _one_system(said)


def transcript(text: str) -> Conversation:
    """The messages of a text with marks of who speaks, such as Anthropic's; () if it has none.

    A mark at the end, after which nothing was said yet, is no message.
    """
    marks = [m for m in _MARK.finditer(text) if _begins_turn(text, m)]
    names = {m[1] for m in marks}
    if not marks or "Assistant" not in names or len(names) < 2:
        return ()
    if text[: marks[0].start()].strip():
        return ()
    ends = [*(m.start() for m in marks[1:]), len(text)]
    said = [
        Message(_role(m[1].lower()), whole(text[m.end() : end]).strip())
        for m, end in zip(marks, ends, strict=True)
    ]
    if not said[-1].content:
        del said[-1]
    return _one_system(said)


def _begins_turn(text: str, mark: re.Match[str]) -> bool:
    """Whether it has #, or stands at the beginning or after an empty line.

    White space is gone back over from the mark: an expression that looks for it from the left reads
    a long stretch of it again from each of its characters.
    """
    end = mark.start()
    if end < mark.start(1):
        return True
    start = end
    while start and text[start - 1].isspace():
        start -= 1
    return start == 0 or "\n\n" in text[start:end]


def whole(text: str) -> str:
    """A text without half surrogates, which JSON can write and nothing can encode."""
    return text.encode(errors="replace").decode()


def declared_of(row: Mapping[str, Any]) -> tuple[Tool, ...]:
    """The functions that a row of a file declares, as a list or as JSON.

    Raises:
        ValueError: it declares something else.
    """
    declared = row.get("tools")
    if isinstance(declared, str):
        try:
            declared = json.loads(declared)
        except (ValueError, RecursionError) as error:
            raise ValueError("expected tools to be a list of functions, or JSON of one") from error
    return read_tools(declared or ())


def _message(entry: object, field: str, keep_calls: bool) -> Message | None:
    """A message; None if it is a call of a tool and says nothing."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected {field} to hold objects with role and content")
    named = next((entry[k] for k in ("role", "from") if entry.get(k) is not None), None)
    if named in _CALLS:
        called = entry.get("content", entry.get("value"))
        kept = keep_calls and isinstance(called, str)
        return Message("assistant", f"{OPENS}{called}{CLOSES}") if kept else None
    content = next((entry[k] for k in ("content", "value") if entry.get(k) is not None), None)
    calls = entry.get("tool_calls") or entry.get("function_call")
    silent = content in (None, "", [])
    if calls and silent and not keep_calls:
        return None
    role, text = _role(named, field), "" if calls and silent else _text(content, field)
    if calls and keep_calls:
        called = with_calls(text, calls if isinstance(calls, Sequence) else [calls])
        if called is None:
            raise ValueError(f"expected the calls in {field} to have a name and arguments")
        text = called
    return Message(role, text)


def _role(named: object, field: str = "a transcript") -> Role:
    if isinstance(named, str):
        small = named.lower()
        for role in ROLES:
            if small == role:
                return role
        if small in _ALSO:
            return _ALSO[small]
    raise ValueError(f"expected {field} with roles of {', '.join(ROLES)} and text as content")


def _text(content: object, field: str) -> str:
    """A message's text, which may come in parts."""
    if isinstance(content, str):
        return whole(content)
    parts = content if isinstance(content, Sequence) and not isinstance(content, bytes) else ()
    texts = [p.get("text") if isinstance(p, Mapping) else None for p in parts]
    if not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError(
            f"expected {field} with roles of {', '.join(ROLES)} and text as content, not pictures, "
            "sound or nothing"
        )
    return whole("".join(t for t in texts if t))


def _one_system(said: Sequence[Message]) -> Conversation:
    """Join the system messages that a conversation begins with: templates know one."""
    first = next((i for i, m in enumerate(said) if m.role != "system"), len(said))
    if first < 2:
        return tuple(said)
    joined = "\n\n".join(m.content for m in said[:first])
    return (Message("system", joined), *said[first:])
