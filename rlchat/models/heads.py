"""A language model's last step: its output layer, and what becomes of the logits after it.

Some families scale their logits (Cohere, Granite, Falcon-H1) or bound them (Gemma 2). transformers
does so in the model's own forward, which is not run here: states become logits a few tokens at a
time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel


class AdjustedHead(nn.Module):
    """An output layer whose logits are multiplied, divided and capped, in that order."""

    def __init__(
        self, linear: nn.Module, factor: float | None, divisor: float | None, cap: float | None
    ):
        """Wrap an output layer; it stays the model's own."""
        super().__init__()
        self.linear, self.factor, self.divisor, self.cap = linear, factor, divisor, cap

    def forward(self, states: Tensor) -> Tensor:
        """Give logits (…, V) of states (…, D), rounded where transformers rounds them."""
        logits: Tensor = self.linear(states)
        if self.factor is not None:
            logits = logits * self.factor
        if self.divisor is not None:
            logits = logits / self.divisor
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits


def head_of(model: PreTrainedModel) -> nn.Module:
    """What gives a model's logits from its last states: its output layer, wrapped if need be."""
    linear = _to_logits(model)
    config = model.config.get_text_config(decoder=True)
    factor = _number(config, "logit_scale", "lm_head_multiplier")
    divisor = _number(config, "logits_scaling")
    cap = _number(config, "final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
    if factor is None and divisor is None and cap is None:
        return linear
    return AdjustedHead(linear, factor, divisor, cap)


def _to_logits(model: PreTrainedModel) -> nn.Module:
    """A model's output layer, with maps of states that some families have before it (BERT)."""
    linear = model.get_output_embeddings()
    assert isinstance(linear, nn.Module)
    parts, trunk = [*model.children()], getattr(model, model.base_model_prefix, None)
    if trunk not in parts:
        return linear
    after = [part for part in parts[parts.index(trunk) + 1 :] if [*part.parameters()]]
    if linear in after:
        before = after[: after.index(linear)]
        return nn.Sequential(*before, linear) if before else linear
    around = [part for part in after if any(module is linear for module in part.modules())]
    return around[0] if len(around) == 1 and after == around else linear


def _number(config: PreTrainedConfig, *names: str) -> float | None:
    """The first setting of these names that is a number."""
    values = (getattr(config, name, None) for name in names)
    return next((float(value) for value in values if isinstance(value, int | float)), None)
