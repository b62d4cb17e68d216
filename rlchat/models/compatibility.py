"""Which models compute what training here assumes; others are refused at load."""

from __future__ import annotations

import math

import torch
from transformers import PreTrainedModel

from rlchat.errors import UserError
from rlchat.models.attention import trunk_and_head, use_layouts
from rlchat.models.packing import Packing


@torch.inference_mode()
def check_compatible(model: PreTrainedModel) -> None:
    """Refuse models that compute otherwise than forwards of ours do.

    Their logits have to be their head applied to their last states, and rows that lie in one
    sequence have to be what they are alone.
    """
    trunk, head = trunk_and_head(model)
    # Ordinary words, from the middle of the vocabulary: on marks that a model never saw side by
    # side, half precision alone moves its logits by as much as a row's neighbours would.
    word = model.config.vocab_size // 2
    rows = [torch.arange(word, word + 8), torch.arange(word + 5, word, -1)]
    rows = [row.to(model.device) for row in rows]
    alone = [model(input_ids=row[None], use_cache=False).logits[0] for row in rows]
    packing = Packing.of(rows)
    try:
        use_layouts(model)
        out = trunk(
            input_ids=packing.ids[None],
            position_ids=packing.positions[None],
            use_cache=False,
            layout=packing,
        )
        packed = head(out.last_hidden_state[0])
        off = max(
            float((packing.row(packed, i) - a).float().norm() / a.float().norm())
            for i, a in enumerate(alone)
        )
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        off = math.inf
    if off > (1e-3 if model.dtype == torch.float32 else 1e-1):
        raise UserError(
            "expected a model that attends through transformers' attention interface and whose "
            f"logits are its output layer's; {type(model).__name__} computes otherwise, which "
            "training here would miss; choose another model"
        )
