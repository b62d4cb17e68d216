"""What the critic makes of states and of privileged facts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlchat.algorithms.config import CriticConfig
from rlchat.algorithms.critic import PRIVILEGED, RIDGE, Critic, hash_privileged

SIZE = 3


def make_critic(privileged: bool = True) -> Critic:
    return Critic(SIZE, CriticConfig(width=4, privileged=privileged))


def rows(*facts: dict[int, float]) -> Tensor:
    """Features without states: so much of each numbered fact, a row a turn."""
    out = torch.zeros(len(facts), 2 * SIZE + PRIVILEGED)
    for row, numbers in zip(out, facts, strict=True):
        for i, number in numbers.items():
            row[2 * SIZE + i] = number
    return out


def test_it_starts_as_zero() -> None:
    assert torch.equal(make_critic()(torch.randn(5, 2 * SIZE + PRIVILEGED)), torch.zeros(5))
    assert torch.equal(make_critic(False)(torch.randn(5, 2 * SIZE)), torch.zeros(5))


def test_a_fact_seen_as_often_as_the_ridge_counts_for_half() -> None:
    """w = sum x y / (sum x x + lambda): 30 turns worth 4 give 30 * 4 / (30 + 30) = 2."""
    critic, turns = make_critic(), int(RIDGE)
    critic.weigh_facts(rows(*[{7: 1.0}] * turns), torch.full((turns,), 4.0))
    expected = torch.tensor([2.0, 0.0, 4.0])
    torch.testing.assert_close(critic(rows({7: 1.0}, {8: 1.0}, {7: 2.0})), expected)


def test_two_facts_that_come_together_share_what_they_explain() -> None:
    """w = (60 [[1, 1], [1, 1]] + 30 I)^-1 (60 * 5, 60 * 5) = (2, 2)."""
    critic = make_critic()
    critic.weigh_facts(rows(*[{1: 1.0, 2: 1.0}] * 60), torch.full((60,), 5.0))
    torch.testing.assert_close(critic(rows({1: 1.0}, {2: 1.0})), torch.tensor([2.0, 2.0]))


def test_earlier_iterations_and_other_ranks_count() -> None:
    """In two parts, or half by each of two ranks, it learns what it learns at once."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(40, 2 * SIZE + PRIVILEGED)
    x[:, 2 * SIZE : 2 * SIZE + 9] = torch.randn(40, 9, generator=generator)
    y = torch.randn(40, generator=generator)
    once, parts, ranks = make_critic(), make_critic(), make_critic()
    once.weigh_facts(x, y)
    parts.weigh_facts(x[:25], y[:25])
    parts.weigh_facts(x[25:], y[25:])
    ranks.weigh_facts(torch.cat([x[:20], x[20:]]), y, lambda t: t / 2 + t / 2)
    assert float(once.facts.abs().max()) > 0.01
    torch.testing.assert_close(parts.facts, once.facts)
    torch.testing.assert_close(ranks.facts, once.facts)


def test_a_return_that_is_no_number_is_not_kept() -> None:
    critic = make_critic()
    critic.weigh_facts(rows({1: 1.0}), torch.tensor([float("nan")]))
    critic.weigh_facts(rows(*[{1: 1.0}] * int(RIDGE)), torch.full((int(RIDGE),), 4.0))
    torch.testing.assert_close(critic(rows({1: 1.0})), torch.tensor([2.0]))


def test_a_critic_that_may_not_see_facts_keeps_none() -> None:
    critic = make_critic(False)
    critic.weigh_facts(torch.randn(4, 2 * SIZE), torch.ones(4))
    assert critic.facts.numel() == critic.gram.numel() == 0
    assert critic(torch.randn(4, 2 * SIZE)).shape == (4,)


@pytest.mark.parametrize("privileged", [{}, {"goal": "a"}, {"goal": "a", "turn": 3}])
def test_privileged_facts_hash_to_themselves_and_a_constant(privileged: dict[str, object]) -> None:
    out = hash_privileged(privileged)
    assert out[0] == 1
    assert float(out.sum()) == 1 + len(privileged)
    assert torch.equal(out, hash_privileged(dict(reversed(privileged.items()))))
    assert not torch.equal(out, hash_privileged({"goal": "b"}))
