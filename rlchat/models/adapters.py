"""The PEFT methods that can be trained, and a fresh adapter of each."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
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
    get_peft_model_state_dict,
)
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.transformers_weight_conversion import (
    convert_peft_adapter_state_dict_for_transformers,
)
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlchat.errors import UserError
from rlchat.models.attention import layers_of, text_config
from rlchat.models.by_rows.adapting import adaptable, no_virtual_tokens
from rlchat.models.by_rows.way import by_rows
from rlchat.models.config import PROMPTED, AdapterConfig
from rlchat.models.generation_model import prefix_kv_of
from rlchat.models.packing import PrefixKV

POLICY = "policy"  # the name of the adapter that trains
_KINDS = {"LORA", "IA3", "PREFIX_TUNING", "PROMPT_TUNING"}
# Settings of others' adapters and their only value that is computed here; false ones are none.
_PLAIN: dict[str, object] = {
    **{"bias": "none", "modules_to_save": None, "trainable_token_indices": None},
    **{"target_parameters": None, "layer_replication": None, "lora_bias": None},
    **{"alora_invocation_tokens": None, "use_qalora": None, "arrow_config": None},
    **{"use_bdlora": None, "velora_config": None, "monteclora_config": None, "kasa_config": None},
    **{"megatron_config": None, "prefix_projection": None},
}
_CHANGES_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
_LAYER = re.compile(r"\.(?:layers|h|blocks?|layer)\.(\d+)\.")
_LAYERED = re.compile(r"\b\d+\b")
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


def layer_of(name: str) -> int | None:
    """The layer that a parameter or a module lies in, by its name; None if in none."""
    found = _LAYER.search(f"{name}.")
    return int(found[1]) if found else None


def check_supported(config: PeftConfig, folder: Path) -> None:
    """Refuse an adapter, made elsewhere, of a kind that is not trained exactly here.

    Raises:
        UserError: it has weights or settings that no adapter made here has.
    """
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    wrong = "" if kind in _KINDS else f"one of the kind {kind}"
    for name, plain in _PLAIN.items():
        value = getattr(config, name, None)
        if value and value != plain:
            wrong = wrong or f"one with {name} ({value})"
    start = getattr(config, "init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        wrong = wrong or f"one whose start has changed the base (init_lora_weights {start})"
    if wrong:
        raise UserError(
            f"expected an adapter of low-rank matrices (LoRA, DoRA, rsLoRA), IA3, prefix or prompt "
            f"tuning, and nothing else; got {wrong} in {folder}; merge it into its base and give "
            "the merged folder as --policy, or train another without that"
        )


def check_layers(model: PeftModel, folder: Path) -> None:
    """Refuse an adapter that changes more than the linear maps of layers.

    Raises:
        UserError: it changes embeddings, the output layer, or experts that lie in one tensor.
    """
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer) and (
            layer_of(name) is None or isinstance(module, ParamWrapper)
        ):
            what = name.removeprefix("base_model.model.")
            raise UserError(
                f"expected an adapter of linear maps in layers; the one in {folder} changes {what} "
                "as well; merge it into its base and give the merged folder as --policy, or train "
                "another without that"
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
    """Put a fresh adapter on a model.

    Raises:
        UserError: it has no place for one of this method.
    """
    if by_rows(model) is not None and config.method in PROMPTED:
        raise no_virtual_tokens(model)
    own = peft_config(config, model)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            adapted = get_peft_model(
                model,
                own,
                adapter_name=POLICY,
                autocast_adapter_dtype=False,
            )
    except ValueError as error:  # peft found nothing to adapt
        raise UserError(
            f"expected a model whose layers {config.method} can adapt; got {type(model).__name__}, "
            "in which peft finds none; choose another --adapter.method or another model"
        ) from error
    assert isinstance(adapted, PeftModel)
    check_names(adapted)
    return adapted


def check_names(model: PeftModel) -> None:
    """Refuse an adapter that peft would not load as it saves it.

    When it loads one, peft renames weights as transformers does in files of the model's makers; a
    map that was called so by its maker is then taken for another.

    Raises:
        UserError: it renames some.
    """
    base: Any = model.get_base_model()
    saved = get_peft_model_state_dict(model, adapter_name=POLICY)
    config = model.peft_config[POLICY]
    loaded = convert_peft_adapter_state_dict_for_transformers(model, config, dict(saved), POLICY)
    if lost := sorted({*saved} - {*loaded}):
        raise UserError(
            "expected a model whose adapters peft loads as it saves them; got "
            f"{type(base).__name__}, of which it renames {lost[0]} and {len(lost) - 1} more; "
            "choose another model"
        )


def peft_config(config: AdapterConfig, model: PreTrainedModel) -> PeftConfig:
    """The PEFT configuration of a method; all linear maps of a layer, no dropout."""
    layers = text_config(model).num_hidden_layers
    first = layers - max(1, round(config.layers * layers))
    linear, others = linear_maps(model)
    if by_rows(model) is not None:
        linear = adaptable(model, linear)
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
            exclude_modules=others or None,
        )
    return LoraConfig(
        task_type="CAUSAL_LM",
        layers_to_transform=list(range(first, layers)) if first else None,
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        target_modules=sorted(linear),
        exclude_modules=others or None,
        use_dora=config.method == "dora",
        use_rslora=config.method == "rslora",
        # GPT-2's maps have their weights the other way round.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )


def linear_maps(model: PreTrainedModel) -> tuple[set[str], str]:
    """The linear maps of a model's layers that are called; of experts in one tensor, none.

    Returns:
        What their names end in, and a pattern of the names of other modules that end so too, such
        as those of a part that sees images; "" if there are none.
    """
    layers = layers_of(model)
    begin = next(f"{name}." for name, module in model.named_modules() if module is layers)
    linear = {
        name: module
        for name, module in model.named_modules()
        if name.startswith(begin) and _multiplies(module)
    }
    called = {_LAYERED.sub("#", name) for name in _called(model, linear)}
    maps = {name for name in linear if _LAYERED.sub("#", name) in called}
    ends = {_end(name) for name in maps}
    if any(parameter.dim() == 3 for parameter in layers.parameters()):
        ends -= EXPERTS
    others = [
        name
        for name, _ in model.named_modules()
        if name not in maps and any(name == end or name.endswith(f".{end}") for end in ends)
    ]
    return ends, "|".join(sorted({_pattern(name, maps) for name in others}))


@torch.no_grad()
def _multiplies(module: nn.Module) -> bool:
    """Whether a module gives the product with its weight, and nothing else."""
    if type(module) in (nn.Linear, Conv1D):
        return True
    if not isinstance(module, nn.Linear):
        return False
    ones = torch.ones_like(module.weight[:1])
    try:
        out = module(ones)
    except Exception:  # of any model code
        return False
    plain = nn.functional.linear(ones, module.weight, module.bias)
    return isinstance(out, Tensor) and out.shape == plain.shape and torch.allclose(out, plain)


def _pattern(name: str, apart: Collection[str]) -> str:
    """A regular expression of a module's name in any layer, or in its own if others match too."""
    exact = re.escape(name)
    of_any = _LAYERED.sub(r"\\d+", exact)
    return exact if any(re.fullmatch(of_any, other) for other in apart) else of_any


@torch.no_grad()
def _called(model: PreTrainedModel, modules: Mapping[str, nn.Module]) -> set[str]:
    """Which modules a few words pass through: none do through attention to sounds, say."""
    called: set[str] = set()
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name, module in modules.items()
    ]
    try:
        words = torch.arange(4, device=model.device)
        model(input_ids=words[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return called


def _end(name: str) -> str:
    """The last part of a module's name that says what it is: ``q_proj``, but ``ffn.0``."""
    before, _, last = name.rpartition(".")
    return f"{_end(before)}.{last}" if last.isdecimal() else last


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


@torch.no_grad()
def check_prefix(model: PeftModel) -> None:
    """Refuse virtual keys and values that are of another shape than a model's own.

    Raises:
        UserError: its layers differ in theirs, or its keys are wider than its values.
    """
    if not isinstance(model.peft_config[POLICY], PrefixTuningConfig):
        return
    base = model.get_base_model()
    assert isinstance(base, PreTrainedModel)
    word = base.get_input_embeddings()(torch.zeros(1, dtype=torch.long, device=base.device))
    own = [_shape_of(pair) for pair in prefix_kv_of(base, word)]
    if own != [_shape_of(pair) for pair in virtual_prefix_kv(model, POLICY)]:
        raise UserError(
            "expected a model whose keys and values are of one shape in all layers, for a prefix "
            f"to come before; got {type(base).__name__}; choose another --adapter.method"
        )


def _shape_of(pair: tuple[Tensor, Tensor]) -> list[tuple[int, int]]:
    """Heads and channels of keys, and of values."""
    return [(len(each), each.shape[-1]) for each in pair]
