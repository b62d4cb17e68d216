"""Adapters made elsewhere, and bases of few bits: exact, or refused in a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlchat.cli.main import main
from rlchat.errors import UserError
from rlchat.models.adapter_io import base_spec
from rlchat.models.config import AdapterConfig
from rlchat.models.fetching.catalog import make_tiny
from rlchat.models.loading import load_base
from rlchat.models.policy import Policy
from rlchat.training.config import KtoConfig
from rlchat.training.kto import Thumb, learn_thumbs
from rlchat_envs import Message

IDS = torch.arange(40).reshape(2, 20)
CONFIG = AdapterConfig(dtype="float32", device="cpu")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    make_tiny(tmp_path / "a base")
    return tmp_path / "a base"


def lora(**settings: Any) -> LoraConfig:
    usual = {"task_type": "CAUSAL_LM", "r": 4, "target_modules": ["q_proj", "v_proj"]}
    return LoraConfig(**(usual | settings))


def made_elsewhere(base: Path, folder: Path, config: PeftConfig) -> PeftModel:
    """What trl, unsloth and axolotl leave: peft's own folder, trained away from its start."""
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(str(folder))
    assert isinstance(model, PeftModel)
    return model.eval()


@torch.no_grad()
def logits(policy: Policy) -> torch.Tensor:
    packing = policy.packing(list(IDS))
    at = packing.at(torch.arange(2).repeat_interleave(20), torch.arange(20).repeat(2))
    last, _ = policy.trunk_states(packing.ids, packing, at)
    return policy.head(last).view(2, 20, -1)


@pytest.mark.parametrize(
    "config",
    [
        lora(lora_dropout=0.1),
        lora(target_modules=["down_proj"], layers_to_transform=[1]),
        lora(target_modules="all-linear", use_rslora=True),
        lora(target_modules=r".*\.(gate|up)_proj", use_dora=True),
        lora(rank_pattern={"v_proj": 2}, alpha_pattern={"v_proj": 16}),
        IA3Config(
            task_type="CAUSAL_LM", target_modules=["k_proj", "up_proj"],
            feedforward_modules=["up_proj"],
        ),
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    ],
    ids=lambda config: str(config.peft_type.value),
)  # fmt: skip
def test_it_is_what_plain_peft_makes_of_it(base: Path, tmp_path: Path, config: PeftConfig) -> None:
    plain = made_elsewhere(base, tmp_path / "adapter", config)
    with torch.no_grad():
        theirs = plain(input_ids=IDS).logits[:, -20:]
    assert base_spec(tmp_path / "adapter") == str(base)
    policy = Policy.create(str(base), CONFIG, tmp_path / "adapter")
    torch.testing.assert_close(logits(policy), theirs, atol=1e-5, rtol=1e-4)
    merged = policy.generation_model()
    if merged.prefix_kv is None:
        with torch.no_grad():
            sampled = merged.model(input_ids=IDS).logits
        torch.testing.assert_close(sampled, theirs, atol=1e-5, rtol=1e-4)
    policy.save(tmp_path / "saved")
    again = Policy.create(base_spec(tmp_path / "saved"), CONFIG, tmp_path / "saved")
    assert torch.equal(logits(again), logits(policy))


def test_it_starts_a_run_is_measured_and_talked_to(
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made_elsewhere(base, tmp_path / "theirs", lora(target_modules=["o_proj"], lora_dropout=0.5))
    monkeypatch.chdir(tmp_path)
    device = "--adapter.dtype float32 --adapter.device cpu"
    small = (
        f"{device} --episodes 4 --ppo.minibatches 1 --ppo.critic-warmup 0 --rollout.rows 4 "
        "--rollout.max-new-tokens 4 --iterations 1 --evaluation 0"
    )
    assert main(f"train --policy theirs --run run {small}".split()) == 0
    assert "no warm start: theirs is what PPO goes on from" in capsys.readouterr().out
    assert main(f"train --policy theirs --run run {small} --resume".split()) == 0
    assert main(f"eval theirs --against run --episodes 2 {device}".split()) == 0
    assert main(f"eval run --episodes 2 {device}".split()) == 0
    config = json.loads((tmp_path / "run/adapter/adapter_config.json").read_text())
    assert config["target_modules"] == ["o_proj"]
    before, after = (
        load_file(tmp_path / place / "adapter_model.safetensors")
        for place in ("theirs", "run/adapter")
    )
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (lora(modules_to_save=["lm_head"]), r"modules_to_save \(\['lm_head'\]\)"),
        (lora(bias="all"), r"bias \(all\)"),
        (lora(trainable_token_indices=[1, 2]), "trainable_token_indices"),
        (lora(lora_bias=True), "lora_bias"),
        (lora(init_lora_weights="pissa"), "init_lora_weights pissa"),
        (lora(init_lora_weights="olora"), "init_lora_weights olora"),
        (LoHaConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]), "the kind LOHA"),
        (lora(target_modules=["q_proj", "lm_head"]), "changes lm_head as well"),
        (lora(target_modules=["q_proj", "embed_tokens"]), "changes model.embed_tokens as well"),
    ],
)
def test_what_else_it_changes_is_refused(
    base: Path, tmp_path: Path, config: PeftConfig, why: str
) -> None:
    made_elsewhere(base, tmp_path / "adapter", config)
    with pytest.raises(UserError, match=why) as told:
        Policy.create(str(base), CONFIG, tmp_path / "adapter")
    assert "merge it into its base" in str(told.value) and "\n" not in str(told.value)


def test_pickled_weights_are_not_read(base: Path, tmp_path: Path) -> None:
    made_elsewhere(base, tmp_path / "adapter", lora())
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(UserError, match=r"found adapter_model\.bin, .* safe_serialization"):
        base_spec(tmp_path / "adapter")


@pytest.mark.parametrize("named", [None, "", "/gone/with/the/machine", "no-such-model"])
def test_a_base_that_is_not_here_is_named(base: Path, tmp_path: Path, named: str | None) -> None:
    made_elsewhere(base, tmp_path / "adapter", lora())
    rename_base(tmp_path / "adapter", named)
    with pytest.raises(UserError, match=r"expected the base model of the adapter in .* as base"):
        base_spec(tmp_path / "adapter")


def rename_base(adapter: Path, named: str | None) -> None:
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(config | {"base_model_name_or_path": named}), "utf-8")


@pytest.mark.parametrize(
    ("named", "spec"), [("tiny", "tiny"), ("org/name", "org/name"), ("../a base", None)]
)
def test_a_base_may_be_of_the_catalogue_the_hub_or_beside_the_adapter(
    base: Path, tmp_path: Path, named: str, spec: str | None
) -> None:
    made_elsewhere(base, tmp_path / "adapter", lora())
    rename_base(tmp_path / "adapter", named)
    found = base_spec(tmp_path / "adapter")
    assert found == spec if spec else Path(found).samefile(base)


def test_an_adapter_of_another_shape_is_refused(base: Path, tmp_path: Path) -> None:
    made_elsewhere(base, tmp_path / "adapter", lora())
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({k: v[..., :1].contiguous() for k, v in load_file(weights).items()}, weights)
    with pytest.raises(UserError, match="expected whole weights in"):
        Policy.create(str(base), CONFIG, tmp_path / "adapter")


def test_its_own_chat_template_is_used_and_kept(base: Path, tmp_path: Path) -> None:
    """trl saves the tokenizer, with the template that it has trained with."""
    made_elsewhere(base, tmp_path / "adapter", lora())
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "adapter")
    opening = (Message("user", "Hello?"),)
    policy = Policy.create(str(base), CONFIG, tmp_path / "adapter")
    text = tokenizer.decode(policy.template.opening(opening))
    assert text == "<|im_start|>user: Hello?<|im_end|><|im_start|>assistant: "
    policy.save(tmp_path / "saved")
    thumbs = [Thumb(opening, "Hi.", good) for good in (True, False)]
    learn_thumbs(tmp_path / "saved", thumbs, KtoConfig(epochs=1, batch=2), tmp_path / "learned")
    for place in ("saved", "learned"):
        again = Policy.create(str(base), CONFIG, tmp_path / place)
        assert again.template.opening(opening) == policy.template.opening(opening)
    usual = Policy.create(str(base), CONFIG)
    usual.save(tmp_path / "usual")
    assert not (tmp_path / "usual" / "tokenizer_config.json").exists()


def test_words_that_the_base_lacks_are_refused(base: Path, tmp_path: Path) -> None:
    made_elsewhere(base, tmp_path / "adapter", lora())
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([f"<new-{i}>" for i in range(9)])
    tokenizer.save_pretrained(tmp_path / "adapter")
    with pytest.raises(UserError, match=r"of the base's own words.*267, and the base 258"):
        Policy.create(str(base), CONFIG, tmp_path / "adapter")
    (tmp_path / "adapter" / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded"):
        Policy.create(str(base), CONFIG, tmp_path / "adapter")


# Bases of few bits


def pack(base: Path, **quantization: object) -> None:
    path = base / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(config | {"quantization_config": quantization}), "utf-8")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"4-bit ones \(bitsandbytes\)"),
        ({"load_in_8bit": True}, r"8-bit ones \(bitsandbytes\)"),
        ({"quant_method": "gptq", "bits": 4}, r"4-bit ones \(gptq\)"),
        ({"quant_method": "awq", "bits": 4}, r"4-bit ones \(awq\)"),
        ({"quant_method": "hqq"}, r"has ones \(hqq\)"),
    ],
)
def test_weights_of_few_bits_are_refused(
    base: Path, settings: dict[str, object], what: str
) -> None:
    pack(base, **settings)
    with pytest.raises(UserError, match=rf"expected weights of 16 or 32 bits.*{what}; name the"):
        load_base(str(base))


@pytest.mark.parametrize("suffix", ["-bnb-4bit", "-unsloth-bnb-4bit", "-4bit"])
def test_the_model_that_they_were_made_from_is_named(
    base: Path, tmp_path: Path, suffix: str
) -> None:
    packed = shutil.move(base, tmp_path / f"Qwen-0.5B{suffix}")
    pack(Path(packed), load_in_4bit=True, quant_method="bitsandbytes")
    with pytest.raises(UserError, match=r"were made from, such as .*/Qwen-0\.5B, for an adapter"):
        load_base(str(packed))


def test_eight_bit_floats_are_unpacked_and_train(base: Path, tmp_path: Path) -> None:
    """Block-scaled FP8, as DeepSeek and Qwen publish: transformers gives the exact products."""
    weights = load_file(base / "model.safetensors")
    packed, exact = dict(weights), dict(weights)
    for name, weight in weights.items():
        if name.endswith("_proj.weight"):
            scale = (weight.abs().max() / 448).reshape(1, 1)
            small = (weight / scale).to(torch.float8_e4m3fn)
            packed |= {name: small, f"{name}_scale_inv": scale}
            exact[name] = small.float() * scale
    save_file(packed, base / "model.safetensors", {"format": "pt"})
    pack(base, quant_method="fp8", activation_scheme="dynamic", weight_block_size=[128, 128])
    policy = Policy.create(str(base), CONFIG)
    make_tiny(tmp_path / "exact")
    save_file(exact, tmp_path / "exact" / "model.safetensors", {"format": "pt"})
    plain = Policy.create(str(tmp_path / "exact"), CONFIG)
    torch.testing.assert_close(logits(policy), logits(plain), atol=1e-6, rtol=1e-5)
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}
