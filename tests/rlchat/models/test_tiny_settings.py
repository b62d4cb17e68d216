"""Small settings keep what decides what a model computes: kinds of layers, relations of widths."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rlchat.models.exact.tiny_copy import MOST_WEIGHTS
from rlchat.models.exact.tiny_settings import CONTEXT, ROOM, shrunk

# Kinds whose layers differ by lists, by numbers of layers, by periods, by patterns, by layer.
VARIED = {
    "qwen2": {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 20},
    "deepseek_v3": {},
    "smollm3": {},
    "gpt_neo": {},
    "jamba": {},
    "recurrent_gemma": {},
    "gemma3n_text": {},
    "gemma4": {},
    "zamba2": {},
    "nemotron_h": {},
    "llama4": {},
    "mllama": {},
    "dots3_note_text": {},
}


def small(kind: str, **settings: Any) -> Any:
    return shrunk(CONFIG_MAPPING[kind](**settings))


def of_config(config: PreTrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def kinds_of_layers(model: PreTrainedModel) -> set[tuple[str, Any]]:
    """What modules layers have, list by list, and what these say of themselves."""
    found = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not re.search(r"\.\d+\.", name):
            found |= {(name, kind_of(layer)) for layer in module}
    return found


def kind_of(layer: nn.Module) -> Any:
    said = set()
    for name, module in layer.named_modules():
        words = {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, bool | str) and not key.startswith("_")
        }
        windowed = getattr(module, "sliding_window", None) is not None
        name = re.sub(r"\d+", "#", name)
        said.add((name, type(module).__name__, repr(sorted(words.items())), windowed))
    return frozenset(said)


@pytest.mark.parametrize("kind", VARIED)
def test_a_small_model_has_each_kind_of_layer(kind: str) -> None:
    config = CONFIG_MAPPING[kind](**VARIED[kind])
    full, tiny = of_config(config), of_config(shrunk(config))
    assert kinds_of_layers(tiny) == kinds_of_layers(full)
    assert sum(parameter.numel() for parameter in tiny.parameters()) < MOST_WEIGHTS / 10


def test_the_settings_themselves_do_not_change() -> None:
    config = CONFIG_MAPPING["gemma3"]()
    before = config.to_dict()
    assert shrunk(config).to_dict() != before
    assert config.to_dict() == before


def test_settings_that_are_small_shrink_again() -> None:
    for kind in ("llama", "gemma4", "bamba", "deepseek_v3"):
        once = small(kind)
        assert shrunk(once).to_dict() == once.to_dict()


def test_heads_keep_their_order() -> None:
    many, grouped, single = small("phi"), small("llama", num_key_value_heads=8), small("gemma")
    assert many.num_attention_heads == many.num_key_value_heads == 4
    assert (grouped.num_attention_heads, grouped.num_key_value_heads) == (4, 2)
    single = small("gemma", num_key_value_heads=1)
    assert (single.num_attention_heads, single.num_key_value_heads) == (4, 1)


def test_heads_of_a_state_space_are_as_wide_together_as_before() -> None:
    for kind, heads, width in (
        ("bamba", "mamba_n_heads", "mamba_d_head"),
        ("nemotron_h", "mamba_num_heads", "mamba_head_dim"),
        ("zamba2", "n_mamba_heads", "mamba_headdim"),
    ):
        was, now = CONFIG_MAPPING[kind](), small(kind)
        before = getattr(was, heads) * getattr(was, width) / was.hidden_size
        assert getattr(now, heads) * getattr(now, width) / now.hidden_size == before


def test_the_parts_of_a_composite_model_fit_each_other() -> None:
    config = small("gemma3")
    assert config.text_config.hidden_size == 64
    assert config.vision_config.num_hidden_layers == 2
    assert small("dots3_note").audio_config.adapter_out_dim == 64


def test_layers_that_share_keys_stay_the_last() -> None:
    config = small("gemma3n_text")
    kept, shared = config.num_hidden_layers, config.num_kv_shared_layers
    assert 2 <= shared < kept <= 8
    assert {*config.layer_types[: kept - shared]} == {*config.layer_types[kept - shared :]}


def test_lists_of_layers_name_those_that_are_kept() -> None:
    config = small("mllama").text_config
    assert [*config.cross_attention_layers] == [2, 3]
    assert config.num_hidden_layers == 4


def test_long_contexts_are_exceeded_by_short_rows() -> None:
    rope = {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 4.0,
        "original_max_position_embeddings": 4096,
    }
    config = small("llama", rope_parameters=rope, max_position_embeddings=16384)
    assert config.rope_parameters["original_max_position_embeddings"] == CONTEXT
    assert config.max_position_embeddings == 4 * CONTEXT
    assert small("llama").max_position_embeddings == ROOM


def test_sections_of_rotary_channels_are_scaled_with_the_head() -> None:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [16, 24, 24]}
    config = small("qwen3", head_dim=128, rope_parameters=rope)
    assert sum(config.rope_parameters["mrope_section"]) * 2 == config.head_dim
