"""The PEFT methods that can be trained, and a fresh adapter of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    PromptTuningInit,
    get_peft_model,
)
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlchat.errors import UserError
from rlchat.models.config import AdapterConfig
from rlchat.models.packing import PrefixKV

POLICY = "policy"  # the name of the adapter that trains
# Maps of feed-forward layers. Where experts lie in one tensor, peft takes these names for theirs
# too, and would adapt what cannot be merged: attention alone is adapted there.
EXPERTS = {"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}


def leave_shape(config: AdapterConfig, folder: Path) -> None:
    """Refuse settings of a fresh adapter where a saved one, which has its own, is loaded.

    Raises:
        UserError: one of them was given.
    """
    for name in ("method", "rank", "alpha", "layers", "tokens"):
        given = getattr(config, name)
        if given != getattr(AdapterConfig(), name):
            raise UserError(
                f"expected the adapter of {folder} as it is; got --adapter.{name} {given}, which "
                "is for a fresh one; leave it out"
            )


def check_share(virtual: bool, share: float) -> None:
    """Refuse to train the top share of an adapter that is not spread over layers.

    Args:
        virtual: whether it is one of prefix or prompt tuning.
        share: of the layers, from the top.

    Raises:
        UserError: it cannot be done.
    """
    if virtual and share < 1:
        raise UserError(
            "expected --ppo.layers 1 with prefix and prompt adapters, whose virtual tokens come "
            f"before all layers; got {share}; leave it out, or choose another --adapter.method"
        )


def adapted(model: PreTrainedModel, config: AdapterConfig, seed: int) -> PeftModel:
    """Put a fresh adapter on a model."""
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            adapted = get_peft_model(
                model,
                peft_config(config, model),
                adapter_name=POLICY,
                autocast_adapter_dtype=False,
            )
    except ValueError as error:  # peft found nothing to adapt
        raise UserError(
            f"expected a model whose layers {config.method} can adapt; {type(model).__name__} has "
            "none that peft finds; choose another --adapter.method or another model"
        ) from error
    assert isinstance(adapted, PeftModel)
    return adapted


def peft_config(config: AdapterConfig, model: PreTrainedModel) -> PeftConfig:
    """The PEFT configuration of a method; all linear maps of a layer, no dropout."""
    layers = model.config.num_hidden_layers
    first = layers - max(1, round(config.layers * layers))
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }
    if any(parameter.dim() == 3 for parameter in model.parameters()):
        linear -= EXPERTS
    if config.method == "prefix":
        return PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=config.tokens)
    if config.method == "prompt":
        return PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=config.tokens,
            prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
        )
    if config.method == "ia3":  # which has no layers_to_transform, but takes patterns
        top = rf".*\.({'|'.join(map(str, range(first, layers)))})\..*"
        return IA3Config(
            task_type="CAUSAL_LM",
            target_modules=rf"{top}\.(k_proj|v_proj|down_proj)",
            feedforward_modules=rf"{top}\.down_proj",
        )
    return LoraConfig(
        task_type="CAUSAL_LM",
        layers_to_transform=list(range(first, layers)) if first else None,
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        target_modules=sorted(linear),
        use_dora=config.method == "dora",
        use_rslora=config.method == "rslora",
        # GPT-2's maps have their weights the other way round.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )


def train_adapter(model: PeftModel, adapter: str) -> None:
    """Let an adapter's own parameters train, and nothing else.

    peft refuses to load virtual tokens as trainable, and then leaves them frozen.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{adapter}" in name)


def virtual_embeddings(model: PeftModel, adapter: str) -> Tensor:
    """Embeddings (P, D) that prompt tuning puts before rows; of prefix tuning, flat key-values."""
    encoder, base = model.prompt_encoder[adapter], model.get_base_model()
    assert isinstance(base, PreTrainedModel)
    tokens = model.prompt_tokens[adapter].to(base.device)
    embeddings: Tensor = encoder(tokens[None])[0]
    return embeddings.to(base.dtype)


def virtual_prefix_kv(model: PeftModel, adapter: str) -> PrefixKV:
    """Keys and values (G, P, D) of each layer that prefix tuning puts before every row."""
    config: Any = model.peft_config[adapter]
    states = virtual_embeddings(model, adapter).view(
        config.num_virtual_tokens, config.num_layers, 2, config.num_attention_heads, -1
    )
    return [(key, value) for key, value in states.permute(1, 2, 3, 0, 4)]
