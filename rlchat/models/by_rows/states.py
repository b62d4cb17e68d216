"""What transformers keeps of rows between forwards: keys and values, states of recurrences.

A state belongs to one row or to several. Rows of unequal lengths go on together with their keys
and values padded on the left, and a mask over the padding; recurrent states have no length.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import (
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

CACHES = ("past_key_values", "cache_params", "state")  # what models call what they keep
_KNOWN = (
    *(DummyLayer, DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer),
    *(LinearAttentionAndFullAttentionLayer, LinearAttentionAndSlidingWindowAttentionLayer),
)


@dataclass(frozen=True)
class KeptRows:
    """What a model keeps of rows that it has read so many tokens of; it changes as they go on."""

    kept: Any
    lengths: tuple[int, ...]


def go_on(model: PreTrainedModel, ids: Tensor, rows: KeptRows | None) -> tuple[Tensor, KeptRows]:
    """Run a model over the next tokens of rows.

    Args:
        model: the model.
        ids: (B, T) next tokens; of rows that have different lengths, one each.
        rows: what is kept of these rows, and not used again; None if they begin here.

    Returns:
        Logits (B, V) after the last tokens, and what is kept now.
    """
    takes = inspect.signature(model.forward).parameters
    name = next((name for name in CACHES if name in takes), None)
    if name is None:
        raise NotImplementedError("a model that keeps nothing")
    kept = _empty(model) if rows is None else rows.kept
    lengths = (0,) * len(ids) if rows is None else rows.lengths
    given: dict[str, Any] = {name: kept, "use_cache": True}
    if "logits_to_keep" in takes:
        given["logits_to_keep"] = 1
    own = torch.tensor(lengths, device=ids.device)[:, None]
    if "position_ids" in takes:
        given["position_ids"] = own + torch.arange(ids.shape[1], device=ids.device)
    if len(set(lengths)) > 1 and "attention_mask" in takes and _attends(kept):
        places = torch.arange(max(lengths) + ids.shape[1], device=ids.device)
        given["attention_mask"] = (places >= max(lengths) - own).long()
    out = model(input_ids=ids, **given)
    after = getattr(out, name, None)
    return out.logits[:, -1], KeptRows(
        kept if after is None else after, tuple(n + ids.shape[1] for n in lengths)
    )


def _empty(model: Any) -> Any:
    """What `generate` would begin with."""
    if not model._supports_default_dynamic_cache():
        return None
    return DynamicCache(config=model.config.get_text_config(decoder=True))


def _attends(kept: Any) -> bool:
    return isinstance(kept, DynamicCache) and any(isinstance(x, DynamicLayer) for x in kept.layers)


def merged(rows: Sequence[KeptRows]) -> KeptRows:
    """Put rows side by side, to go on together."""
    lengths = tuple(n for own in rows for n in own.lengths)
    first = rows[0].kept
    if isinstance(first, list) and all(isinstance(x, Tensor) for x in first):
        parts = zip(*(own.kept for own in rows), strict=True)
        return KeptRows([torch.cat(own) for own in parts], lengths)
    both = _like(first)
    both.layers = [
        _merged_layers(layers) for layers in zip(*(own.kept.layers for own in rows), strict=True)
    ]
    return KeptRows(both, lengths)


def split(rows: KeptRows) -> list[KeptRows]:
    """Part rows that went on together."""
    return [_taken(rows, i) for i in range(len(rows.lengths))]


def _taken(rows: KeptRows, row: int) -> KeptRows:
    lengths = (rows.lengths[row],)
    if isinstance(rows.kept, list) and all(isinstance(x, Tensor) for x in rows.kept):
        return KeptRows([x[row : row + 1].clone() for x in rows.kept], lengths)
    one = _like(rows.kept)
    one.layers = [_taken_layer(layer, row, lengths[0]) for layer in rows.kept.layers]
    return KeptRows(one, lengths)


def _like(cache: Any) -> Any:
    """A copy of a cache whose layers are still the other's."""
    if type(cache) is not DynamicCache or any(type(x) not in _KNOWN for x in cache.layers):
        raise NotImplementedError("rows whose states are not known to be put side by side")
    return copy.copy(cache)


def _merged_layers(layers: Sequence[Any]) -> Any:
    """One layer's state of several rows."""
    both = copy.copy(layers[0])
    if isinstance(both, DynamicLayer) and both.is_initialized:
        for name in ("keys", "values"):
            parts = [getattr(layer, name) for layer in layers]
            longest = max(part.shape[-2] for part in parts)
            wide = [nn.functional.pad(x, (0, 0, longest - x.shape[-2], 0)) for x in parts]
            setattr(both, name, torch.cat(wide))
    if isinstance(both, DynamicSlidingWindowLayer):
        both.cumulative_length = max(layer.cumulative_length for layer in layers)
    if isinstance(both, LinearAttentionLayer):
        for name in ("conv_states", "recurrent_states"):
            parts = [getattr(layer, name) for layer in layers]
            setattr(both, name, {i: _cat([part[i] for part in parts]) for i in parts[0]})
        _own_flags(both)
    return both


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def _own_flags(layer: Any) -> None:
    """Give a copied layer what it notes of its states, which it would share."""
    for name, value in vars(layer).items():
        if isinstance(value, dict) and name not in ("conv_states", "recurrent_states"):
            setattr(layer, name, dict(value))


def _taken_layer(layer: Any, row: int, length: int) -> Any:
    """One layer's state of one of its rows, which has read so many tokens."""
    one = copy.copy(layer)
    if isinstance(one, DynamicLayer) and one.is_initialized:
        for name in ("keys", "values"):
            states = getattr(layer, name)
            unpadded = states[row : row + 1, :, max(0, states.shape[-2] - length) :]
            setattr(one, name, unpadded.clone())
    if isinstance(one, DynamicSlidingWindowLayer):
        one.cumulative_length = length
    if isinstance(one, LinearAttentionLayer):
        for name in ("conv_states", "recurrent_states"):
            parts = getattr(layer, name)
            own = {i: None if x is None else x[row : row + 1].clone() for i, x in parts.items()}
            setattr(one, name, own)
        _own_flags(one)
    return one
