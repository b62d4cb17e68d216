"""The plain copy of a model that speaks in rollouts, with an adapter merged into it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from rlchat.models.kernels import Spoken


def without_adapters(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model whose adapted layers are plain ones; it shares what has no adapter."""
    known: dict[int, Any] = {id(model.config): model.config}  # which shared layers read
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            base = module.get_base_layer()
            assert isinstance(base, nn.Module)
            plain = Spoken() if type(base) is nn.Linear else copy.deepcopy(base)
            known[id(module)] = plain.requires_grad_(False)
        elif not any(isinstance(part, BaseTunerLayer) for part in module.modules()):
            known[id(module)] = module
    return copy.deepcopy(model, known)


@torch.no_grad()
def merge_into(plain: nn.Module, layer: BaseTunerLayer, adapter: str | None) -> None:
    """Give ``plain`` a layer's merged weights; peft's merge works on the layer itself."""
    base = layer.get_base_layer()
    own = {name: p.data for name, p in base.named_parameters()}
    if adapter is not None:
        layer.merge(safe_merge=True, adapter_names=[adapter])
    if isinstance(plain, Spoken):
        assert isinstance(base, nn.Linear)
        plain.load(base.weight, base.bias)
    else:
        for name, merged in base.named_parameters():
            plain.get_parameter(name).copy_(merged)
    for name, merged in base.named_parameters():
        merged.data = own[name]
    layer.merged_adapters.clear()
