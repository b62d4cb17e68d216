"""Keys and values of many conversations, and the layout of a forward that appends to them."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlchat.models.attention import Mask, Scoring, attend

GROWTH = 64  # slots that the cache grows by: copying is rare, and little lies unused


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows of the cache from ``first`` on that get ``tokens`` each, and see up to ``seen``.

    ``upto`` (rows, tokens) are the new tokens' own slots.
    """

    first: int
    rows: int
    tokens: int
    seen: int
    mask: Mask | None
    upto: Tensor
    _windows: dict[int, Mask] = field(default_factory=dict)

    def mask_of(self, window: int | None, device: torch.device) -> Mask | None:
        """The mask of layers whose tokens see the last ``window``, themselves included."""
        if window is None or window >= self.seen:
            return self.mask
        if window not in self._windows:
            slots, own = torch.arange(self.seen, device=device), self.upto.to(device)[..., None]
            self._windows[window] = Mask((slots > own) | (slots <= own - window))
        return self._windows[window]


def lazy_zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros on the CPU whose memory the system gives page by page, as it is first written."""
    count = math.prod(shape)
    private: dict[str, Any] = {}
    if hasattr(mmap, "MAP_PRIVATE"):  # not on Windows, where nothing else is lazy either
        private["flags"] = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, max(1, count) * dtype.itemsize, **private)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # a huge page is as large as the rows of several heads
        with contextlib.suppress(OSError):  # of a kernel that has none
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype, count=count).view(*shape)


def is_lazy(weight: Tensor) -> bool:
    """Whether a cache for a model with that weight is laid out whole, in lazily given memory.

    In half precision a step's products take whole rows of it, so that they are to be short.
    """
    return weight.device.type == "cpu" and weight.dtype == torch.float32


class Cache:
    """Keys and values of every layer, each token at its own position: (rows, G, room, D).

    There is no padding inside: token p of a row lies in slot p. Heads come before slots, so that
    attention's products read a slice as it lies.

    Attributes:
        rows: at most.
        slots: of a row, at most.
        held: rows that there is memory for.
        room: slots that there is memory for.
        layers: keys and values, of layers that have any.
    """

    def __init__(self, layers: int, rows: int, slots: int, lazy: bool = False):
        """Hold nothing yet; a ``lazy`` cache never grows, and takes memory as it is written."""
        self.rows, self.slots, self._lazy = rows, slots, lazy
        self.held, self.room = (rows, slots) if lazy else (0, 0)
        self.layers: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def make_room(self, tokens: int, rows: int) -> None:
        """Allocate so many tokens for the first rows, and keep what they have.

        When that takes new memory, later rows get none: the longest conversations are the last to
        end, and are few by then.
        """
        assert tokens <= self.slots, f"{tokens} tokens in a cache of {self.slots}"
        if tokens <= self.room and rows <= self.held:
            return
        old, both = self.room, min(rows, self.held)
        self.held, self.room = rows, max(old, min(self.slots, -(-tokens // GROWTH) * GROWTH))
        for layer, pair in enumerate(self.layers):
            if pair is not None:
                larger = self._empty(pair[0]), self._empty(pair[1])
                for new, kept in zip(larger, pair, strict=True):
                    new[:both, :, :old] = kept[:both]
                self.layers[layer] = larger

    def write(
        self, layer: int, rows: Tensor, slots: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Put (G, N, D) states of N tokens where they belong; give the layer's."""
        pair = self.layers[layer]
        if pair is None:
            pair = self.layers[layer] = self._empty(key[None]), self._empty(value[None])
        for states, new in zip(pair, (key, value), strict=True):
            states[rows, :, slots] = new.transpose(0, 1)
        return pair

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Give a row the first tokens of another."""
        for pair in self.layers:
            for states in pair or ():
                states[target, :, :tokens] = states[source, :, :tokens]

    def _empty(self, like: Tensor) -> Tensor:
        shape = (self.held, like.shape[1], self.room, like.shape[3])
        return lazy_zeros(shape, like.dtype) if self._lazy else like.new_zeros(shape)


@dataclass(frozen=True)
class StepLayout:
    """The layout of one forward: which rows of the cache its tokens belong to."""

    cache: Cache
    rows: Tensor  # (n,), of the cache
    slots: Tensor  # (n,)
    groups: Sequence[RowGroup]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> Tensor:
        """Write the new tokens' states, and let each see its row up to itself."""
        count = len(self.rows)
        keys, values = self.cache.write(
            layer, self.rows, self.slots, key[:, :count], value[:, :count]
        )
        out, begin = [], 0
        for group in self.groups:
            rows = slice(group.first, group.first + group.rows)
            end = begin + group.rows * group.tokens
            queries = query[:, begin:end].unflatten(1, (group.rows, group.tokens)).transpose(0, 1)
            seen = keys[rows, :, : group.seen], values[rows, :, : group.seen]
            mask = group.mask_of(scoring.window, query.device)
            out.append(attend(queries, *seen, mask, scoring).transpose(1, 2).flatten(0, 1))
            begin = end
        filler = query.shape[1] - count
        if filler:
            out.append(query.new_zeros(filler, *out[0].shape[1:]))
        return torch.cat(out)
