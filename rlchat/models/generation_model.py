"""The plain copy of a model that speaks in rollouts, with an adapter merged into it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlchat.models.attention import Mask, attend, trunk_and_head
from rlchat.models.kernels import MergedLinear
from rlchat.models.packing import PrefixKV


def without_adapters(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model whose adapted layers are plain ones; it shares what has no adapter."""
    known: dict[int, Any] = {id(model.config): model.config}  # which shared layers read
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            base = module.get_base_layer()
            assert isinstance(base, nn.Module)
            plain = MergedLinear() if type(base) is nn.Linear else copy.deepcopy(base)
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
    if isinstance(plain, MergedLinear):
        assert isinstance(base, nn.Linear)
        plain.load(base.weight, base.bias)
    else:
        for name, merged in base.named_parameters():
            plain.get_parameter(name).copy_(merged)
    for name, merged in base.named_parameters():
        merged.data = own[name]
    layer.merged_adapters.clear()


@dataclass(frozen=True)
class GenerationModel:
    """A plain model that speaks, and what every conversation of its begins with, unheard.

    ``prefix_kv`` is where prefix and prompt tuning enter; other adapters are merged into the model.
    """

    model: PreTrainedModel
    prefix_kv: PrefixKV | None = None


def prefix_kv_of(model: PreTrainedModel, embeddings: Tensor) -> PrefixKV:
    """Keys and values of virtual tokens, from their embeddings (P, D)."""
    remembering = _Remembering()
    trunk, _ = trunk_and_head(model)
    trunk(inputs_embeds=embeddings[None], use_cache=False, layout=remembering)
    return remembering.prefix_kv


@dataclass
class _Remembering:
    """The layout of one row whose keys and values are wanted."""

    prefix_kv: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    longest: int = 0

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attend as one row does."""
        self.prefix_kv.append((key, value))
        tokens = key.shape[1]
        hidden = torch.ones(tokens, tokens, dtype=torch.bool, device=key.device).triu(1)
        return attend(query, key, value, Mask(hidden), scale).transpose(0, 1)
