"""Chat completions: how a conversation and its options are sent, and how a reply is read."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from rlchat_envs import Conversation, Message, as_text, declared, read_message
from rlchat_envs.core.tools import in_words, with_calls
from rlchat_envs.users.llm_text import has_thoughts, whole, without_thoughts

MOST_BYTES = 1 << 22  # of a reply
MOST_ERROR_BYTES = 1 << 16  # of a reply that tells an error
MOST_LETTERS = 20_000  # of a text: a longer one is no reply
_SPELLINGS = {"max_tokens": ("max_tokens", "max_completion_tokens")}  # in the order of trial
# Where servers put the thoughts that they take out of a reply.
_APART = ("reasoning_content", "reasoning", "thinking")


class Malformed(Exception):
    """A reply that is no chat completion."""

    def __init__(self, what: str, body: bytes | None = None):
        """Say what it is.

        Args:
            what: it is.
            body: of which a beginning is to be shown behind that.
        """
        super().__init__(what)
        self.body = body


@dataclass(frozen=True)
class Spelling:
    """How options are spelled for one server, which may refuse some of them.

    Attributes:
        refused: How many spellings of an option the server has refused.
    """

    refused: Mapping[str, int] = field(default_factory=dict)

    def sent(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options as this server takes them, without those that it does not."""
        names = {name: self.name_of(name) for name in options}
        return {spelled: options[name] for name, spelled in names.items() if spelled}

    def name_of(self, option: str) -> str:
        """The name that an option is sent by; empty if the server refuses all of its names."""
        names: list[str] = [*_SPELLINGS.get(option, (option,)), ""]
        return names[self.refused.get(option, 0)]

    def is_sent(self, name: str) -> bool:
        """Whether an option still goes out by this name."""
        return self.name_of(_option(name)) == name

    def without(self, names: Iterable[str]) -> Spelling:
        """The same without names that were refused: by another name, if there is one."""
        refused = dict(self.refused)
        for name in names:
            option = _option(name)
            refused[option] = refused.get(option, 0) + 1
        return replace(self, refused=refused)


def _option(name: str) -> str:
    """The option that goes by a name."""
    return next((option for option, names in _SPELLINGS.items() if name in names), name)


def named_options(complaint: str, options: Iterable[str]) -> list[str]:
    """The options that a server's complaint names."""
    return [name for name in options if re.search(rf"\b{re.escape(name)}\b", complaint)]


@dataclass(frozen=True)
class Chat:
    """A conversation as servers take it, which may know functions or not."""

    conversation: Conversation

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The functions that it declares, as servers take them."""
        return [tool.declaration for tool in declared(self.conversation)]

    def sent(self, tools: bool) -> list[dict[str, Any]]:
        """Its messages.

        Args:
            tools: whether functions are sent beside it. If not, but it declares some, the server
                is told of them in words.
        """
        told = self.conversation
        if tools:
            return list(_with_calls(told))
        if functions := declared(told):
            own = told[0].content if told[0].role == "system" else ""
            system = Message("system", "\n\n".join(filter(None, (in_words(functions), own))))
            told = (system, *told[1 if told[0].role == "system" else 0 :])
        return as_messages(told)


def _with_calls(conversation: Conversation) -> Iterator[dict[str, Any]]:
    """Messages with calls and results as servers have them.

    Calls that cannot be read stay text, and their results go with the user's words.
    """
    waiting: list[str] = []  # ids of calls without a result
    plain: list[Message] = []  # messages since then that are text alone
    for turn, message in enumerate(conversation):
        calls = read_message(message.content).calls if message.role == "assistant" else ()
        readable = bool(calls) and all(call.name for call in calls)
        answers = message.role == "tool" and bool(waiting)
        if readable or answers:
            yield from as_messages(tuple(plain))
            plain = []
        if readable:
            waiting = [f"call{turn:04}{i}" for i in range(len(calls))]
            yield _calling(message, waiting)
        elif answers:
            content = whole(message.content)
            yield {"role": "tool", "tool_call_id": waiting.pop(0), "content": content}
        else:
            plain.append(message)
    yield from as_messages(tuple(plain))


def _calling(message: Message, ids: list[str]) -> dict[str, Any]:
    said = read_message(whole(message.content))
    calls = [
        {
            "id": id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
        }
        for id, call in zip(ids, said.calls, strict=True)
    ]
    return {"role": "assistant", "content": said.words or None, "tool_calls": calls}


def as_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """Messages as servers take them, neighbours of one role made one."""
    neighbors = groupby(conversation, key=lambda m: "user" if m.role == "tool" else m.role)
    return [{"role": role, "content": whole(as_text(tuple(own)))} for role, own in neighbors]


def error_limit(timeout_s: float) -> Callable[[Any], None]:
    """A hook that lets no more of an error's body be read than is needed to tell of it.

    The openai client reads it whole before it raises.
    """
    import httpx2

    class Beginning(httpx2.SyncByteStream):
        """The beginning of a body, however that goes on."""

        def __init__(self, whole: Any, most: int):
            self.whole, self.most = whole, most

        def __iter__(self) -> Iterator[bytes]:
            left, deadline = self.most, time.monotonic() + timeout_s
            with suppress(httpx2.HTTPError):  # it broke off
                for piece in self.whole:
                    yield piece[:left]
                    left -= len(piece)
                    if left <= 0 or time.monotonic() > deadline:
                        return

        def close(self) -> None:
            self.whole.close()

    def limit(response: httpx2.Response) -> None:
        if response.status_code >= 300:
            # Nobody asked for a packed body, and a small one may unpack to a large one.
            packed = response.headers.pop("content-encoding", "identity") != "identity"
            response.stream = Beginning(response.stream, 0 if packed else MOST_ERROR_BYTES)

    return limit


def read_body(response: Any, timeout_s: float) -> bytes:
    """Read a reply in pieces, as its length and its pace are not ours.

    Args:
        response: of the openai client, whose body was not read.
        timeout_s: seconds that it may take.

    Raises:
        Malformed: it is too long, takes too long or breaks off.
    """
    import httpx2

    body, deadline = bytearray(), time.monotonic() + timeout_s
    try:
        for piece in response.iter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise Malformed(f"a reply of more than {MOST_BYTES:,} bytes")
            if time.monotonic() > deadline:
                raise Malformed(f"a reply that had no end in {timeout_s:g} s")
    except httpx2.HTTPError as error:
        raise Malformed(f"a reply that broke off ({type(error).__name__})") from error
    return bytes(body)


@dataclass(frozen=True, slots=True)
class Completion:
    """A message of a model's.

    Attributes:
        text: What it says, without what it thinks, and the functions that it calls; empty if it
            says nothing.
        cut: Whether the token budget ended it.
        thought: Whether the server showed thoughts of it, in whatever place.
    """

    text: str
    cut: bool
    thought: bool


def read_completion(body: bytes, budget: float | None = None) -> Completion:
    """Read the first choice of a chat completion; what counts is the body, as servers mislabel it.

    Args:
        body: of the reply.
        budget: tokens that the message could have; None if no limit was named.

    Raises:
        Malformed: it is none.
    """
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("no JSON but", body) from error
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        written, thought = _parts(message.get("content"), body)
        apart = any(message.get(name) for name in _APART)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Malformed("JSON without a choice:", body) from error
    text = without_thoughts(whole(written))
    if called := message.get("tool_calls"):
        with_them = with_calls(text, called)
        if with_them is None:
            raise Malformed("calls of functions that cannot be read:", body)
        text = whole(with_them)
    if len(text) > MOST_LETTERS:
        raise Malformed(f"a text of {len(text):,} letters, more than {MOST_LETTERS:,}")
    thought = thought or apart or has_thoughts(written)
    return Completion(text, _is_cut(reply, choice, budget), thought)


def _parts(content: object, body: bytes) -> tuple[str, bool]:
    """A message's text, which some servers give in parts, and whether others are thoughts."""
    if content is None or isinstance(content, str):
        return content or "", False
    parts: list[Any] = content if isinstance(content, list) else [content]
    if not all(isinstance(part, dict) and "type" in part for part in parts):
        raise Malformed("a content that is no text:", body)
    said = [part.get("text") for part in parts if part["type"] == "text"]
    thought = any(part["type"] in ("thinking", "reasoning") for part in parts)
    return "\n".join(text for text in said if isinstance(text, str)), thought


def _is_cut(reply: Mapping[str, Any], choice: Mapping[str, Any], budget: float | None) -> bool:
    """Whether a message ended as its budget did; some servers tell that by numbers alone."""
    if choice.get("finish_reason") == "length":
        return True
    usage = reply.get("usage")
    spent = usage.get("completion_tokens") if isinstance(usage, dict) else None
    ended = choice.get("finish_reason") == "stop"
    return budget is not None and isinstance(spent, int) and spent >= budget and not ended
