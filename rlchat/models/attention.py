"""Attention over sequences that are several rows at once, registered with transformers.

A forward of ours is one long sequence; a `Layout`, passed through the model to its attention, tells
which token attends to which. Linear maps and norms then work on tokens and never on padding. On a
CPU two batched products and a softmax also cost a third of torch's own kernel with its backward
pass, and heads that share keys and values are folded into one product instead of copied apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

NAME = "rlchat_layout"


class Layout(Protocol):
    """Layout of the rows in a sequence: which token attends to which."""

    @property
    def longest(self) -> int:
        """Length of the longest row, in tokens."""
        ...

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attend from (H, N, D) to (G, N, D) in a layer; give (N, H, D)."""
        ...


def trunk_and_head(model: PreTrainedModel) -> tuple[nn.Module, nn.Module]:
    """The part of a causal language model that gives states, and the part that gives logits."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Module)
    return getattr(model, model.base_model_prefix), head


def middle_layer(layers: int) -> int:
    """Which of a model's hidden states, the embeddings' being 0, lies two thirds up."""
    return 2 * (layers + 1) // 3


@contextmanager
def states_entering(layers: Any, place: int | None) -> Iterator[list[Tensor]]:
    """Collect the states that enter a layer; transformers' own record depends on earlier calls."""
    seen: list[Tensor] = []
    if place is None or place >= len(layers):
        yield seen
        return

    def keep(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(given[0])

    handle = layers[place].register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def use_layouts(model: PreTrainedModel) -> None:
    """Let a model attend as the layout says that a forward is given."""
    AttentionInterface.register(NAME, _attention)
    model.set_attn_implementation(NAME)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend from (B, H, T, D) to (B, G, T, D) as transformers asks; give (B, T, H, D).

    Without a layout each of the B is a row of its own, without padding.
    """
    for name in ("s_aux", "softcap"):  # sinks, and caps on scores
        if kwargs.get(name) is not None:
            raise NotImplementedError(f"attention with {name}")
    window = kwargs.get("sliding_window")
    if window is not None and window < (query.shape[2] if layout is None else layout.longest):
        raise NotImplementedError(f"attention to the last {window} tokens")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layout is None:
        tokens, seen = query.shape[2], key.shape[2]
        pairs = torch.ones(tokens, seen, dtype=torch.bool, device=query.device)
        mask = Mask(pairs.triu(seen - tokens + 1))
        return attend(query, key, value, mask, scale).transpose(1, 2).contiguous(), None
    assert isinstance(module.layer_idx, int)
    return layout.attend(module.layer_idx, query[0], key[0], value[0], scale)[None], None


class Mask:
    """The pairs of tokens that do not attend, as what is added to scores: one for all layers.

    The product that makes the scores adds it in passing; filling them in afterwards costs as much
    as two more products, and once more in the backward pass.
    """

    def __init__(self, hidden: Tensor):
        """Take (Q, S), or (B, Q, S) for rows that differ: True where a query does not see."""
        self._hidden = hidden
        self._added: dict[tuple[int, int, torch.dtype], Tensor] = {}

    def added(self, heads: int, groups: int, dtype: torch.dtype) -> Tensor:
        """Give (1 or B G, H / G Q, S): 0 or -inf, for heads that are folded as `attend` does."""
        key = heads, groups, dtype
        if key not in self._added:
            zeros = torch.zeros(self._hidden.shape, dtype=dtype, device=self._hidden.device)
            once = zeros.masked_fill_(self._hidden, -torch.inf)
            folded = once.repeat(*(1,) * (once.dim() - 2), heads // groups, 1)
            if once.dim() == 2:
                self._added[key] = folded[None]
            else:
                self._added[key] = folded.repeat_interleave(groups, 0)
        return self._added[key]


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask | None, scale: float) -> Tensor:
    """Scaled dot-product attention with grouped keys and values (Ainslie et al. 2023).

    Args:
        query: (…, H, Q, D), with one dimension before at most.
        key: (…, G, S, D), with H a multiple of G.
        value: as ``key``.
        mask: who does not see whom; None hides nothing.
        scale: of the products.

    Returns:
        (…, H, Q, D).
    """
    heads, queries, dim = query.shape[-3:]
    groups, seen = key.shape[-3:-1]
    folded = query.reshape(-1, heads // groups * queries, dim)
    keys, values = key.reshape(-1, seen, dim).mT, value.reshape(-1, seen, dim)
    if mask is None:
        scores = torch.bmm(folded * scale, keys)
    else:
        scores = torch.baddbmm(mask.added(heads, groups, query.dtype), folded, keys, alpha=scale)
    return torch.bmm(scores.softmax(-1), values).view(query.shape)
