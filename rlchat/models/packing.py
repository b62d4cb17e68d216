"""Rows of tokens laid end to end: no padding, and what all rows begin with lies there once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import rotate_half

from rlchat.models.attention import Mask, Scoring, attend, unseen

STRIDE = 32  # packings are multiples of it long: a CPU prepares its products once per shape

PrefixKV = Sequence[tuple[Tensor, Tensor]]  # keys and values (G, P, D) of each layer


class LaidRows(Protocol):
    """B rows of tokens at N places: a `Packing`, or rows that are padded (`PaddedRows`)."""

    @property
    def rows(self) -> Sequence[Tensor]:
        """Token ids (T,) of each row."""
        ...

    @property
    def ids(self) -> Tensor:
        """Token ids (N,) of all places."""
        ...

    def lay(self, parts: Sequence[Tensor]) -> Tensor:
        """Lay out what rows have a token each, (T, …) a row; (N, …), 0 where no row's token is."""
        ...

    def at(self, row: Tensor, token: Tensor) -> Tensor:
        """Places of the given tokens of the given rows."""
        ...

    def row(self, laid: Tensor, row: int) -> Tensor:
        """Take one row's (T, …) out of (N, …)."""
        ...


@dataclass(frozen=True)
class Packing:
    """B rows of token ids as one sequence of N: the shared beginning, what each row has of its own.

    A token sees its row's tokens up to itself, and its position is its place in the row. Before
    every row may come ``virtual`` tokens that have no id, or ``before`` tokens of which only the
    keys and values, ``prefix_kv``, are known, given later. ``filler`` tokens at the end attend
    to nothing, and no token attends to them.
    """

    rows: Sequence[Tensor]
    virtual: int
    before: int
    shared: int  # the virtual tokens included
    own: list[int]
    filler: int
    positions: Tensor
    prefix_kv: PrefixKV | None = None
    masks: dict[tuple[int, int, int | None], Mask] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, rows: Sequence[Tensor], virtual: int = 0, before: int = 0) -> Packing:
        """Lay out rows of token ids, at least one, each (T,) with T of at least 1."""
        same = common_beginning([row.tolist() for row in rows]) if len(rows) > 1 else 0
        # A row keeps at least one token of its own, so that none is empty.
        same = min(same, min(len(row) for row in rows) - 1)
        shared, own = virtual + same, [len(row) - same for row in rows]
        filler = -(shared + sum(own)) % STRIDE
        places = [torch.arange(shared), *(shared + torch.arange(n) for n in own)]
        positions = before + torch.cat(places)
        positions = nn.functional.pad(positions, (0, filler)).to(rows[0].device)
        return cls(rows, virtual, before, shared, own, filler, positions)

    @property
    def longest(self) -> int:
        """Length of the longest row, with what comes before it, in tokens."""
        return int(self.positions.max()) + 1

    def lay(self, parts: Sequence[Tensor]) -> Tensor:
        """Lay out what rows have a token each, (T, …) a row; (N, …), 0 where no row's token is."""
        same = self.shared - self.virtual
        laid = torch.cat([parts[0][:same], *(part[same:] for part in parts)])
        return nn.functional.pad(laid, (0, 0) * (laid.dim() - 1) + (self.virtual, self.filler))

    @property
    def ids(self) -> Tensor:
        """Token ids (N,) of the whole packing."""
        return self.lay(self.rows)

    def at(self, row: Tensor, token: Tensor) -> Tensor:
        """Positions of the given tokens of the given rows in the packing."""
        begins = torch.tensor([0, *self.own[:-1]], device=row.device).cumsum(0)
        place = token + self.virtual
        return torch.where(place < self.shared, place, place + begins[row])

    def row(self, laid: Tensor, row: int) -> Tensor:
        """Take one row's (T, …) out of (N, …)."""
        begin = self.shared + sum(self.own[:row])
        return torch.cat([laid[self.virtual : self.shared], laid[begin : begin + self.own[row]]])

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> Tensor:
        """Attend as a `Layout`: each row to the prefix, to the shared tokens and to itself."""
        pieces = [self.shared, *self.own, self.filler]
        queries, *seen = (x.split(pieces, dim=1) for x in (query, key, value))
        before = ((),) * 2 if self.prefix_kv is None else tuple((x,) for x in self.prefix_kv[layer])
        out = []
        for i, tokens in enumerate(pieces[:-1]):
            if not tokens:
                continue
            rows = [
                torch.cat([*b, *(x[:1] if i else ()), x[i]], dim=1)
                for b, x in zip(before, seen, strict=True)
            ]
            mask = self._mask(tokens, rows[0].shape[1], scoring.window)
            out.append(attend(queries[i], rows[0], rows[1], mask, scoring).transpose(0, 1))
        return torch.cat([*out, value.new_zeros(self.filler, len(query), value.shape[-1])])

    def attend_at(
        self, at: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float
    ) -> Tensor:
        """Attend from the tokens that lie at ``at`` (A,) alone; nothing may come before the rows.

        Args:
            at: places of the queries, in any order.
            query: (H, A, D).
            key: (G, N, D), of all tokens.
            value: as ``key``.
            scale: of the products.

        Returns:
            (A, H, D).
        """
        assert not self.virtual and not self.before
        pieces, begin = [self.shared, *self.own], 0
        out, order = [], []
        for i, tokens in enumerate(pieces):
            (mine,) = ((at >= begin) & (at < begin + tokens)).nonzero(as_tuple=True)
            if len(mine):
                places = slice(begin, begin + tokens)
                rows = [
                    torch.cat([*((x[:, : self.shared],) if i else ()), x[:, places]], dim=1)
                    for x in (key, value)
                ]
                seen = torch.arange(rows[0].shape[1], device=at.device)
                upto = at[mine, None] - begin + (self.shared if i else 0)
                mask = Mask(seen > upto)
                seen_by = attend(query[:, mine], rows[0], rows[1], mask, Scoring(scale))
                out.append(seen_by.transpose(0, 1))
                order.append(mine)
            begin += tokens
        return torch.cat(out)[torch.cat(order).argsort()]

    def _mask(self, tokens: int, seen: int, window: int | None) -> Mask:
        """See `unseen`; one for all layers."""
        size = tokens, seen, window
        if size not in self.masks:
            self.masks[size] = unseen(*size, self.positions.device)
        return self.masks[size]


def common_beginning(rows: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all rows begin with."""
    return sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, zip(*rows, strict=False)))


@contextmanager
def some_layers(trunk: Any, layers: slice, norm: bool = True) -> Iterator[None]:
    """Leave a Llama's trunk some of its layers for a while, with or without the final norm."""
    kept = trunk.layers, trunk.norm
    assert isinstance(kept[0], nn.ModuleList)
    try:
        trunk.layers = kept[0][layers]
        if not norm:
            trunk.norm = nn.Identity()
        yield
    finally:
        trunk.layers, trunk.norm = kept


def last_layer(
    layer: Any, states: Tensor, rotary: tuple[Tensor, Tensor], packing: Packing, at: Tensor
) -> Tensor:
    """Run a Llama's decoder layer for some of the tokens in a packing.

    Args:
        layer: the layer.
        states: (N, D), of all tokens, before the layer.
        rotary: cosine and sine (1, N, d) of the tokens' positions (Su et al. 2021).
        packing: which token attends to which.
        at: (A,) places of the tokens that are wanted.

    Returns:
        (A, D), after the layer.
    """
    attention = layer.self_attn
    cosine, sine = (x[0] for x in rotary)

    def heads(x: Tensor) -> Tensor:
        return x.view(len(x), -1, attention.head_dim).transpose(0, 1)

    def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        half: Tensor = rotate_half(x)
        return x * cosine + half * sine

    normed = layer.input_layernorm(states)
    query = turned(heads(attention.q_proj(normed[at])), cosine[at], sine[at])
    key = turned(heads(attention.k_proj(normed)), cosine, sine)
    value = heads(attention.v_proj(normed))
    seen = packing.attend_at(at, query, key, value, attention.scaling)
    after: Tensor = states[at] + attention.o_proj(seen.flatten(1))
    after = after + layer.mlp(layer.post_attention_layernorm(after))
    return after
