"""What of a model that is run by rows an adapter can change, so that it trains as it is merged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from rlchat.errors import UserError
from rlchat.models.attention import text_config
from rlchat.models.by_rows.way import by_rows

# Kinds whose out_proj peft refuses: kernels for GPUs read its weight within another product.
_FUSED_OUTPUT = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")


def adaptable(model: PreTrainedModel, maps: set[str]) -> set[str]:
    """Which of the linear maps that are called an adapter can change."""
    return maps - {"out_proj"} if model.config.model_type in _FUSED_OUTPUT else maps


def no_virtual_tokens(model: PreTrainedModel) -> UserError:
    """The error of prefix and prompt tuning over a model that is run by rows."""
    return UserError(
        f"expected an adapter that can be merged for {type(model).__name__}, which is run row by "
        "row; got virtual tokens (prefix or prompt tuning); choose another --adapter.method"
    )


def check_adapter(peft: PeftModel) -> None:
    """Refuse an adapter, over a model that is run by rows, that is not computed as it is merged.

    Raises:
        UserError: it has virtual tokens, or changes a map that is read past its adapter.
    """
    model: Any = peft.get_base_model()
    if by_rows(model) is None:
        return
    if any(config.is_prompt_learning for config in peft.peft_config.values()):
        raise no_virtual_tokens(model)
    adapted = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
    }
    called = _called(model, lambda name, module: isinstance(module, BaseTunerLayer))
    if adapted - called:
        raise UserError(
            f"expected an adapter of maps that {type(model).__name__} calls; got one that changes "
            f"{', '.join(sorted(adapted - called))} as well, whose weights it reads past the "
            "adapter; train another without those in target_modules"
        )


@torch.no_grad()
def _called(model: PreTrainedModel, wanted: Callable[[str, nn.Module], bool]) -> set[str]:
    """Last names of the wanted modules that a forward calls."""
    called: set[str] = set()

    def hook_of(name: str) -> Callable[..., None]:
        return lambda *_: called.add(name)

    modules = [(name.rpartition(".")[2], module) for name, module in model.named_modules()]
    handles = [
        module.register_forward_pre_hook(hook_of(name))
        for name, module in modules
        if wanted(name, module)
    ]
    try:
        words = torch.arange(16, device=model.device) % text_config(model).vocab_size
        model(input_ids=words[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return called
