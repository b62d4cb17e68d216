"""How a reply in its context becomes tokens for a reward model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlchat_envs import Conversation

NAMES = {"user": "user", "assistant": "agent", "tool": "desk"}  # instructions are left out


@dataclass(frozen=True, slots=True)
class TokenizedReply:
    """Token ids of one reply with what came before, and where the reply begins."""

    ids: list[int]
    start: int


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch of replies, right-padded, each (N, T): ids, 1 where no padding, True in the reply."""

    ids: Tensor
    attention: Tensor
    reply: Tensor

    def to(self, device: torch.device) -> Rows:
        """Copy the batch to another device."""
        return Rows(self.ids.to(device), self.attention.to(device), self.reply.to(device))


class ReplyTokenizer:
    """Tokenizes a context and a reply as a pair: all of the reply, and the end of the context.

    Encoders get their own separator between the two, other models a line break. Special tokens
    inside a text stay plain characters.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_tokens: int = 192, max_reply: int = 96
    ):
        """Use a model's tokenizer, for at most so many tokens, of which so many of a reply."""
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
        self._cache: dict[str, list[int]] = {}

    def tokenize(self, context: Conversation, replies: Conversation) -> TokenizedReply:
        """Tokenize what is scored, and what came before it.

        Args:
            context: the messages before.
            replies: one assistant message, or a conversation of which the agent's part is scored.
        """
        said = " ".join(m.content for m in replies if m.role == "assistant")
        others = tuple(m for m in replies if m.role != "assistant")
        reply = self._tokens(said)
        fixed = len(self._first) + len(self._between) + len(self._last)
        most = min(self.max_reply, self.max_tokens - fixed)
        kept = slice(most) if len(replies) == 1 else slice(-most, None)
        reply = reply[kept]  # of a conversation the end, which decides it
        room = self.max_tokens - len(reply) - fixed
        before = [t for m in (*context, *others) for t in self._line(NAMES.get(m.role), m.content)]
        head = [*self._first, *before[max(0, len(before) - room) :], *self._between]
        return TokenizedReply([*head, *reply, *self._last], len(head))

    def pad_rows(self, replies: Sequence[TokenizedReply]) -> Rows:
        """Pad tokenized replies to one length, as a batch."""
        width = max(len(r.ids) for r in replies)
        ids = torch.full((len(replies), width), self.pad)
        attention = torch.zeros(len(replies), width, dtype=torch.long)
        reply = torch.zeros(len(replies), width, dtype=torch.bool)
        for row, r in enumerate(replies):
            ids[row, : len(r.ids)] = torch.tensor(r.ids)
            attention[row, : len(r.ids)] = 1
            reply[row, r.start : len(r.ids)] = True
        return Rows(ids, attention, reply)

    def _line(self, name: str | None, text: str) -> Iterable[int]:
        """Tokens of a message with its speaker's name; instructions, which have none, give none."""
        if name is None:
            return ()
        if text not in self._cache:
            if len(self._cache) > 20_000:
                self._cache.clear()
            self._cache[text] = self._tokens(text)
        return (*self._tokens(f"\n{name}:"), *self._cache[text])

    def _tokens(self, text: str) -> list[int]:
        whole = text.encode(errors="replace").decode()  # no half surrogates
        found = self.tokenizer(whole, add_special_tokens=False, split_special_tokens=True)
        return list(found["input_ids"])
