"""What is drawn from logits, and the logprobs of what was, with gradients (ppo.md, test 6)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlchat.models.logits import sample, token_logprobs


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


def test_token_logprobs_do_not_depend_on_chunks() -> None:
    """1100 tokens are three chunks; values and gradients are those of one softmax."""
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(6, 9)
    states = torch.randn(1100, 6, generator=generator, requires_grad=True)
    targets = torch.randint(0, 9, (1100,), generator=generator)
    expected = head(states).log_softmax(-1)[torch.arange(1100), targets]
    out = token_logprobs(head, states, targets)
    torch.testing.assert_close(out, expected)
    (a,) = torch.autograd.grad(out.square().sum(), states)
    (b,) = torch.autograd.grad(expected.square().sum(), states)
    torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(token_logprobs(head, states, targets), expected)
        assert token_logprobs(head, states[:0], targets[:0]).shape == (0,)
