"""Attention over sequences that are several rows at once, registered with transformers.

A forward of ours is one long sequence; a `Layout`, passed through the model to its attention, tells
which token attends to which. Linear maps and norms then work on tokens and never on padding. On a
CPU two batched products and a softmax also cost a third of torch's own kernel with its backward
pass, and heads that share keys and values are folded into one product instead of copied apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel

from rlchat.models.heads import head_of

NAME = "rlchat_layout"


class Scoring(NamedTuple):
    """What a layer makes of the products of queries and keys.

    Attributes:
        scale: factor of the products.
        window: a token sees the last so many tokens of its row, itself included; None for all.
        cap: scores stay within ± so much, by a hyperbolic tangent (Gemma 2).
        sinks: (H,) a score of each head's that takes weight and gives no value (gpt-oss).
    """

    scale: float
    window: int | None = None
    cap: float | None = None
    sinks: Tensor | None = None


class Layout(Protocol):
    """Layout of the rows in a sequence: which token attends to which."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> Tensor:
        """Attend from (H, N, D) to (G, N, D) in a layer, values (G, N, E); give (N, H, E)."""
        ...


def text_config(model: PreTrainedModel) -> PreTrainedConfig:
    """The configuration of a model's language model, which may be a part of it."""
    config: PreTrainedConfig = model.config.get_text_config(decoder=True)
    return config


def trunk_and_head(model: PreTrainedModel) -> tuple[nn.Module, nn.Module]:
    """The part of a causal language model that gives states, and the part that gives logits.

    Of a model that takes images or sounds as well it is the language model's part alone.
    """
    words = model.get_input_embeddings()
    trunk: Any = getattr(model, model.base_model_prefix, None) or next(
        part for part in model.children() if any(module is words for module in part.modules())
    )
    if text_config(model) is not model.config:
        trunk = trunk.get_decoder()
    assert isinstance(trunk, nn.Module)
    return trunk, head_of(model)


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of a model, wherever its family keeps them."""
    trunk, _ = trunk_and_head(model)
    count = text_config(model).num_hidden_layers
    for module in trunk.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise NotImplementedError("its layers are in no list")


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
    if attention_mask is not None:  # transformers makes none for us: a model's own, or a bias
        raise NotImplementedError("attention with a mask")
    scoring = Scoring(
        query.shape[-1] ** -0.5 if scaling is None else scaling,
        kwargs.get("sliding_window"),
        kwargs.get("softcap"),
        kwargs.get("s_aux"),
    )
    if layout is None:
        mask = unseen(query.shape[2], key.shape[2], scoring.window, query.device)
        return attend(query, key, value, mask, scoring).transpose(1, 2).contiguous(), None
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int):
        raise NotImplementedError("attention that is of no one layer")
    return layout.attend(layer, query[0], key[0], value[0], scoring)[None], None


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


def unseen(tokens: int, seen: int, window: int | None, device: torch.device) -> Mask:
    """Hide from the last ``tokens`` of ``seen`` what follows them, and what left the window."""
    everything = torch.ones(tokens, seen, dtype=torch.bool, device=device)
    hidden = everything.triu(seen - tokens + 1)
    if window is not None and window < seen:
        hidden |= everything.tril(seen - tokens - window)
    return Mask(hidden)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask | None, scoring: Scoring
) -> Tensor:
    """Scaled dot-product attention with grouped keys and values (Ainslie et al. 2023).

    Args:
        query: (…, H, Q, D), with one dimension before at most.
        key: (…, G, S, D), with H a multiple of G.
        value: (…, G, S, E).
        mask: who does not see whom, by the window too; None hides nothing.
        scoring: what becomes of the products.

    Returns:
        (…, H, Q, E).
    """
    weights = attention_weights(query, key, mask, scoring)
    values = value.reshape(-1, value.shape[-2], value.shape[-1])
    return torch.bmm(weights, values).view(*query.shape[:-1], -1)


def attention_weights(query: Tensor, key: Tensor, mask: Mask | None, scoring: Scoring) -> Tensor:
    """The softmax of scaled products, (… G, H / G Q, S), with heads of a group folded together.

    Viewed as (…, H, Q, S) they are each head's. The arguments are those of `attend`.
    """
    heads, queries, dim = query.shape[-3:]
    groups, seen = key.shape[-3:-1]
    folded = query.reshape(-1, heads // groups * queries, dim)
    keys = key.reshape(-1, seen, dim).mT
    added = None if mask is None else mask.added(heads, groups, query.dtype)
    if scoring.cap is not None:
        scores = torch.tanh(torch.bmm(folded * scoring.scale, keys) / scoring.cap) * scoring.cap
        scores = scores if added is None else scores + added
    elif added is None:
        scores = torch.bmm(folded * scoring.scale, keys)
    else:
        scores = torch.baddbmm(added, folded, keys, alpha=scoring.scale)
    if scoring.sinks is None:
        return scores.softmax(-1)
    sinks = scoring.sinks.view(groups, -1).repeat_interleave(queries, 1)
    sinks = sinks.repeat(len(scores) // groups, 1)[..., None]
    return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
