"""Models that are run row by row: exact, as the packed ones are, and able to learn."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from rlchat.errors import UserError
from rlchat.inference.agents import ConversationSettings
from rlchat.inference.engine import decoder_of, engine
from rlchat.inference.model_agent import ModelAgent
from rlchat.inference.row_decoder import RowDecoder
from rlchat.inference.rows import Noise
from rlchat.models.by_rows import states
from rlchat.models.by_rows.padding import PaddedRows
from rlchat.models.by_rows.way import ByRows, by_rows, take_by_rows
from rlchat.models.config import AdapterConfig
from rlchat.models.exact import compatibility
from rlchat.models.exact.compatibility import check_model
from rlchat.models.generation_model import GenerationModel
from rlchat.models.policy import Policy
from rlchat.training.config import WarmStartConfig
from rlchat.training.sft import warm_start
from rlchat_envs import Message
from tests.rlchat.models.test_architectures import (
    assert_learns,
    conversations,
    folder_of,
    opened,
    outcome,
    relative,
    tiny_model,
)

HYBRID = ["mamba", "attention"] * 16
KINDS: dict[str, dict[str, Any]] = {
    "mamba": {},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 16},
    "granitemoehybrid": {"layer_types": HYBRID},
    "recurrent_gemma": {},
    "rwkv": {"rescale_every": 0},
    "bloom": {},
    "gptj": {},
    "gpt_neo": {},
}
MORE: dict[str, dict[str, Any]] = {
    "mamba2": {},
    "falcon_mamba": {},
    "jamba": {},
    "falcon_h1": {},
    "qwen3_next": {},
    "qwen3_5_text": {},
    "bamba": {"attn_layer_indices": [1]},
    "nemotron_h": {},
    "minimax": {},
    "olmo_hybrid": {},
    "falcon": {},
    "stablelm": {},
    "diffllama": {},
}
WAYS = [ByRows(t, together) for t in ("whole", "single", "anew") for together in (True, False)]  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLCHAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compatibility, "_TOLD", set())


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_exact_by_rows(kind: str, tmp_path: Path) -> None:
    """Sampled over three turns, trained on, and transformers' own logprobs are one."""
    assert outcome(kind, tmp_path / "model", **KINDS[kind]) == "by rows"


@pytest.mark.long
@pytest.mark.parametrize("kind", MORE)
def test_another_kind_is_exact_by_rows(kind: str, tmp_path: Path) -> None:
    assert outcome(kind, tmp_path / "model", **MORE[kind]) == "by rows"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["lfm2", "mamba2", "gpt_neo"])
def test_a_kind_learns_by_rows(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    assert_learns(tiny_model(kind, 256, **{**KINDS, **MORE}[kind]), tmp_path)


@pytest.mark.parametrize("kind", ["mamba", "lfm2", "recurrent_gemma"])
def test_half_precision_samples_what_it_trains(kind: str, tmp_path: Path) -> None:
    """A Mamba whose residual is float32 did not load."""
    policy = opened(folder_of(tiny_model(kind, **KINDS[kind]), tmp_path), "bfloat16")
    assert policy.dtype == torch.bfloat16
    rows, sampled, places = conversations(policy)
    packing = policy.packing(rows)
    for i, own in enumerate(places):
        at = packing.at(torch.full((len(own),), i), torch.tensor(own) - 1)
        with torch.no_grad():
            states, _ = policy.trunk_states(packing.ids, packing, at)
        logprobs = policy.head(states).float().log_softmax(-1)
        trained = logprobs.gather(-1, rows[i][own][:, None])[:, 0]
        assert relative(torch.tensor(sampled[i]), trained.detach()) < 0.05


def llama(way: ByRows) -> PreTrainedModel:
    """A model that has grouped keys and no states, run in any way."""
    model = tiny_model("llama", 512).eval()
    take_by_rows(model, way)
    return model


def uniform(seed: int) -> Noise:
    rng = np.random.default_rng(seed)
    return lambda: float(rng.random())


@torch.no_grad()
def full_logprobs(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]


class Talk:
    """Conversations as they were heard and sampled, which one full forward each has to confirm."""

    def __init__(self, decoder: RowDecoder) -> None:
        self.decoder = decoder
        self.ids: dict[int, list[int]] = {}
        self.sampled: dict[int, list[tuple[int, float]]] = {}

    def submit(self, c: int, heard: Sequence[int], budget: int) -> None:
        self.ids.setdefault(c, []).extend(heard)
        lacking = self.ids[c][self.decoder.length(c) :]
        self.decoder.submit(c, lacking, uniform(c), budget)

    def note(self, c: int, token: int, logprob: float) -> None:
        self.sampled.setdefault(c, []).append((len(self.ids[c]), logprob))
        self.ids[c].append(token)

    def check(self, model: PreTrainedModel) -> None:
        assert self.sampled
        for c, own in self.sampled.items():
            expected = full_logprobs(model, self.ids[c])
            for place, logprob in own:
                assert logprob == pytest.approx(float(expected[place - 1]), abs=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_conversations_go_at_their_own_pace(way: ByRows) -> None:
    """Rows join, rest and leave while others are in the middle of a turn."""
    model = llama(way)
    decoder = RowDecoder(GenerationModel(model), ())
    talk, rng = Talk(decoder), np.random.default_rng(0)
    resting, forgotten = [*range(5)], 0
    for step in range(60):
        if resting and step % 3 != 2:
            c = resting.pop(int(rng.integers(len(resting))))
            if rng.random() < 0.2:
                decoder.forget(c)
                talk.check(model)
                talk.ids.pop(c, None)
                talk.sampled.pop(c, None)
                forgotten += 1
            heard = rng.integers(0, 250, int(rng.integers(1, 12))).tolist()
            talk.submit(c, heard, int(rng.integers(1, 7)))
        resting += decoder.step(talk.note)
    while decoder.busy:
        decoder.step(talk.note)
    assert forgotten
    talk.check(model)


@pytest.mark.parametrize("way", WAYS)
def test_what_was_interrupted_is_read_again(way: ByRows, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that a forward has written halfway is not used again."""
    model = llama(way)
    decoder = RowDecoder(GenerationModel(model), ())
    talk = Talk(decoder)
    for c in range(3):
        talk.submit(c, [*range(3 + c)], 3)
    while decoder.busy:
        decoder.step(talk.note)
    trunk: Any = model.model
    forward = trunk.layers[1].forward

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    talk.submit(0, [7], 4)
    talk.submit(1, [8], 4)
    decoder.step(talk.note)
    monkeypatch.setattr(trunk.layers[1], "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decoder.step(talk.note)
    decoder.stop()
    monkeypatch.setattr(trunk.layers[1], "forward", forward)
    for c in range(3):
        talk.submit(c, [9, 10], 3)
    while decoder.busy:
        decoder.step(talk.note)
    talk.check(model)


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (ByRows("whole"), [(3, 5), (1, 11), (1, 2), (3, 1), (4, 1), (1, 1)]),
        (ByRows("single"), [(3, 5), (1, 11), (4, 1), (4, 1), (1, 1), (1, 1)]),
        (ByRows("whole", together=False), [(1, 5), (1, 5), (1, 7), (1, 11), *[(1, 1)] * 8]),
    ],
)
def test_rows_are_read_side_by_side(
    way: ByRows, expected: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many tokens of each; what a longer prompt has more is read while others speak."""
    model = llama(way)
    forward, shapes = model.forward, []

    def watched(input_ids: Tensor, **given: Any) -> Any:
        shapes.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, **given)

    watched.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", watched)
    decoder = RowDecoder(GenerationModel(model), ())
    prompts = {c: [*range(n)] for c, n in enumerate((5, 7, 5, 11))}
    decoder.generate(prompts, {c: uniform(c) for c in prompts}, 3)
    assert shapes == expected


def test_greedy_and_stops() -> None:
    model = llama(ByRows())
    free = RowDecoder(GenerationModel(model), (), 0.0).generate({0: [1, 2]}, {0: uniform(0)}, 5)[0]
    with torch.no_grad():
        first = int(model(input_ids=torch.tensor([[1, 2]])).logits[0, -1].argmax())
    assert free.ids[0] == first and not free.finished
    decoder = RowDecoder(GenerationModel(model), free.ids[2:3], 0.0)
    ended = decoder.generate({0: [1, 2]}, {0: uniform(0)}, 5)[0]
    assert ended.finished and ended.ids == free.ids[: free.ids.index(free.ids[2]) + 1]


def test_padding_by_hand() -> None:
    rows = [torch.arange(n) for n in (4, 9, 10, 3)]
    laid = PaddedRows.of(rows)
    assert laid.shapes == [(2, 10), (2, 4)]
    assert [ids.tolist() for ids in laid.forwards()] == [
        [[*range(10)], [*range(9), 0]],
        [[*range(4)], [*range(3), 0]],
    ]
    for i, row in enumerate(rows):
        assert torch.equal(laid.row(laid.ids, i), row)
        assert torch.equal(laid.ids[laid.at(torch.full_like(row, i), row)], row)


@pytest.mark.parametrize("kind", ["lfm2", "granitemoehybrid", "mamba"])
@torch.no_grad()
def test_parted_rows_are_as_they_were(kind: str) -> None:
    """Putting rows side by side and parting them changes no number."""
    model = tiny_model(kind, **KINDS[kind]).eval()
    apart = [states.go_on(model, torch.arange(n)[None], None)[1] for n in (7, 2, 12)]
    again = states.split(states.merged(apart))
    for before, after in zip(apart, again, strict=True):
        assert before.lengths == after.lengths
        ours = states.go_on(model, torch.tensor([[5]]), after)[0]
        assert torch.equal(ours, states.go_on(model, torch.tensor([[5]]), before)[0])


def test_the_user_is_told_once() -> None:
    told: list[str] = []
    for _ in range(2):
        check_model(tiny_model("bloom"), told.append)
    check_model(tiny_model("llama"), told.append)
    assert len(told) == 1 and "\n" not in told[0]
    assert told[0].startswith("BloomForCausalLM is trained and sampled row by row")


def test_the_way_is_kept_beside_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older version left there, or something else, is not believed."""
    kept = tmp_path / "cache" / "compatibility.json"
    kept.parent.mkdir()
    kept.write_text(json.dumps({"LlamaForCausalLM x trial 1": "", "other": [1]}))
    for _ in range(2):
        monkeypatch.setattr(compatibility, "_TRIED", {})  # another process
        model = tiny_model("bloom")
        check_model(model)
        assert by_rows(model) == ByRows("whole", together=True)
        monkeypatch.setattr(compatibility, "_try", None)
    verdicts = json.loads(kept.read_text())
    (ours,) = [v for kind, v in verdicts.items() if kind.startswith("Bloom")]
    assert ours == {"reason": "", "rows": {"turns": "whole", "together": True}}
    assert verdicts["LlamaForCausalLM x trial 1"] == ""
    monkeypatch.undo()
    monkeypatch.setenv("RLCHAT_CACHE", str(tmp_path / "cache"))
    for wrong in ("", {"reason": 1}, {"reason": "", "rows": {"turns": "never"}}, [1]):
        monkeypatch.setattr(compatibility, "_TRIED", {})
        kept.write_text(json.dumps(dict.fromkeys(verdicts, wrong)))
        model = tiny_model("bloom")
        check_model(model)
        assert by_rows(model) is not None


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_virtual_tokens_are_refused(method: str, tmp_path: Path) -> None:
    folder = folder_of(tiny_model("mamba"), tmp_path)
    with pytest.raises(UserError, match=r"got virtual tokens .*; choose another --adapter.method"):
        Policy.create(str(folder), AdapterConfig(method))


def test_an_adapter_that_would_not_show_is_refused(tmp_path: Path) -> None:
    """Mamba reads the weight of dt_proj past its adapter: training would not see what is merged."""
    folder = folder_of(tiny_model("mamba"), tmp_path / "model")
    policy = Policy.create(str(folder), AdapterConfig(layers=1.0))
    assert policy.model.peft_config["policy"].target_modules == {"in_proj", "x_proj"}
    base = AutoModelForCausalLM.from_pretrained(folder)
    config = LoraConfig(target_modules=["in_proj", "dt_proj"], base_model_name_or_path=str(folder))
    get_peft_model(base, config).save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(UserError, match=r"got one that changes dt_proj as well"):
        Policy.create(str(folder), AdapterConfig(), tmp_path / "adapter")


def test_the_paged_engine_refuses(tmp_path: Path) -> None:
    policy = opened(folder_of(tiny_model("mamba"), tmp_path))
    with (
        pytest.raises(UserError, match=r"got MambaForCausalLM, which is run row by row; leave"),
        engine("paged", policy.generation_model(), 2, 64, (1,), 1.0, 0, False),
    ):
        pass


def test_a_person_talks_with_it(tmp_path: Path) -> None:
    """Replies, and another in the place of one, are sampled as the full forward says."""
    policy = opened(folder_of(tiny_model("mamba"), tmp_path))
    agent = ModelAgent.of(policy)
    settings = ConversationSettings(temperature=1.0, max_new_tokens=6, max_tokens=400)
    talk = agent.start(3, settings)
    said = [Message("user", "hello")]
    for turn in range(3):
        reply = talk.reply(tuple(said), {}, lambda _: None)
        if turn == 1:
            other = talk.resampler.another()
            assert other.ids != reply.ids
            talk.resampler.take(other)
            reply = other
        ids = talk._context.ids
        assert ids[-len(reply.ids) :] == [*reply.ids]
        expected = full_logprobs(agent.generation.model, ids)[-len(reply.ids) :]
        assert relative(torch.tensor(reply.logprobs), expected) < 1e-5
        said += [Message("assistant", reply.text), Message("user", "and then?")]


def test_it_imitates(tmp_path: Path) -> None:
    """A warm start, which switches the model to training, lowers the loss."""
    policy = opened(folder_of(tiny_model("lfm2", 256, **KINDS["lfm2"]), tmp_path / "model"))
    told = [(Message("user", f"hi {i}"), Message("assistant", "hello there")) for i in range(20)]
    config = WarmStartConfig(epochs=3, learning_rate=1e-2)
    losses = warm_start(policy, told, config, 0, tmp_path / "adapter")
    assert losses[-1] < 0.8 * losses[0]


def test_copies_are_run_alike(tmp_path: Path) -> None:
    model = llama(ByRows("single", False))
    assert by_rows(copy.deepcopy(model)) == ByRows("single", False)
    assert isinstance(decoder_of(GenerationModel(model), 1, 9, ()), RowDecoder)


@pytest.mark.parametrize("kind", ["lfm2", "recurrent_gemma"])
def test_a_conversation_is_taken_back(kind: str, tmp_path: Path) -> None:
    """What follows is as if what was taken back had never been read."""
    policy = opened(folder_of(tiny_model(kind, **KINDS[kind]), tmp_path))

    def say(decoder: RowDecoder, ids: list[int]) -> list[float]:
        new = ids[decoder.length(0) :]
        return decoder.generate({0: new}, {0: lambda: 0.5}, 3)[0].logprobs

    decoder = decoder_of(policy.generation_model(), 1, 100, stop_ids=())
    other = decoder_of(policy.generation_model(), 1, 100, stop_ids=())
    assert isinstance(decoder, RowDecoder) and isinstance(other, RowDecoder)
    say(decoder, [1, 2, 3, 4, 5, 6])
    decoder.rewind(0, 4)
    assert decoder.length(0) <= 4
    assert say(decoder, [1, 2, 3, 4, 9, 8]) == pytest.approx(say(other, [1, 2, 3, 4, 9, 8]))
