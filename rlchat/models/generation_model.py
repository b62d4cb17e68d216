"""Plain models that generate: adapters merged into their weights, virtual tokens as a prefix."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlchat.errors import RunError
from rlchat.models.attention import Scoring, attend, trunk_and_head, unseen
from rlchat.models.kernels import FrozenLinear, MergedLinear
from rlchat.models.packing import PrefixKV


class GenerationModel:
    """A plain model with an adapter merged into it, and the key-values before every conversation.

    ``prefix_kv`` is where prefix and prompt tuning enter; other adapters are merged into the model.
    What it generates does not change while it is there, whatever the policy learns meanwhile; once
    its merged weights are freed it refuses to be used.
    """

    def __init__(self, model: PreTrainedModel, prefix_kv: PrefixKV | None = None):
        """Take a model whose weights do not change while this object exists."""
        self._model, self.prefix_kv, self._freed = model, prefix_kv, False

    @property
    def model(self) -> PreTrainedModel:
        """The plain model; a reference to it keeps this object alive as well.

        Raises:
            RunError: its merged weights were freed.
        """
        self.require_merged()
        return self._model

    @property
    def freed(self) -> bool:
        """Whether the merged weights are gone."""
        return self._freed

    def require_merged(self) -> None:
        """Refuse to go on without merged weights.

        Raises:
            RunError: they were freed.
        """
        if self._freed:
            raise RunError(
                "expected a generation model whose merged weights are in memory; they were freed "
                "for an update of the policy; ask the policy for another generation model"
            )

    def free(self) -> None:
        """Drop the merged weights for good."""
        self._freed = True
        for layer in self._model.modules():
            if isinstance(layer, MergedLinear):
                layer.unload()


class MergedCopies:
    """Plain copies of an adapted model, each of which serves one generation model at a time.

    They share with the base what no adapter changes. Merging into a copy of the rest, and never in
    place, keeps the base bit for bit: merging and unmerging drifts in bfloat16. A copy whose
    generation model is gone or freed is merged into anew, so that a training, which has one at a
    time, holds one copy.
    """

    def __init__(self, model: PreTrainedModel):
        """Make no copy of ``model`` before one is needed."""
        self._adapted = model
        self._copies: list[tuple[PreTrainedModel, weakref.ref[GenerationModel]]] = []

    def generation_model(
        self, adapter: str | None, prefix: Callable[[PreTrainedModel], PrefixKV | None]
    ) -> GenerationModel:
        """Merge an adapter, or none, into a copy that is not in use.

        Args:
            adapter: as peft calls it; None for the base.
            prefix: gives the key-values that come before every conversation with the copy.
        """
        unused = [model for model, owner in self._copies if not _in_use(owner)]
        self._copies = [(model, owner) for model, owner in self._copies if _in_use(owner)]
        model = unused[0] if unused else without_adapters(self._adapted)
        self._merge(model, adapter)
        generation = GenerationModel(model, prefix(model))
        self._copies.append((model, weakref.ref(generation)))
        return generation

    def free(self) -> None:
        """Drop all merged weights, those in use as well; one copy stays, to be merged into."""
        for model, owner in self._copies:
            (owner() or GenerationModel(model)).free()
        del self._copies[1:]

    def _merge(self, model: PreTrainedModel, adapter: str | None) -> None:
        merged = dict(model.named_modules())
        for name, layer in self._adapted.named_modules():
            if isinstance(layer, BaseTunerLayer):
                merge_into(merged[name], layer, adapter)
                frozen = getattr(layer.get_base_layer(), "frozen", None)
                if isinstance(frozen, FrozenLinear):  # which only learning needs
                    frozen.unload()


def _in_use(owner: weakref.ref[GenerationModel]) -> bool:
    generation = owner()
    return generation is not None and not generation.freed


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

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> Tensor:
        """Attend as one row does."""
        self.prefix_kv.append((key, value))
        mask = unseen(key.shape[1], key.shape[1], scoring.window, key.device)
        return attend(query, key, value, mask, scoring).transpose(0, 1).contiguous()


@contextmanager
def switched(model: PeftModel, adapter: str | None, bare: bool) -> Iterator[None]:
    """Switch a model to another adapter, or to the bare base (None), and back.

    peft changes ``requires_grad`` when adapters change: this restores both.

    Args:
        model: has the adapters.
        adapter: the other one.
        bare: whether the model is without an adapter now.
    """
    grads = {name: p.requires_grad for name, p in model.named_parameters()}
    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    active = model.active_adapter
    try:
        for layer in layers:
            layer.enable_adapters(adapter is not None)
        if adapter is not None:
            model.set_adapter(adapter)
        yield
    finally:
        model.set_adapter(active)
        for layer in layers:
            layer.enable_adapters(not bare)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(grads[name])
