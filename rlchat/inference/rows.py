"""Conversations in rows: their turns, their rows of a cache, and which rows attend together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlchat.inference.kv_cache import RowGroup
from rlchat.models.attention import Mask
from rlchat.models.logits import sample
from rlchat.models.packing import common_beginning

Noise = Callable[[], float]  # uniform in [0, 1), a row's own
OnToken = Callable[[int, int, float], None]
OnTop = Callable[[float, list[tuple[int, float]]], None]


@dataclass(slots=True)
class Sampled:
    """Tokens that were sampled in one turn of one conversation.

    ``logprobs`` are nats under the distribution that was sampled from. ``finished`` is False if
    the token budget ended the turn. ``copied`` tokens of its prompt were another row's, and not
    computed again.
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False
    copied: int = 0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of one turn are drawn.

    Attributes:
        temperature: Divides the logits; 0 is greedy.
        top_p: The fewest most probable tokens that have this probability together are drawn from.
        top: How many of the most probable tokens are told of, beside each that is drawn.
        on_top: Told the logprob of each token, and those of the most probable ones, before the
            token itself is told; of the model's own distribution, at temperature 1.
    """

    temperature: float
    top_p: float = 1.0
    top: int = 0
    on_top: OnTop | None = None


@dataclass(slots=True)
class Turn:
    """A turn in progress: ids that the cache still lacks, and what was generated so far."""

    pending: Sequence[int]
    noise: Noise
    budget: int
    sampling: Sampling
    generated: Sampled = field(default_factory=Sampled)


class TurnSampler(ABC):
    """What decoders have in common: turns in progress, whose tokens are drawn until they end.

    Attributes:
        stop_ids: The ids that end a turn.
        temperature: Divides the logits; 0 is greedy.
    """

    def __init__(self, stop_ids: Collection[int], temperature: float):
        """Begin without a turn."""
        self.stop_ids, self.temperature = frozenset(stop_ids), temperature
        self._turns: dict[int, Turn] = {}  # conversation -> its turn in progress

    def _turn(
        self, prompt: Sequence[int], noise: Noise, budget: int, sampling: Sampling | None
    ) -> Turn:
        """A turn that is drawn as it says, or else as all are."""
        return Turn(prompt, noise, budget, sampling or Sampling(self.temperature))

    @property
    def busy(self) -> bool:
        """Whether a turn is in progress."""
        return bool(self._turns)

    @abstractmethod
    def submit(
        self,
        conversation: int,
        prompt: Sequence[int],
        noise: Noise,
        max_new_tokens: int,
        sampling: Sampling | None = None,
    ) -> None:
        """Append ``prompt`` to a conversation, and generate a turn after it."""

    @abstractmethod
    def length(self, conversation: int) -> int:
        """Tokens of the conversation that need not be submitted again."""

    @abstractmethod
    def forget(self, conversation: int) -> None:
        """Make room for another conversation in the place of this one."""

    @abstractmethod
    def rewind(self, conversation: int, tokens: int) -> None:
        """Leave no more than the first so many tokens of a conversation."""

    @abstractmethod
    def step(self, on_token: OnToken | None = None) -> dict[int, Sampled]:
        """Run one forward; give what was sampled in turns that have ended."""

    def generate(
        self,
        prompts: Mapping[int, Sequence[int]],
        noise: Mapping[int, Noise],
        max_new_tokens: int,
        on_token: OnToken | None = None,
    ) -> dict[int, Sampled]:
        """Submit all, and step until all have finished; see `submit` and `step`."""
        for conversation, prompt in prompts.items():
            self.submit(conversation, prompt, noise[conversation], max_new_tokens)
        generated: dict[int, Sampled] = {}
        try:
            while self.busy:
                generated |= self.step(on_token)
        finally:
            self.stop()
        return generated

    def stop(self) -> None:
        """Drop turns in progress; what of them is in the cache stays there."""
        self._turns.clear()

    def end(self, conversation: int) -> Sampled:
        """Drop the turn of one conversation, as `stop` does; give what it has sampled."""
        return self._turns.pop(conversation).generated

    def _draw(
        self, ready: Sequence[int], logits: Tensor, on_token: OnToken | None
    ) -> dict[int, Sampled]:
        """Sample the next token of each conversation that is ready, from its logits (n, V)."""
        ids, logprobs = self._sample(ready, logits)
        self._tell_top(ready, logits, ids)
        ended = {}
        for c, token, logprob in zip(ready, ids.tolist(), logprobs.tolist(), strict=True):
            turn = self._turns[c]
            turn.pending = [token]
            turn.generated.ids.append(token)
            turn.generated.logprobs.append(logprob)
            turn.generated.finished = token in self.stop_ids
            if turn.generated.finished or len(turn.generated.ids) == turn.budget:
                ended[c] = self._turns.pop(c).generated
            if on_token is not None:
                on_token(c, token, logprob)
        return ended

    def _sample(self, ready: Sequence[int], logits: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a token a row; rows that are drawn in the same way are drawn together."""
        uniform = [self._turns[c].noise() for c in ready]
        ways: dict[tuple[float, float], list[int]] = {}
        for row, c in enumerate(ready):
            own = self._turns[c].sampling
            ways.setdefault((own.temperature, own.top_p), []).append(row)
        if len(ways) == 1:
            return sample(logits, uniform, *next(iter(ways)))
        ids = torch.zeros(len(ready), dtype=torch.long, device=logits.device)
        logprobs = torch.zeros(len(ready), device=logits.device)
        for way, rows in ways.items():
            drawn = sample(logits[rows], [uniform[row] for row in rows], *way)
            ids[rows], logprobs[rows] = drawn
        return ids, logprobs

    def _tell_top(self, ready: Sequence[int], logits: Tensor, ids: Tensor) -> None:
        """Tell those who want to know which tokens were the most probable."""
        for row, c in enumerate(ready):
            own = self._turns[c].sampling
            if own.on_top is None:
                continue
            logprobs = logits[row].float().log_softmax(-1)
            best, places = logprobs.topk(min(own.top, len(logprobs)))
            top = list(zip(places.tolist(), best.tolist(), strict=True))
            own.on_top(float(logprobs[ids[row]]), top)


class RowTable:
    """The row of each conversation in a cache of ``count`` rows."""

    def __init__(self, count: int):
        self.count = count
        self._rows: dict[int, int] = {}  # conversation -> row

    def __getitem__(self, conversation: int) -> int:
        """The row of a conversation that has one."""
        return self._rows[conversation]

    def __contains__(self, conversation: int) -> bool:
        """Whether a conversation has a row."""
        return conversation in self._rows

    @property
    def used(self) -> int:
        """Number of leading rows that hold all conversations."""
        return max(self._rows.values()) + 1

    def take(self, conversation: int) -> None:
        """Give a conversation the first row that is free."""
        taken = set(self._rows.values())
        self._rows[conversation] = next(row for row in range(self.count) if row not in taken)

    def release(self, conversation: int) -> None:
        """Free the row of a conversation, if it has one."""
        self._rows.pop(conversation, None)

    def compact(self) -> list[tuple[int, int, int]]:
        """Move the last rows into those that are free, so that groups of neighbors are large.

        Returns:
            The conversation, the old row and the new one of each move, in order.
        """
        holders = {row: c for c, row in self._rows.items()}
        moves = []
        for hole in range(len(holders)):
            if hole not in holders:
                last = max(holders)
                mover = holders.pop(last)
                moves.append((mover, last, hole))
                self._rows[mover], holders[hole] = hole, mover
        return moves

    def items(self) -> list[tuple[int, int]]:
        """Pairs of a conversation and its row."""
        return list(self._rows.items())


def longest_beginning(
    ids: Sequence[int], others: Mapping[int, Sequence[int]]
) -> tuple[int | None, int]:
    """Find the sequence that begins with most of ``ids``: its key, or None, and how many it has."""
    best, most = None, 0
    for other, known in others.items():
        shared = common_beginning([ids, known])
        if shared > most:
            best, most = other, shared
    return best, most


def slots_of(starts: Tensor, counts: Tensor) -> Tensor:
    """The slots of new tokens, row after row, of rows that get ``counts`` from ``starts`` on."""
    ends = counts.cumsum(0)
    first = torch.repeat_interleave(starts - ends + counts, counts)
    return first + torch.arange(len(first))


def group_rows(
    rows: Sequence[int],
    counts: Sequence[int],
    starts: Sequence[int],
    whole_room: int | None,
    device: torch.device,
) -> list[RowGroup]:
    """Find rows that attend together: neighbors in the cache that get one token each.

    Args:
        rows: of the cache, in the order of their new tokens.
        counts: new tokens of each.
        starts: the slot of each one's first new token.
        whole_room: slots of the cache, where single tokens are to see all of them; else None.
        device: of the masks.
    """
    groups = []
    begin = 0
    for end in range(1, len(rows) + 1):
        if end < len(rows) and (
            counts[begin] == counts[end] == 1 and rows[end] == rows[end - 1] + 1
        ):
            continue
        seen = max(starts[begin:end]) + counts[begin]
        if whole_room is not None and counts[begin] == 1:
            seen = whole_room
        tokens = torch.arange(seen)
        upto = torch.tensor(starts[begin:end])[:, None] + torch.arange(counts[begin])
        mask = None
        if counts[begin] > 1 or min(starts[begin:end]) + 1 < seen:
            mask = Mask((tokens > upto[:, :, None]).to(device))
        groups.append(RowGroup(rows[begin], end - begin, counts[begin], seen, mask, upto))
        begin = end
    return groups
