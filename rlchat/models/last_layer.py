"""A model's last layer where few of its states are read: of other tokens only keys and values.

Nothing comes after the last layer, so what it makes of a token matters only if that is read. About
one token in seven is followed by an action; the others' queries and feed-forward maps, four fifths
of a layer's work, are spared, forward and backward.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.models.llama.modeling_llama import rotate_half

from rlchat.models.packing import Packing


def last_layer(
    layer: Any, states: Tensor, rotary: tuple[Tensor, Tensor], packing: Packing, at: Tensor
) -> Tensor:
    """Run a Llama's decoder layer for some of the tokens in a packing.

    Args:
        layer: the layer.
        states: (N, D), of all tokens, before the layer.
        rotary: cosine and sine (1, N, d) of the tokens' positions (Su et al. 2021).
        packing: who sees whom.
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
