"""The PEFT methods that can be trained, and a fresh adapter of each."""

from __future__ import annotations

from pathlib import Path

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
from torch import nn
from transformers import PreTrainedModel

from rlchat.errors import UserError
from rlchat.models.config import AdapterConfig

POLICY = "policy"  # the name of the adapter that trains


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
        if isinstance(module, nn.Linear) and module is not head
    }
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
    )
