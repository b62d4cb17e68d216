"""A small model of another's kind: same class and settings, few layers, narrow, random weights.

What an architecture computes shows in a model of two layers as in one of sixty. The copy keeps what
decides it (kinds of layers, rotary settings, scales, caps, norms) and scales down what costs:
widths, heads, experts, words, and with them windows and contexts, so that short rows exceed them.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from rlchat.models.exact.tiny_state_spaces import shrink_state_spaces

HEAD_DIM, VALUE_DIM, WIDTH, WORDS = 16, 12, 48, 96
WINDOW, CONTEXT, ROOM = 6, 24, 64  # tokens: of a window, of an original context, of positions
MOST_LAYERS = 6
MOST_WEIGHTS = 20_000_000  # of a copy: more would be no copy, but another model

_SMALLER = (  # what the names of settings say, and how large each may be
    (r"intermediate|^ffn_(dim|hidden_size)$|^n_inner$|^d_ff$|^expansion_size$", WIDTH),
    (r"lora_rank", HEAD_DIM),
    (r"^vocab_size", WORDS),
    (r"^(sliding_window|window_size|attention_window_size)$", WINDOW),
    (r"^attention_chunk_size$", CONTEXT),
    (r"^(num_experts|n_routed_experts|num_local_experts|moe_num_experts)$", 8),
    (r"experts_per_tok|^moe_(k|topk|top_k)$|^(top_k_experts|n_group)$", 2),
    (r"^(topk_group|first_k_dense_replace|n_shared_experts)$", 1),
    (r"^qk_nope_head_dim$", HEAD_DIM),
    (r"^qk_rope_head_dim$", HEAD_DIM // 2),
    (r"^v_head_dim$", VALUE_DIM),
    (r"^rotary_dim$", HEAD_DIM // 2),
)


def tiny_copy(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """A random model of few and narrow layers, on the CPU in float32, of the class of ``model``."""
    config = shrunk(model.config)
    with torch.device("meta"):
        size = sum(p.numel() for p in type(model)(config).parameters())
    if size > MOST_WEIGHTS:
        raise NotImplementedError(f"its settings shrink to {size} weights")
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        torch.manual_seed(seed)
        tiny: PreTrainedModel = type(model)(config).float().eval()
        randomize(tiny)
    return tiny


@torch.no_grad()
def randomize(model: PreTrainedModel) -> None:
    """Draw weights that are large enough for attention to matter, and no two norms or biases alike.

    A fresh model's are so small that what it attends to hardly shows.
    """
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.dim() > 1:
            parameter.copy_(noise * 1.5 * parameter.shape[-1] ** -0.5)
        else:
            parameter.add_(noise * 0.1)


def shrunk(config: PreTrainedConfig) -> PreTrainedConfig:
    """A configuration of the same kind whose model costs next to nothing."""
    small = copy.deepcopy(config)
    small._attn_implementation = "eager"
    _set(small, "dtype", torch.float32)
    _shrink_layers(small)
    for name, value in _numbers(small):
        for pattern, most in _SMALLER:
            if re.search(pattern, name) and value > most:
                _set(small, name, most)
    _shrink_heads(small)
    shrink_state_spaces(small)
    _shrink_context(small)
    for name, value in _numbers(small):
        if name.endswith("token_id") and value >= WORDS:
            _set(small, name, 0)
    return small


def _numbers(config: PreTrainedConfig) -> list[tuple[str, int]]:
    return [(k, v) for k, v in vars(config).items() if type(v) is int]


def _set(config: PreTrainedConfig, name: str, value: Any) -> None:
    setattr(config, name, value)


def _shrink_layers(config: PreTrainedConfig) -> None:
    """Keep one layer of each kind, two at least, and of lists by layer what belongs to those."""
    count = config.num_hidden_layers
    by_layer = {k: v for k, v in vars(config).items() if isinstance(v, list) and len(v) == count}
    first: dict[str, int] = {}
    for layer in range(count):
        kind = repr([values[layer] for values in by_layer.values()])
        first.setdefault(kind, layer)
    kept = sorted({*first.values(), 0, min(1, count - 1)})[:MOST_LAYERS]
    _set(config, "num_hidden_layers", len(kept))
    for name, values in by_layer.items():
        _set(config, name, [values[layer] for layer in kept])


def _shrink_heads(config: PreTrainedConfig) -> None:
    """Two groups of two heads, or as many of each as tell apart what the model does."""
    heads = getattr(config, "num_attention_heads", None)
    if not isinstance(heads, int):
        _set(config, "hidden_size", 2 * HEAD_DIM)
        return
    groups = getattr(config, "num_key_value_heads", None)
    own = vars(config).get("head_dim")
    few = 1 if groups == 1 else 2
    if groups is None or groups == heads:
        heads, groups = min(heads, 2), groups and min(groups, 2)
    else:
        heads, groups = 4, few
    _set(config, "num_attention_heads", heads)
    if groups is not None:
        _set(config, "num_key_value_heads", groups)
    latent = getattr(config, "qk_rope_head_dim", None)
    if isinstance(own, int):
        _set(config, "head_dim", HEAD_DIM if latent is None else latent)
    if isinstance(getattr(config, "qk_head_dim", None), int):
        _set(config, "qk_head_dim", config.qk_nope_head_dim + config.qk_rope_head_dim)
    _set(config, "hidden_size", heads * HEAD_DIM)


def _shrink_context(config: PreTrainedConfig) -> None:
    """Positions for the rows that are tried; an original context that those exceed."""
    ropes = rope_settings(config)
    room = getattr(config, "max_position_embeddings", None)
    original = [rope.get("original_max_position_embeddings") for rope in ropes]
    original.append(getattr(config, "original_max_position_embeddings", None))
    known = next((o for o in original if o), None)
    if isinstance(room, int):
        dynamic = any(rope.get("rope_type") == "dynamic" for rope in ropes)
        ratio = max(1, round(room / known)) if known else 1
        _set(config, "max_position_embeddings", CONTEXT * ratio if known or dynamic else ROOM)
    for holder in (*ropes, vars(config)):
        if holder.get("original_max_position_embeddings"):
            holder["original_max_position_embeddings"] = CONTEXT
    for rope in ropes:
        share = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", 1)
        for name in ("short_factor", "long_factor"):
            if isinstance(rope.get(name), list):
                rope[name] = rope[name][: int(HEAD_DIM * (share or 1)) // 2]


def rope_settings(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """The rotary settings of a model: one, or one a kind of layer, or none."""
    found = getattr(config, "rope_parameters", None)
    if not isinstance(found, dict):
        return []
    nested = [value for value in found.values() if isinstance(value, dict)]
    return nested or [found]
