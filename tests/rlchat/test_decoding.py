"""Sampling with a cache that lives across turns (ppo.md, test 6)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlchat import decoding
from rlchat.decoding import Decoder, Noise, Sampled, sample
from rlchat.policy import Policy

MakePolicy = Callable[..., Policy]
END = 257  # the tiny model's last id: numbers just below 1 draw it


@pytest.fixture(scope="module")
def model(make_policy: MakePolicy) -> PreTrainedModel:
    return copy.deepcopy(make_policy().rollout_model())


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
        temperature: float = 1.0,
    ) -> dict[int, Sampled]:
        prompts = {
            c: [*self.ids[c][-1:], *new] if self.ids.get(c) else new for c, new in heard.items()
        }
        said = decoder.generate(prompts, {c: noise[c] for c in heard}, budget, END, temperature)
        assert set(said) == set(heard)
        for c, turn in said.items():
            ids = self.ids.setdefault(c, [])
            ids += heard[c]
            places = range(len(ids), len(ids) + len(turn.ids))
            self.sampled.setdefault(c, []).extend(zip(places, turn.logprobs, strict=True))
            ids += turn.ids
            assert decoder.lengths[c] == len(ids) - 1  # all but the last sampled
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
@pytest.mark.parametrize("listening", [1, 2, decoding.LISTENING])
def test_cached_turns_are_one_full_forward(
    model: PreTrainedModel, temperature: float, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of different lengths, some of which finish early or sit a turn out."""
    monkeypatch.setattr(decoding, "LISTENING", listening)
    decoder, record = Decoder(model, 5, 200), Record()
    noise = {c: uniform(c, ends=0.2) for c in range(5)}
    rng = np.random.default_rng(0)
    lengths: set[int] = set()
    for turn in range(6):
        speakers = [int(c) for c in rng.permutation(5)][: 5 - turn % 3]
        heard = {c: words(10 * turn + c, int(rng.integers(1, 15))) for c in speakers}
        said = record.speak(decoder, heard, noise, temperature=temperature)
        lengths |= {len(s.ids) for s in said.values()}
    assert {1, 8} < lengths  # the shortest and the longest turns both happened
    record.check(model, temperature)


def test_short_prompts_are_not_padded_to_long_ones(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "LISTENING", 2)
    decoder, widths = Decoder(model, 4, 100), []
    forward = decoder.trunk.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        widths.append(kwargs["input_ids"].shape)
        return forward(*args, **kwargs)

    monkeypatch.setattr(decoder.trunk, "forward", watched)
    prompts = {c: words(c, count) for c, count in enumerate((30, 3, 28, 4))}
    decoder.generate(prompts, {c: uniform(c) for c in prompts}, 1, END)
    assert widths == [(2, 4), (2, 30)]


def test_a_row_is_used_again_by_the_next_conversation(model: PreTrainedModel) -> None:
    decoder, noise = Decoder(model, 2, 100), {c: uniform(c) for c in range(2)}
    old, new = Record(), Record()
    old.speak(decoder, {0: words(0, 30), 1: words(1, 5)}, noise)
    old.check(model)
    decoder.forget(0)
    new.ids[1], new.sampled[1] = old.ids[1], old.sampled[1]
    new.speak(decoder, {0: words(2, 9), 1: words(3, 4)}, noise)
    new.speak(decoder, {1: words(4, 3), 0: words(5, 11)}, noise)
    new.check(model)


def test_a_nearly_full_row_and_a_long_new_one_fit_together(model: PreTrainedModel) -> None:
    """A row's padding takes no slots: 38 + 2 + 3 and 40 + 3 tokens fit into 43 slots."""
    decoder, record = Decoder(model, 2, 43), Record()
    noise = {c: uniform(c, ends=0.0) for c in range(2)}
    record.speak(decoder, {0: words(0, 36)}, noise, budget=2)
    record.speak(decoder, {0: words(1, 2), 1: words(2, 40)}, noise, budget=3)
    record.check(model)


def test_nobody_hears_who_else_speaks(model: PreTrainedModel) -> None:
    """Each row's ids and logprobs are the same alone, together and in any order."""

    def play(order: list[list[int]]) -> Record:
        decoder, record = Decoder(model, 4, 120), Record()
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
    told: list[tuple[int, int]] = []
    said = Decoder(model, 2, 40).generate(
        {0: words(0, 3), 1: words(1, 5)},
        {c: uniform(c) for c in range(2)},
        6,
        END,
        on_token=lambda c, i: told.append((c, i)),
    )
    for c in range(2):
        assert [i for d, i in told if d == c] == said[c].ids


def test_greedy_takes_the_most_likely(model: PreTrainedModel) -> None:
    prompt = words(0, 6)
    said = Decoder(model, 1, 40).generate({0: prompt}, {0: lambda: 0.5}, 5, END, temperature=0.0)
    ids = [*prompt, *said[0].ids]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    assert logits[5:-1].argmax(-1).tolist() == said[0].ids
    expected = full_logprobs(model, ids)[5:]
    assert said[0].logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_cache_is_as_large_as_was_asked(model: PreTrainedModel) -> None:
    with pytest.raises(AssertionError, match="cache of 10"):
        Decoder(model, 1, 10).generate({0: words(0, 11)}, {0: uniform(0)}, 1, END)


def test_sample_draws_the_distribution() -> None:
    """Chi-square over 20 000 draws of 6 tokens; its .999 quantile at 5 degrees is 20.5."""
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0, 0.5, -2.0]])
    total = sum(math.exp(x) for x in logits[0].tolist())
    probabilities = [math.exp(x) / total for x in logits[0].tolist()]
    numbers = np.random.default_rng(0).random(20_000)
    ids, logprobs = sample(logits.expand(20_000, -1), numbers.tolist(), 1.0)
    counts = torch.bincount(ids, minlength=6).tolist()
    pairs = list(zip(counts, (20_000 * p for p in probabilities), strict=True))
    assert sum((n - e) ** 2 / e for n, e in pairs) < 20.5
    for i, logprob in list(zip(ids.tolist(), logprobs.tolist(), strict=True))[:100]:
        assert logprob == pytest.approx(math.log(probabilities[i]), abs=1e-6)


def test_sample_inverts_the_cumulative_distribution() -> None:
    """Probabilities .1, .2, .3, .4: each owns [from, to) of the unit interval."""
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    numbers = [0.0, 0.099, 0.101, 0.299, 0.301, 0.599, 0.601, 0.999999]
    ids, _ = sample(logits.expand(len(numbers), -1), numbers, 1.0)
    assert ids.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_temperature_sharpens_what_is_drawn_and_what_is_reported() -> None:
    """At .5 the probabilities .2, .8 become .04 / .68 and .64 / .68."""
    logits = torch.tensor([[0.2, 0.8]]).log().expand(2, -1)
    ids, logprobs = sample(logits, [0.05, 0.07], 0.5)
    assert ids.tolist() == [0, 1]
    assert logprobs.tolist() == pytest.approx([math.log(0.04 / 0.68), math.log(0.64 / 0.68)])


def test_greedy_reports_the_undivided_distribution() -> None:
    ids, logprobs = sample(torch.tensor([[0.2, 0.7, 0.1]]).log(), [0.0], 0.0)
    assert ids.tolist() == [1]
    assert logprobs.tolist() == pytest.approx([math.log(0.7)])


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53, 0.5])
def test_the_impossible_is_never_drawn(number: float) -> None:
    """Numbers that round to 1 in float32 stay in the last token that has a probability."""
    impossible = -math.inf
    logits = torch.tensor([[impossible, 0.0, impossible, 0.0, impossible, -200.0]])
    ids, logprobs = sample(logits, [number], 1.0)
    assert ids.item() == (1 if number == 0.0 else 3)
    assert logprobs.item() == pytest.approx(math.log(0.5))
