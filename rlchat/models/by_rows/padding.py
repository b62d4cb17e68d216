"""Rows of tokens for a model's plain forward: padded on the right, where causal models never look.

Rows of similar lengths run together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlchat.models.attention import layers_of, states_entering, trunk_and_head

SPREAD = 1.5  # a forward's longest row by its shortest, at most: what is more would be padding


@dataclass(frozen=True)
class PaddedRows:
    """B rows of token ids, each at a place of its own among N, in forwards of similar lengths.

    Attributes:
        rows: Token ids (T,) of each.
        begins: The place of each row's first token.
        shapes: Rows and tokens of each forward, in the order of their places.
    """

    rows: Sequence[Tensor]
    begins: list[int]
    shapes: list[tuple[int, int]]

    @classmethod
    def of(cls, rows: Sequence[Tensor], spread: float = SPREAD) -> PaddedRows:
        """Lay out rows of token ids, at least one, each (T,) with T of at least 1."""
        begins, shapes, place = [0] * len(rows), [(0, 0)], 0
        for row in sorted(range(len(rows)), key=lambda row: -len(rows[row])):
            count, longest = shapes[-1]
            if count and longest <= spread * len(rows[row]):
                shapes[-1] = count + 1, longest
            else:
                longest = len(rows[row])
                shapes.append((1, longest))
            begins[row] = place
            place += longest
        return cls(rows, begins, shapes[1:])

    def lay(self, parts: Sequence[Tensor]) -> Tensor:
        """Lay out what rows have a token each, (T, …) a row; (N, …), 0 where no row's token is."""
        places = sum(count * longest for count, longest in self.shapes)
        laid = parts[0].new_zeros(places, *parts[0].shape[1:])
        for begin, part in zip(self.begins, parts, strict=True):
            laid[begin : begin + len(part)] = part
        return laid

    @property
    def ids(self) -> Tensor:
        """Token ids (N,) of all rows."""
        return self.lay(self.rows)

    def at(self, row: Tensor, token: Tensor) -> Tensor:
        """Places of the given tokens of the given rows."""
        return torch.tensor(self.begins, device=row.device)[row] + token

    def row(self, laid: Tensor, row: int) -> Tensor:
        """Take one row's (T, …) out of (N, …)."""
        return laid[self.begins[row] : self.begins[row] + len(self.rows[row])]

    def forwards(self) -> list[Tensor]:
        """Token ids (B, T) of each forward."""
        pieces = self.ids.split([count * longest for count, longest in self.shapes])
        return [ids.view(shape) for ids, shape in zip(pieces, self.shapes, strict=True)]


def padded_states(
    model: PreTrainedModel, rows: PaddedRows, middle: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Run a model's trunk over rows, as transformers does without a cache.

    Args:
        model: the model.
        rows: what it reads.
        middle: also give the states that enter this layer, or the last states if there is none.

    Returns:
        Last states (N, D), and those of the middle or None.
    """
    trunk: nn.Module = trunk_and_head(model)[0]
    # Some families keep their states in float32 up to here, and round them for the output layer.
    dtype = model.get_output_embeddings().weight.dtype
    layers = () if middle is None else layers_of(model)
    last, entered = [], []
    for ids in rows.forwards():
        with states_entering(layers, middle) as seen:
            states = trunk(input_ids=ids, use_cache=False).last_hidden_state.to(dtype)
        last.append(states.flatten(0, 1))
        entered.append((seen[0].to(dtype) if seen else states).flatten(0, 1))
    return torch.cat(last), None if middle is None else torch.cat(entered)
