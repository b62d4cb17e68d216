"""What a tiny copy of a model with recurrent layers scales down beside the attention's settings."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

STATE, CHUNK, HEADS = 8, 8, 4

_HEADS = (  # how families call the heads of state spaces, and the width of each
    *(("mamba_n_heads", "mamba_d_head"), ("mamba_num_heads", "mamba_head_dim")),
    *(("n_mamba_heads", "mamba_headdim"), ("num_heads", "head_dim")),
)
_PERIODS = (
    *(("attn_layer_period", "attn_layer_offset"), ("expert_layer_period", "expert_layer_offset")),
)


def shrink_state_spaces(config: PreTrainedConfig) -> None:
    """Scale down recurrent layers to a width that is set, and keep attention among few layers."""
    own = vars(config)
    for name in ("attention_hidden_size", "lru_width"):
        if isinstance(own.get(name), int):
            setattr(config, name, config.hidden_size)
    for period, offset in _PERIODS:
        if isinstance(own.get(period), int) and own[period] > 2:
            setattr(config, period, 2)
            setattr(config, offset, 1)
    blocks = own.get("block_types")
    if isinstance(blocks, list | tuple):  # a pattern that layers repeat
        config.num_hidden_layers = max(config.num_hidden_layers, len(blocks))
    if own.get("attn_layer_indices"):
        config.attn_layer_indices = [1]
    expand = own.get("mamba_expand", own.get("expand"))
    if isinstance(expand, int):
        _shrink_heads(config, own, expand * config.hidden_size)


def _shrink_heads(config: PreTrainedConfig, own: dict[str, Any], width: int) -> None:
    """Few heads with small states, in chunks that rows exceed."""
    pair = next((pair for pair in _HEADS if isinstance(own.get(pair[0]), int)), None)
    for name in ("state_size", "mamba_d_state", "ssm_state_size"):
        _at_most(config, own, name, STATE)
    if pair is None:
        return
    setattr(config, pair[0], HEADS)
    if pair[1] in own:
        setattr(config, pair[1], width // HEADS)
    if own.get("mamba_d_ssm") is not None:
        config.mamba_d_ssm = width
    for name in ("n_groups", "mamba_n_groups", "mamba_ngroups"):
        _at_most(config, own, name, 2)
    for name in ("chunk_size", "mamba_chunk_size"):
        _at_most(config, own, name, CHUNK)


def _at_most(config: PreTrainedConfig, own: dict[str, Any], name: str, most: int) -> None:
    if isinstance(own.get(name), int):
        setattr(config, name, min(own[name], most))
