"""How many tokens a row may have, in models whose positions end or change with the longest row."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from rlchat.errors import UserError
from rlchat.models.attention import text_config, trunk_and_head
from rlchat.models.exact.tiny_settings import rope_settings


def row_limit(model: PreTrainedModel) -> int | None:
    """Tokens that a row may have at most for what is computed here to be exact; None for any.

    Learned positions end. Rotary settings that go by the longest row (dynamic, long) would change
    with what shares a forward, from their original context on; chunks of attention part rows.
    """
    config = text_config(model)
    limits = [getattr(config, "attention_chunk_size", None)]
    room = getattr(config, "max_position_embeddings", None)
    own = getattr(config, "original_max_position_embeddings", None)
    for rope in rope_settings(config):
        if rope.get("rope_type") == "dynamic":
            limits.append(room)
        elif rope.get("rope_type") == "longrope":
            limits.append(rope.get("original_max_position_embeddings") or own or room)
    if learned := _learned_positions(model):
        limits.append(room or learned)
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def check_room(limit: int | None, tokens: int) -> None:
    """Refuse rows of more tokens than a model can have; see `row_limit`.

    Raises:
        UserError: ``tokens`` are too many.
    """
    if limit is not None and tokens > limit:
        raise UserError(
            f"expected conversations of at most {limit} tokens, as far as this model's positions "
            f"reach; got one of up to {tokens}; lower --rollout.max-tokens by {tokens - limit}, or "
            "choose another model"
        )


def _learned_positions(model: PreTrainedModel) -> int | None:
    """Entries of the language model's table of positions, beside that of words, if it has one."""
    trunk, _ = trunk_and_head(model)
    for name, module in trunk.named_modules():
        last = name.rpartition(".")[2]
        if "pos" not in last and last != "wpe":
            continue
        if isinstance(module, torch.nn.Embedding) and module is not model.get_input_embeddings():
            return module.num_embeddings
    return None
