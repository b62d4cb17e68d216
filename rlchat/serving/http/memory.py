"""Conversations as tokens: what an agent said stays in the tokens that it was sampled in."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlchat.models.chat_template import ChatTemplate
from rlchat.models.templates.context import Context, turn_of
from rlchat_envs import Conversation, Message, Tool, declared

REMEMBERED = 256  # conversations; some hundred kilobytes each at most
_UNLIMITED = 1 << 30


@dataclass(frozen=True, slots=True)
class Remembered:
    """A conversation up to a reply.

    Attributes:
        context: Its tokens.
        cut: Whether the reply was cut off.
        drawn: Random numbers that sampling took so far: one a token.
    """

    context: Context
    cut: bool
    drawn: int


class ConversationMemory:
    """Writes conversations as tokens, and remembers those that ended with a reply of the server's.

    Text that a model sampled may be other tokens if it is tokenized again. So a conversation is
    looked up by its messages and by how it was sampled, and goes on from its own tokens, as in
    `rlchat chat`. What is not remembered is written from its text. Of messages only hashes are
    kept, beside the tokens.
    """

    def __init__(self, template: ChatTemplate, most: int = REMEMBERED):
        """Begin with nothing remembered; at most ``most`` conversations are."""
        self._template, self._most = template, most
        self._known: OrderedDict[bytes, Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def prompt(self, conversation: Conversation, way: str, budget: int) -> tuple[Context, int]:
        """The tokens up to where the next reply begins, and how many were drawn before.

        Args:
            conversation: the messages.
            way: how the conversation is sampled; others are not looked up.
            budget: tokens of the reply.
        """
        tools, keys = declared(conversation), list(_keys(conversation, way))
        with self._lock:
            start, known = self._find(conversation, keys)
        if known is None:
            context, cut, drawn = Context(self._template, budget), False, 0
        else:
            context, cut, drawn = known.context.with_budget(budget), known.cut, known.drawn
        said = known is not None
        between: list[Message] = []
        for message in conversation[start:]:
            if message.role != "assistant":
                between.append(message)
                continue
            context = self._heard(context, between, said, cut)
            turn = turn_of(self._template, message.content, tools=tools)
            context.add(turn)
            drawn += len(turn)
            between, said, cut = [], True, False
        return self._heard(context, between, said, cut), drawn

    def keep(
        self, conversation: Conversation, way: str, context: Context, cut: bool, drawn: int
    ) -> None:
        """Remember a conversation that ends with a reply, which ``context`` has as its turn."""
        *_, key = _keys(conversation, way)
        with self._lock:
            self._known[key] = Remembered(context, cut, drawn)
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def _find(
        self, conversation: Conversation, keys: Sequence[bytes]
    ) -> tuple[int, Remembered | None]:
        """The longest beginning that is remembered, in messages."""
        for count in range(len(conversation), 0, -1):
            if conversation[count - 1].role == "assistant" and keys[count - 1] in self._known:
                self._known.move_to_end(keys[count - 1])
                return count, self._known[keys[count - 1]]
        return 0, None

    def _heard(
        self, context: Context, messages: Sequence[Message], said: bool, cut: bool
    ) -> Context:
        """The context with messages after its turn, or with those that come before its first."""
        context = copy.copy(context)
        if said:
            context.hear(tuple(messages), cut)
        else:
            context.open(tuple(messages), _UNLIMITED)
        return context


def _keys(conversation: Conversation, way: str) -> Iterator[bytes]:
    """A hash of each beginning of a conversation."""
    digest = hashlib.sha256(_part(way))
    for tool in declared(conversation):
        digest.update(_part(tool.text))
    for message in conversation:
        digest.update(_part(message.role) + _part(message.content))
        yield digest.digest()


def _part(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(8, "big") + data


def given_prompt(
    template: ChatTemplate, ids: Sequence[int], tools: Sequence[Tool], budget: int
) -> Context:
    """The context of tokens that a client gives instead of messages."""
    context = Context(template, budget)
    context.go_on_from(ids, tools)
    return context
