"""Sampling with a cache that lives across turns (ppo.md, test 6)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlchat.inference import decoder as decoder_module
from rlchat.inference.cuda_graphs import Replayed
from rlchat.inference.decoder import Decoder
from rlchat.inference.kv_cache import GROWTH
from rlchat.inference.rows import Noise, Sampled
from rlchat.models.generation_model import GenerationModel
from rlchat.models.policy import Policy

MakePolicy = Callable[..., Policy]
END = 257  # the tiny model's last id: numbers just below 1 draw it


@pytest.fixture(scope="module")
def model(make_policy: MakePolicy) -> PreTrainedModel:
    return copy.deepcopy(make_policy().generation_model().model)


def make_decoder(
    model: PreTrainedModel, rows: int, slots: int, temperature: float = 1.0, kept_layers: int = 0
) -> Decoder:
    return Decoder(GenerationModel(model), rows, slots, (END,), temperature, kept_layers)


def uniform(seed: int, ends: float = 0.1) -> Noise:
    """Numbers of a row's own; the share ``ends`` of them ends the turn."""
    rng = np.random.default_rng(seed)
    return lambda: 0.999999 if rng.random() < ends else rng.random() * 0.99


def words(seed: int, count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(0, 256, count)]


@torch.no_grad()
def full_logprobs(model: PreTrainedModel, ids: Sequence[int], temperature: float = 1.0) -> Tensor:
    """Of every token but the first, in one forward without a cache."""
    logits = model(input_ids=torch.tensor([ids])).logits[0, :-1] / temperature
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]


class Record:
    """Conversations as they should be in the cache, and what was sampled where."""

    def __init__(self) -> None:
        self.ids: dict[int, list[int]] = {}
        self.sampled: dict[int, list[tuple[int, float]]] = {}

    def speak(
        self,
        decoder: Decoder,
        heard: dict[int, list[int]],
        noise: dict[int, Noise],
        budget: int = 8,
    ) -> dict[int, Sampled]:
        prompts = {
            c: [*self.ids[c][-1:], *new] if self.ids.get(c) else new for c, new in heard.items()
        }
        said = decoder.generate(prompts, {c: noise[c] for c in heard}, budget)
        assert set(said) == set(heard)
        for c, turn in said.items():
            ids = self.ids.setdefault(c, [])
            ids += heard[c]
            places = range(len(ids), len(ids) + len(turn.ids))
            self.sampled.setdefault(c, []).extend(zip(places, turn.logprobs, strict=True))
            ids += turn.ids
            assert decoder.length(c) == len(ids) - 1  # all but the last sampled
            assert turn.finished == (turn.ids[-1] == END)
            assert END not in turn.ids[:-1]
            assert turn.finished or len(turn.ids) == budget
        return said

    def check(self, model: PreTrainedModel, temperature: float = 1.0) -> None:
        for c, ids in self.ids.items():
            expected = full_logprobs(model, ids, temperature)
            for place, logprob in self.sampled[c]:
                assert logprob == pytest.approx(float(expected[place - 1]), abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("forward", [1, 9, decoder_module.FORWARD])
def test_cached_turns_are_one_full_forward(
    model: PreTrainedModel, temperature: float, forward: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of different lengths, some of which finish early or sit a turn out."""
    monkeypatch.setattr(decoder_module, "FORWARD", forward)
    decoder, record = make_decoder(model, 5, 200, temperature), Record()
    noise = {c: uniform(c, ends=0.2) for c in range(5)}
    rng = np.random.default_rng(0)
    lengths: set[int] = set()
    for turn in range(6):
        speakers = [int(c) for c in rng.permutation(5)][: 5 - turn % 3]
        heard = {c: words(10 * turn + c, int(rng.integers(1, 15))) for c in speakers}
        said = record.speak(decoder, heard, noise)
        lengths |= {len(s.ids) for s in said.values()}
    assert {1, 8} < lengths  # the shortest and the longest turns both happened
    record.check(model, temperature)


def test_a_forward_holds_who_speaks_and_as_much_as_fits_of_what_is_to_be_heard(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for 9: 9 of 12 tokens; the other 3, and 5 of 7; then the first speaks beside."""
    monkeypatch.setattr(decoder_module, "FORWARD", 9)
    monkeypatch.setattr(decoder_module, "BLOCK", 1)
    decoder, heard = make_decoder(model, 3, 100), []
    forward = decoder.trunk.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        heard.append(kwargs["position_ids"][0].tolist())
        return forward(*args, **kwargs)

    monkeypatch.setattr(decoder.trunk, "forward", watched)
    decoder.submit(5, words(0, 12), lambda: 0.5, 4)
    decoder.submit(6, words(1, 8), lambda: 0.5, 4)
    for _ in range(3):
        assert decoder.step() == {}
    assert heard == [[*range(9)], [9, 10, 11, *range(6)], [12, 6, 7]]


@pytest.mark.parametrize("kept_layers", [0, 1])
def test_a_forward_of_all_rows_says_the_same(
    model: PreTrainedModel, kept_layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU replays: fixed shapes, whoever speaks; here it is called as it is.

    Rows sit turns out, one is full to its last slot, and one comes anew.
    """
    said: list[list[dict[int, Sampled]]] = []
    starts: list[list[Tensor]] = []
    for devices in ((), ("cpu",)):
        monkeypatch.setattr(decoder_module, "REPLAYED", devices)
        decoder, record = make_decoder(model, 4, 60, kept_layers=kept_layers), Record()
        noise = {c: uniform(c, ends=0.2) for c in range(5)}
        turns = []
        for turn, speakers in enumerate([(0, 1, 2, 3), (1, 3), (0,), (0, 1, 2), (3, 2)]):
            heard = {c: words(10 * turn + c, 3 + c) for c in speakers}
            turns.append(record.speak(decoder, heard, noise, budget=6))
        full = 60 - 6 - decoder.length(0) - 1
        turns.append(record.speak(decoder, {0: words(8, full), 1: words(9, 1)}, noise, budget=6))
        record.check(model)
        if kept_layers:
            starts.append([decoder.cached_states(c) for c in range(4)])
        decoder.forget(2)
        turns.append(decoder.generate({4: words(7, 9)}, noise, 6))
        said.append(turns)
    assert [[{c: s.ids for c, s in t.items()} for t in turns] for turns in said[1:]] == [
        [{c: s.ids for c, s in t.items()} for t in said[0]]
    ]
    for a, b in zip(*starts, strict=True) if starts else ():
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shared", [0, 1, 7, 20])
def test_what_another_row_begins_with_is_not_computed_again(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, shared: int
) -> None:
    """Logprobs and kept states are those of a row that heard it all; the last token is heard."""
    decoder, record = make_decoder(model, 2, 100, kept_layers=1), Record()
    noise = {c: uniform(c) for c in range(2)}
    first = words(0, 20)
    record.speak(decoder, {0: first}, noise)
    counts: list[int] = []
    forward = decoder.trunk.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        counts.append(kwargs["input_ids"].numel())
        return forward(*args, **kwargs)

    monkeypatch.setattr(decoder.trunk, "forward", watched)
    second = [*first[:shared], 256, *words(1, 4)] if shared < 20 else first
    record.speak(decoder, {1: second}, noise)
    assert counts[0] == len(second) - min(shared, 19)
    record.check(model)
    with torch.no_grad():
        ids = torch.tensor([record.ids[1][:-1]])
        states = model(input_ids=ids, output_hidden_states=True).hidden_states[1][0]
    torch.testing.assert_close(decoder.cached_states(1), states, atol=1e-5, rtol=1e-5)


def test_what_tokens_were_drawn_from_is_kept(model: PreTrainedModel) -> None:
    """Last and middle states before each sampled token, over two turns; others keep nothing."""
    decoder = Decoder(GenerationModel(model), 2, 100, (END,), keep_sampled_states=True)
    record, noise = Record(), {c: uniform(c) for c in range(2)}
    for turn in range(2):
        record.speak(decoder, {c: words(10 * turn + c, 5 + c) for c in range(2)}, noise)
    for c in range(2):
        places = [place for place, _ in record.sampled[c]]
        with torch.no_grad():
            out = model(input_ids=torch.tensor([record.ids[c]]), output_hidden_states=True)
        layers = model.config.num_hidden_layers
        middle = out.hidden_states[2 * (layers + 1) // 3][0]
        expected = torch.stack([out.hidden_states[-1][0], middle], 1)[torch.tensor(places) - 1]
        spoken = decoder.sampled_states(c)
        assert spoken is not None
        torch.testing.assert_close(spoken, expected, atol=1e-5, rtol=1e-5)
    assert Decoder(GenerationModel(model), 2, 100, (END,)).sampled_states(0) is None


def test_rows_close_ranks_when_one_leaves(model: PreTrainedModel) -> None:
    """The third row moves to the first place, and goes on where it was."""
    decoder, record = make_decoder(model, 3, 100), Record()
    noise = {c: uniform(c) for c in range(3)}
    record.speak(decoder, {c: words(c, 9 + c) for c in range(3)}, noise)
    decoder.forget(0)
    gone = record.ids.pop(0), record.sampled.pop(0)
    record.speak(decoder, {2: words(7, 3), 1: words(8, 4)}, noise)
    assert {c: decoder._rows[c] for c in (1, 2)} == {1: 1, 2: 0}
    record.check(model)
    assert gone[0][:9] == words(0, 9)


def test_turns_begin_while_others_speak(model: PreTrainedModel) -> None:
    """Submitted at any time, a turn is what it is alone: same ids, same logprobs."""

    def alone(c: int) -> Sampled:
        return make_decoder(model, 1, 60).generate({c: words(c, 9)}, {c: uniform(c)}, 12)[c]

    decoder, said = make_decoder(model, 4, 60), {}
    for c in range(4):
        decoder.submit(c, words(c, 9), uniform(c), 12)
        said |= decoder.step() | decoder.step()
    while decoder.busy:
        said |= decoder.step()
    for c in range(4):
        assert said[c].ids == alone(c).ids
        assert said[c].logprobs == pytest.approx(alone(c).logprobs, abs=1e-5)


def test_bfloat16_is_never_computed_one_row_at_a_time(make_policy: MakePolicy) -> None:
    """Forwards are whole blocks of tokens; what fills them changes nothing."""
    model = copy.deepcopy(make_policy(dtype="bfloat16").generation_model().model)
    decoder, widths = make_decoder(model, 1, 60), []
    forward = decoder.trunk.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        widths.append(kwargs["input_ids"].shape[1])
        return forward(*args, **kwargs)

    decoder.trunk.forward = watched  # type: ignore[method-assign]
    said = decoder.generate({0: words(0, 9)}, {0: lambda: 0.5}, 4)[0]
    assert widths == [16, 8, 8, 8]
    expected = full_logprobs(model, [*words(0, 9), *said.ids])[8:]
    assert said.logprobs == pytest.approx(expected.tolist(), abs=0.05)


def test_a_row_is_used_again_by_the_next_conversation(model: PreTrainedModel) -> None:
    decoder, noise = make_decoder(model, 2, 100), {c: uniform(c) for c in range(2)}
    old, new = Record(), Record()
    old.speak(decoder, {0: words(0, 30), 1: words(1, 5)}, noise)
    old.check(model)
    decoder.forget(0)
    new.ids[1], new.sampled[1] = old.ids[1], old.sampled[1]
    new.speak(decoder, {0: words(2, 9), 1: words(3, 4)}, noise)
    new.speak(decoder, {1: words(4, 3), 0: words(5, 11)}, noise)
    new.check(model)


def test_a_nearly_full_row_and_a_long_new_one_fit_together(model: PreTrainedModel) -> None:
    """There is no padding to take slots: 38 + 2 + 3 and 40 + 3 tokens fit into 43 slots."""
    decoder, record = make_decoder(model, 2, 43), Record()
    noise = {c: uniform(c, ends=0.0) for c in range(2)}
    record.speak(decoder, {0: words(0, 36)}, noise, budget=2)
    record.speak(decoder, {0: words(1, 2), 1: words(2, 40)}, noise, budget=3)
    record.check(model)


def test_nobody_hears_who_else_speaks(model: PreTrainedModel) -> None:
    """Each row's ids and logprobs are the same alone, together and in any order."""

    def play(order: list[list[int]]) -> Record:
        decoder, record = make_decoder(model, 4, 120), Record()
        noise = {c: uniform(c) for c in range(4)}
        for turn in range(3):
            for speakers in order:
                record.speak(decoder, {c: words(turn + 7 * c, 3 + 4 * c) for c in speakers}, noise)
        return record

    together = play([[0, 1, 2, 3]])
    for order in ([[3, 1, 0, 2]], [[2], [0], [3], [1]], [[1, 2], [3, 0]]):
        other = play(order)
        assert other.ids == together.ids
        for c in range(4):
            mine, theirs = (r.sampled[c] for r in (other, together))
            assert mine == [(place, pytest.approx(x, abs=1e-5)) for place, x in theirs]


def test_tokens_are_told_as_they_come(model: PreTrainedModel) -> None:
    told: list[tuple[int, int, float]] = []
    said = make_decoder(model, 2, 40).generate(
        {0: words(0, 3), 1: words(1, 5)},
        {c: uniform(c) for c in range(2)},
        6,
        on_token=lambda c, i, logprob: told.append((c, i, logprob)),
    )
    for c in range(2):
        assert [i for d, i, _ in told if d == c] == said[c].ids
        assert [logprob for d, _, logprob in told if d == c] == said[c].logprobs


def test_greedy_takes_the_most_likely(model: PreTrainedModel) -> None:
    prompt = words(0, 6)
    said = make_decoder(model, 1, 40, 0.0).generate({0: prompt}, {0: lambda: 0.5}, 5)
    ids = [*prompt, *said[0].ids]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    assert logits[5:-1].argmax(-1).tolist() == said[0].ids
    expected = full_logprobs(model, ids)[5:]
    assert said[0].logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_cache_is_as_large_as_was_asked(model: PreTrainedModel) -> None:
    with pytest.raises(AssertionError, match="cache of 10"):
        make_decoder(model, 1, 10).generate({0: words(0, 11)}, {0: uniform(0)}, 1)


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches whose memory grows, as on accelerators and in half precision."""
    monkeypatch.setattr("rlchat.inference.decoder.is_lazy", lambda weight: False)


@pytest.mark.usefixtures("growing")
def test_memory_grows_for_the_rows_that_are_left(model: PreTrainedModel) -> None:
    """Three rows of a block; one that outgrows it is alone by then; later there are two again."""
    decoder, record = make_decoder(model, 3, 300), Record()
    noise = {c: uniform(c) for c in range(4)}

    def held() -> tuple[int, int]:
        layer = decoder._cache.layers[0]
        assert layer is not None
        return layer[0].shape[0], layer[0].shape[2]

    record.speak(decoder, {c: words(c, 20) for c in range(3)}, noise)
    assert held() == (3, GROWTH)
    for gone in (0, 1):
        decoder.forget(gone)
        record.ids.pop(gone), record.sampled.pop(gone)
    record.speak(decoder, {2: words(9, GROWTH)}, noise)
    assert held() == (1, 2 * GROWTH)
    record.speak(decoder, {3: [*record.ids[2][:10], *words(5, 7)]}, noise)
    assert held() == (2, 2 * GROWTH)
    record.speak(decoder, {2: words(6, 3), 3: words(7, 4)}, noise)
    record.check(model)


@pytest.mark.usefixtures("growing")
def test_a_row_that_the_cache_has_no_place_for_yet_may_move(model: PreTrainedModel) -> None:
    """The last place was let go and the cache grew without it; it is taken as a hole appears."""
    decoder, record = make_decoder(model, 3, 300), Record()
    noise = {c: uniform(c, ends=0.0) for c in range(4)}
    record.speak(decoder, {c: words(c, 5) for c in range(3)}, noise, 4)
    decoder.forget(2)
    record.speak(decoder, {c: words(9, 90) for c in range(2)}, noise, 4)
    assert decoder._cache.held == 2
    prompt = words(6, 7)
    decoder.submit(3, prompt, noise[3], 4)  # in the last place
    decoder.forget(0)  # and before it begins, there is a hole below
    while decoder.busy:
        said = decoder.step()
    expected = full_logprobs(model, [*prompt, *said[3].ids])[len(prompt) - 1 :]
    torch.testing.assert_close(torch.tensor(said[3].logprobs), expected, atol=1e-5, rtol=0)


def test_a_generation_that_is_stopped_leaves_no_turn(model: PreTrainedModel) -> None:
    """Whoever presses Ctrl-C as a token comes may go on with the same conversation."""
    decoder = make_decoder(model, 1, 60)

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoder.generate({0: words(0, 5)}, {0: lambda: 0.5}, 4, leave)
    assert not decoder.busy
    prompt = [*words(0, 5), *words(1, 3)][decoder.length(0) :]
    said = decoder.generate({0: prompt}, {0: lambda: 0.5}, 4)[0]
    expected = full_logprobs(model, [*words(0, 5), *words(1, 3), *said.ids])[7:]
    assert said.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_a_row_that_begins_as_another_has_the_virtual_tokens_too(
    make_policy: MakePolicy, method: str
) -> None:
    """Beside one with which it shares 7 tokens, in a row that nobody had: what it is alone."""
    generation = make_policy(method).generation_model()
    prompt = [*words(0, 7), *words(1, 4)]
    alone = Decoder(generation, 1, 100, (END,)).generate({1: prompt}, {1: uniform(1)}, 8)[1]
    decoder = Decoder(generation, 2, 100, (END,))
    decoder.generate({0: words(0, 20)}, {0: uniform(0)}, 8)
    beside = decoder.generate({1: prompt}, {1: uniform(1)}, 8)[1]
    assert beside.ids == alone.ids
    assert beside.logprobs == pytest.approx(alone.logprobs, abs=1e-5)


class Recorded(Replayed):
    """Writes what it computes into the same memory again and again, as a recorded graph does."""

    def __call__(self, compute: Any, *given: Tensor) -> Any:
        """Compute, and put it where it was put before."""
        found = super().__call__(compute, *given)
        if not hasattr(self, "memory"):
            self.memory = found
        for there, new in zip(self.memory, found, strict=True):
            there.copy_(new)
        return self.memory


def test_kept_states_are_not_what_the_next_step_overwrites(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "REPLAYED", ("cpu",))
    monkeypatch.setattr(decoder_module, "Replayed", Recorded)
    decoder, prompt = make_decoder(model, 1, 60, kept_layers=1), words(0, 5)
    said = decoder.generate({0: prompt}, {0: lambda: 0.5}, 6)[0]
    with torch.no_grad():
        ids = torch.tensor([[*prompt, *said.ids[:-1]]])
        states = model(input_ids=ids, output_hidden_states=True).hidden_states[1][0]
    torch.testing.assert_close(decoder.cached_states(0), states, atol=1e-5, rtol=1e-5)


def test_any_of_several_ids_ends_a_turn(model: PreTrainedModel) -> None:
    """As of models whose settings name several: what ended the turn is its last token."""
    generation, prompt = GenerationModel(model), [72, 101, 108]
    free = Decoder(generation, 1, 100, ()).generate({1: prompt}, {1: uniform(1)}, 8)[1]
    assert not free.finished and len(free.ids) == 8
    third = free.ids[2]
    ended = Decoder(generation, 1, 100, (END, third)).generate({1: prompt}, {1: uniform(1)}, 8)[1]
    assert ended.finished
    assert ended.ids == free.ids[: free.ids.index(third) + 1]
