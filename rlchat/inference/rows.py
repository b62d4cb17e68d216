"""Rows of a key-value cache: which conversation has which, and which rows attend together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rlchat.inference.kv_cache import RowGroup
from rlchat.models.attention import Mask
from rlchat.models.packing import common_beginning


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
