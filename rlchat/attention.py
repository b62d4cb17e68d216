"""Attention for a CPU: plain products over groups of heads, registered with transformers.

On small rows of a few hundred tokens torch's CPU kernel for scaled dot-product attention costs
more than everything but the linear maps, most of it in its backward pass; two batched products
and a softmax cost a third of that. Heads that share keys and values are folded into one product
instead of being copied apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

NAME = "rlchat_grouped"
PLAIN = ("llama",)  # architectures without caps, sinks or the like in their attention


def use_grouped_attention(model: PreTrainedModel) -> None:
    """Let a model on the CPU attend with `grouped_attention`, if that computes the same."""
    if model.config.model_type in PLAIN and model.device.type == "cpu":
        AttentionInterface.register(NAME, grouped_attention)
        AttentionMaskInterface.register(NAME, eager_mask)
        model.set_attn_implementation(NAME)


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention with grouped keys and values (Ainslie et al. 2023).

    Args:
        module: is not asked.
        query: (B, H, Q, D).
        key: (B, G, S, D), with H a multiple of G.
        value: as ``key``.
        attention_mask: (B or 1, 1, Q, S), True or 0 where a query sees, False or very negative
            elsewhere; None lets every query see everything.
        scaling: of the products; None is D to the power -1/2.
        kwargs: of other attentions.

    Returns:
        (B, Q, H, D), and no weights.
    """
    batch, heads, queries, dim = query.shape
    groups = key.shape[1]
    scaled = query * (dim**-0.5 if scaling is None else scaling)
    scores = scaled.reshape(batch, groups, -1, dim) @ key.transpose(2, 3)
    scores = scores.view(batch, heads, queries, -1)
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + attention_mask
    weights = scores.softmax(-1).view(batch, groups, -1, key.shape[2])
    out = (weights @ value).view(batch, heads, queries, dim)
    return out.transpose(1, 2).contiguous(), None
