"""Every kind of causal language model that transformers has: exact here, or refused in a sentence.

`make models` tries all of them, and writes what came of it into docs/method/models.md.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.inference.engine import decoder_of, engine
from rlchat.models.adapters import adapted
from rlchat.models.attention import text_config
from rlchat.models.by_rows.way import by_rows
from rlchat.models.config import AdapterConfig
from rlchat.models.exact import compatibility
from rlchat.models.exact.compatibility import Verdict, check_model
from rlchat.models.exact.row_limit import row_limit
from rlchat.models.exact.tiny_copy import randomize
from rlchat.models.exact.tiny_settings import ROOM, shrunk
from rlchat.models.loading import load_base
from rlchat.models.logits import token_logprobs
from rlchat.models.policy import Policy
from rlchat.models.tiny import byte_tokenizer
from rlchat.rollout.config import RolloutConfig
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.loop import train
from rlchat.training.run_folder import RunFolder
from rlchat_envs import Message

POPULAR = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1},
    "qwen3": {},
    "qwen3_moe": {},
    "mistral": {"sliding_window": 64},
    "gemma2": {},
    "gemma3_text": {},
    "gemma3": {},
    "gemma4": {},
    "phi3": {"sliding_window": 64},
    "gpt2": {},
    "olmo2": {},
    "olmo3": {},
    "smollm3": {},
    "granite": {"logits_scaling": 8.0, "attention_multiplier": 0.1, "residual_multiplier": 0.3},
    "cohere": {},
    "gpt_oss": {},
    "deepseek_v3": {},
}
# Random weights give small states, and scaled down far their logits hardly move: scale them less.
LESS = {"granite": {"logits_scaling": 2.0}, "cohere": {"logit_scale": 0.5}}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
# What transformers' own settings of a kind lack for a model to be made of them, or to be as the
# models that are published.
SPLIT = {"rope_type": "default", "rope_theta": 1e4}
LACKING: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": SPLIT, "sliding_attention": SPLIT}
    },
    "dbrx": {"attn_config": {"kv_n_heads": 8, "rope_theta": 5e5, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 128, "num_experts_per_tok": 6, "n_shared_experts": 2},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128, "num_experts": 64, "moe_topk": 8},
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "qwen4_exp_text": {
        "indexer_n_heads": 16,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 256,
        "indexer_budget": 2048,
        "indexer_compress_ratio": 4,
    },
    "reformer": {"is_decoder": True},
    "xmod": {"default_language": "en_XX"},
}
LACKING["qwen4_exp"] = {"text_config": LACKING["qwen4_exp_text"]}
NOT_MADE = {
    "gemma3n": "needs the package timm",
    "gemma4_assistant": "drafts tokens for another model, whose keys and values it reads",
    "gemma4_unified_assistant": "drafts tokens for another model, whose keys and values it reads",
    "musicgen": "transformers makes no causal model of its configuration",
    "musicgen_melody": "transformers makes no causal model of its configuration",
}
REFUSED = ("rwkv", "bert")
NOTES = os.environ.get("RLCHAT_MODELS", "")  # a file that the sweep of all kinds writes
EXACT = 1e-5  # relative error of logprobs in float32
EXACT_BY_ROWS = 5e-5  # of recurrences, whose sums are longer


def class_of(kind: str) -> Any:
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]
    return getattr(transformers, name if isinstance(name, str) else name[0])


def tiny_config(kind: str, room: int = ROOM, **settings: Any) -> PreTrainedConfig:
    """A configuration of few small layers, with words for bytes."""
    words = len(byte_tokenizer())
    config = shrunk(CONFIG_MAPPING[kind](**{**LACKING.get(kind, {}), **settings}), words, room)
    config.get_text_config(decoder=True).eos_token_id = words - 1
    return config


def random_model(config: PreTrainedConfig) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config).float()
        randomize(model)
    return model


def tiny_model(kind: str, room: int = ROOM, **settings: Any) -> PreTrainedModel:
    return random_model(tiny_config(kind, room, **settings))


def saved(kind: str, folder: Path, **settings: Any) -> Path:
    """A tiny model's folder, as its kind is published: with what else it is composed of."""
    config = tiny_config(kind, **settings)
    folder_of(random_model(config), folder)
    config.save_pretrained(folder)
    return folder


def folder_of(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def opened(folder: Path, dtype: Any = "float32") -> Policy:
    """A policy whose adapter is moved away from its start."""
    policy = Policy.create(str(folder), AdapterConfig(rank=4, layers=1.0, dtype=dtype))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return policy


def conversations(policy: Policy, turns: int = 3) -> tuple[list[Tensor], list[list[float]], Any]:
    """Sample three conversations side by side, over a cache that is kept from turn to turn.

    Returns:
        Their ids, the logprobs of what was sampled, and where that is: rows and tokens.
    """
    decoder = decoder_of(policy.generation_model(), 3, 120, stop_ids=())
    generator = torch.Generator().manual_seed(2)
    ids: list[list[int]] = [[] for _ in range(3)]
    logprobs: list[list[float]] = [[] for _ in range(3)]
    places: list[list[int]] = [[] for _ in range(3)]
    shared = torch.randint(0, 250, (4,), generator=generator).tolist()
    for turn in range(turns):
        prompts = {}
        for c in range(3):
            new = torch.randint(0, 250, (2 + 3 * c,), generator=generator).tolist()
            prompts[c] = [*ids[c][-1:], *(new if turn else shared + new)]
            ids[c] += prompts[c][1:] if turn else prompts[c]
        noise = {c: lambda: float(torch.rand((), generator=generator)) for c in range(3)}
        for c, said in decoder.generate(prompts, noise, 4).items():
            places[c] += range(len(ids[c]), len(ids[c]) + len(said.ids))
            ids[c] += said.ids
            logprobs[c] += said.logprobs
    return [torch.tensor(row) for row in ids], logprobs, places


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def assert_exact(policy: Policy, folder: Path, turns: int = 3) -> None:
    """Sampled, packed, and transformers' own logprobs are one, and gradients peft's own."""
    rows, sampled, places = conversations(policy, turns)
    policy.save(folder / "adapter")
    base = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    plain = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True).eval()
    theirs = []
    for row, own in zip(rows, places, strict=True):
        logits = plain(input_ids=row[None], use_cache=False).logits[0].float()
        whole = logits[:-1].log_softmax(-1).gather(-1, row[1:, None])[:, 0]
        theirs.append(whole[torch.tensor(own) - 1])
    packing = policy.packing(rows)
    tokens = [torch.tensor(own) for own in places]
    at = torch.cat([packing.at(torch.full_like(t, i), t - 1) for i, t in enumerate(tokens)])
    last, _ = policy.trunk_states(policy.frozen_prefix(packing), packing, at)
    targets = torch.cat([row[t] for row, t in zip(rows, tokens, strict=True)])
    packed, expected = token_logprobs(policy.head, last, targets), torch.cat(theirs)
    exact = EXACT if by_rows(policy.hf) is None else EXACT_BY_ROWS
    assert relative(torch.tensor([x for own in sampled for x in own]), expected) < exact
    assert relative(packed, expected) < exact
    weights = torch.linspace(-1, 1, len(expected))
    ours = gradients((packed * weights).sum(), policy.parameters())
    trained = [p for p in plain.parameters() if p.requires_grad]
    known = gradients((expected * weights).sum(), trained)
    assert relative(flat(ours), flat(known)) < 1e-3


def gradients(of: Tensor, parameters: list[Any]) -> list[Tensor]:
    """Gradients; 0 of what only chooses, such as which tokens are attended to."""
    found = torch.autograd.grad(of, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def flat(tensors: Any) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def outcome(kind: str, folder: Path, **settings: Any) -> str:
    """Try a kind of model as a user would: "exact", in packings or "by rows", or why it is refused.

    Nothing else passes.
    """
    model = saved(kind, folder, **settings)
    try:
        policy = opened(model)
        policy.packing([torch.arange(60)])
    except UserError as error:
        said = str(error)
        assert "expected" in said and "got" in said and "\n" not in said, said
        return said
    assert_exact(policy, folder)
    return "exact" if by_rows(policy.hf) is None else "by rows"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLCHAT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", POPULAR)
def test_a_popular_kind_is_exact(kind: str, tmp_path: Path) -> None:
    assert outcome(kind, tmp_path / "model", **POPULAR[kind]) == "exact"


@pytest.mark.parametrize(
    ("kind", "some", "none"),
    [
        ("gemma3", r"language_model\.layers\.0\.self_attn\.q_proj$", r"vision_tower"),
        ("whisper", r"layers\.0\.self_attn\.q_proj$", r"encoder_attn"),
        ("phimoe", r"layers\.0\.self_attn\.q_proj$", r"router$"),
        ("ctrl", r"h\.0\.ffn\.0$", r"h\.0$"),
        ("opt", r"layers\.0\.fc1$", r"lm_head$"),
    ],
)
def test_an_adapter_is_of_plain_linear_maps_that_words_pass_through(
    kind: str, some: str, none: str
) -> None:
    model = adapted(tiny_model(kind), AdapterConfig(rank=4, layers=1.0), seed=0)
    names = [name for name, part in model.named_modules() if isinstance(part, BaseTunerLayer)]
    assert any(re.search(some, name) for name in names)
    assert not any(re.search(none, name) for name in names)


@pytest.mark.parametrize("kind", ["deepseek_v3", "gemma4"])
def test_a_prefix_that_would_not_fit_is_refused(kind: str, tmp_path: Path) -> None:
    folder = saved(kind, tmp_path)
    with pytest.raises(UserError, match=r"keys and values .* got \w+; choose another --adapter"):
        Policy.create(str(folder), AdapterConfig(method="prefix", dtype="float32"))


def chance(policy: Policy, act: Any) -> float:
    """How probable the first act that counts is: act 0, in the first turn of `Delayed`."""
    ids = torch.tensor(policy.template.opening((Message("user", "aaaaaaaa"),)))
    packing = policy.packing([ids])
    at = packing.at(torch.tensor([0]), torch.tensor([len(ids) - 1]))
    with torch.no_grad():
        last, _ = policy.trunk_states(policy.frozen_prefix(packing), packing, at)
        probabilities = policy.head(last)[0].float().softmax(-1)
    words = range(text_config(policy.hf).vocab_size)
    earns = torch.tensor([act(policy.template.text([i]), 2) == 0 for i in words])
    return float(probabilities[earns].sum())


@pytest.mark.long
@pytest.mark.parametrize("kind", POPULAR)
def test_a_popular_kind_learns(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    assert_learns(tiny_model(kind, 256, **{**POPULAR[kind], **LESS.get(kind, {})}), tmp_path)


def assert_learns(made: PreTrainedModel, tmp_path: Path) -> None:
    """Two iterations make the act probable that pays two turns later; the chance is exact."""
    model = folder_of(made, tmp_path / "model")
    config = TrainConfig(
        env="text_envs:tests/Delayed-v0",
        iterations=2,
        episodes=128,
        adapter=AdapterConfig(layers=1.0, rank=8, alpha=16, dtype="float32", device="cpu"),
        warm_start=WarmStartConfig(demonstrations=0),
        rollout=RolloutConfig(rows=128, max_new_tokens=1, max_tokens=128, cut_off_penalty=0.0),
        ppo=PPOConfig(learning_rate=3e-2, beta=0.0, epochs=3, minibatches=2),
        critic=CriticConfig(learning_rate=1e-3, epochs=20, width=64),
    )
    policy = Policy.create(str(model), config.adapter)
    act = importlib.import_module("text_envs").act
    before = chance(policy, act)
    train(config, policy, RunFolder(tmp_path / "run"), Distributed(cpu=True))
    assert chance(policy, act) > 1.25 * before


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_wrong_is_refused(kind: str) -> None:
    """In half precision too, where an error of a tenth looks like rounding."""
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(UserError, match=r"^expected a model .* got \w+: .*; choose another"):
            check_model(tiny_model(kind).to(dtype))


def test_rows_end_where_positions_change_or_end(tmp_path: Path) -> None:
    """Rotary settings that go by the longest row are exact up to their original context."""
    long: dict[str, Any] = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 48,
        "long_factor": [2.0] * 48,
        "original_max_position_embeddings": 64,
    }
    for i, (kind, settings) in enumerate(
        [
            ("llama", {"rope_parameters": DYNAMIC}),
            ("phi3", {"rope_parameters": long, "max_position_embeddings": 256}),
            ("llama4_text", {}),  # whose tokens see no other chunk
        ]
    ):
        said = outcome(kind, tmp_path / str(i), **settings)
        assert re.search(
            r"at most 24 tokens.*got one of up to 60; lower --rollout.max-tokens", said
        )


def test_a_decoder_is_not_given_more_room_than_there_are_positions(tmp_path: Path) -> None:
    policy = opened(folder_of(tiny_model("opt"), tmp_path))
    assert row_limit(policy.hf) == 64
    assert row_limit(tiny_model("whisper")) == 64
    assert row_limit(tiny_model("gemma3")) is None  # whose table is of places in images
    with (
        pytest.raises(UserError, match=r"got one of up to 70; lower --rollout.max-tokens by 6"),
        engine("own", policy.generation_model(), 2, 70, (1,), 1.0, 0, False),
    ):
        pass
    with engine("own", policy.generation_model(), 2, 64, (1,), 1.0, 0, False):
        pass


def test_a_kind_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of it lies beside the models; other settings are another kind."""
    tried: list[str] = []
    monkeypatch.setattr(compatibility, "_TRIED", {})
    monkeypatch.setattr(compatibility, "_try", lambda model: tried.append("x") or Verdict())
    check_model(tiny_model("llama"))
    monkeypatch.setattr(compatibility, "_TRIED", {})  # another process
    check_model(tiny_model("llama"))
    assert len(tried) == 1
    check_model(tiny_model("llama", rms_norm_eps=1e-3))
    assert len(tried) == 2


def test_a_kind_that_has_no_tiny_copy_is_tried_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: PreTrainedModel) -> PreTrainedModel:
        raise ValueError("no copy")

    monkeypatch.setattr(compatibility, "_TRIED", {})
    monkeypatch.setattr(compatibility, "tiny_copy", fails)
    check_model(tiny_model("llama").to(torch.bfloat16))
    with pytest.raises(UserError, match="got BertLMHeadModel"):
        check_model(tiny_model("bert").to(torch.bfloat16))


@pytest.mark.long
@pytest.mark.parametrize("kind", MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
def test_any_kind_is_exact_or_refused(kind: str, tmp_path: Path) -> None:
    """No third outcome, of all kinds that transformers can make a model of."""
    note = {"kind": kind, "class": class_of(kind).__name__, "reason": NOT_MADE.get(kind, "")}
    try:
        saved(kind, tmp_path / "made")
    except Exception:  # of any model code
        assert kind in NOT_MADE
        note["outcome"] = "not tried"
        refused_on_loading(kind, tmp_path / "alone")
    else:
        said = outcome(kind, tmp_path / "model")
        note |= {"outcome": said if said in ("exact", "by rows") else "refused", "reason": said}
        if found := re.search(r"at most (\d+) tokens", said):
            assert_exact(opened(tmp_path / "model"), tmp_path / "model", turns=1)
            note |= {"outcome": "exact", "reason": f"up to {found[1]} tokens"}
    if NOTES:
        with Path(NOTES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")


def refused_on_loading(kind: str, folder: Path) -> None:
    """Nobody can load such a model; what they are told is a sentence."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind}), "utf-8")
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    byte_tokenizer().save_pretrained(folder)
    with pytest.raises(UserError, match=r"^expected [^\n]*, got: \S[^\n]*; [^\n]*$"):
        load_base(str(folder))
