"""How a reply in its context becomes tokens for a model that judges it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlchat_envs import Conversation

NAMES = {"user": "user", "assistant": "agent", "tool": "desk"}  # instructions are not read


@dataclass(frozen=True, slots=True)
class Read:
    """Token ids of one reply with what came before, and where the reply begins."""

    ids: list[int]
    start: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Replies side by side, right-padded: (N, T) ids, what is no padding, what is reply."""

    ids: Tensor
    attention: Tensor
    reply: Tensor

    def to(self, device: torch.device) -> Rows:
        """The same on another device."""
        return Rows(self.ids.to(device), self.attention.to(device), self.reply.to(device))


class Reader:
    """Reads a context and a reply as a pair: the reply whole, of the context what fits, its end.

    Encoders get their own marks between the two, other models a line's end. Special tokens inside
    a text stay plain characters.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_tokens: int = 192, max_reply: int = 96
    ):
        """Read with a model's tokenizer, at most so many tokens, of which so many of a reply."""
        self.tokenizer, self.max_tokens, self.max_reply = tokenizer, max_tokens, max_reply
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.encoder = first is not None and last is not None
        if self.encoder:
            self._first, self._between, self._last = [first], [last], [last]
        else:
            end = tokenizer.eos_token_id
            self._first, self._between = [], self._tokens("\nagent:")
            self._last = [] if end is None else [end]
        self._known: dict[str, list[int]] = {}

    def read(self, context: Conversation, replies: Conversation) -> Read:
        """Read what is judged, and what came before it.

        Args:
            context: the messages before.
            replies: one assistant message, or a conversation of which the agent's part is judged.
        """
        said = " ".join(m.content for m in replies if m.role == "assistant")
        others = tuple(m for m in replies if m.role != "assistant")
        reply = self._tokens(said)
        kept = slice(self.max_reply) if len(replies) == 1 else slice(-self.max_reply, None)
        reply = reply[kept]  # of a conversation the end, which decides it
        fixed = len(self._first) + len(self._between) + len(self._last)
        room = self.max_tokens - len(reply) - fixed
        before = [t for m in (*context, *others) for t in self._line(NAMES.get(m.role), m.content)]
        head = [*self._first, *before[max(0, len(before) - room) :], *self._between]
        return Read([*head, *reply, *self._last], len(head))

    def pad_rows(self, reads: Sequence[Read]) -> Rows:
        """Lay reads side by side."""
        width = max(len(r.ids) for r in reads)
        ids = torch.full((len(reads), width), self.pad)
        attention = torch.zeros(len(reads), width, dtype=torch.long)
        reply = torch.zeros(len(reads), width, dtype=torch.bool)
        for row, r in enumerate(reads):
            ids[row, : len(r.ids)] = torch.tensor(r.ids)
            attention[row, : len(r.ids)] = 1
            reply[row, r.start : len(r.ids)] = True
        return Rows(ids, attention, reply)

    def _line(self, name: str | None, text: str) -> Iterable[int]:
        """A message with its speaker's name; instructions, which have none, are left out."""
        if name is None:
            return ()
        if text not in self._known:
            if len(self._known) > 20_000:
                self._known.clear()
            self._known[text] = self._tokens(text)
        return (*self._tokens(f"\n{name}:"), *self._known[text])

    def _tokens(self, text: str) -> list[int]:
        whole = text.encode(errors="replace").decode()  # no half surrogates
        found = self.tokenizer(whole, add_special_tokens=False, split_special_tokens=True)
        return list(found["input_ids"])
