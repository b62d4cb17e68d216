"""Manner and taste, against numbers worked out by hand and on a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlchat_envs import Conversation, Message
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.style import PARTS, Taste, begin, differences, learn, manner

BEFORE: Conversation = (
    Message("user", "Where is my lamp?"),
    Message("assistant", "May I have your order number, please?"),
    Message("user", "X5139."),
    Message("tool", "Order X5139: brass lamp. Status: shipped."),
)
HERE = list(PARTS)


def unit(part: str, size: float = 1.0) -> np.ndarray:
    return size * np.eye(len(PARTS))[HERE.index(part)]


@pytest.mark.parametrize(
    ("reply", "measured"),
    [
        ("", {}),
        ("Shipped.", {"length": math.log(2), "facts": math.log(2)}),
        ("The lamp?", {"length": math.log(3), "facts": math.log(2), "questions": 1}),
        ("X5139 is it.", {"length": math.log(4), "facts": math.log(2)}),
        ("I'm sorry!", {"length": math.log(3), "sympathy": 1, "warmth": 1, "formality": -1}),
        ("Thank you, please.", {"length": math.log(4), "courtesy": 2}),
        ("Could you wait?", {"length": math.log(4), "questions": 1, "formality": 1}),
        ("It's John's.", {"length": math.log(3), "formality": -1}),  # only one is a contraction
        ("Sorry! Sorry! Sorry!", {"length": math.log(4), "sympathy": 2, "warmth": 2}),
        ("Well done!!", {"length": math.log(3), "warmth": 2}),
    ],
)
def test_manner_by_hand(reply: str, measured: dict[str, float]) -> None:
    expected = [measured.get(name, 0.0) / spread for name, spread in PARTS.items()]
    assert manner(BEFORE, reply) == pytest.approx(expected)


def test_a_repeated_sentence() -> None:
    again = manner(BEFORE, "Well. May I have your ORDER number, please!")
    assert again[HERE.index("repetition")] == 1 / 0.3
    assert manner(BEFORE[:1], "May I have your order number, please?")[-1] == 0


def test_differences_are_better_less_worse() -> None:
    better, worse = (Message("assistant", "Sorry."),), (Message("assistant", "Thanks."),)
    found = differences([Preference(BEFORE, better, worse)])
    assert found[0] == pytest.approx(unit("sympathy", 1 / 0.3) - unit("courtesy", 1 / 0.6))
    assert differences([]).shape == (0, len(PARTS))


def test_one_comparison_by_hand() -> None:
    # One part, d = 1: w = 1 − σ(w), whose root is 0.401058; the precision is 1 + σ(w) σ(−w).
    found = learn(Taste.unknown(), unit("warmth")[None])
    w = 0.401058
    assert found.mean == pytest.approx(unit("warmth", w), abs=1e-6)
    right = 1 / (1 + math.exp(-w))
    variance = 1 / (1 + right * (1 - right))
    assert found.covariance == pytest.approx(
        np.eye(len(PARTS)) + np.diag(unit("warmth", variance - 1)), abs=1e-6
    )


def test_some_comparisons_against_a_grid() -> None:
    seen = np.array([unit("length") + unit("facts"), unit("length", 2), unit("facts", -1)])
    before = Taste(unit("length", -0.5), np.eye(len(PARTS)) / 2)
    axis = np.linspace(-2, 2, 2001)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    loss = (x + 0.5) ** 2 + y**2  # half of precision 2
    for a, b in ((1, 1), (2, 0), (0, -1)):
        loss += np.logaddexp(0, -(a * x + b * y))
    best = np.unravel_index(np.argmin(loss), loss.shape)
    found = learn(before, seen).mean
    assert found[HERE.index("length")] == pytest.approx(axis[best[0]], abs=2e-3)
    assert found[HERE.index("facts")] == pytest.approx(axis[best[1]], abs=2e-3)


@given(st.lists(st.lists(st.floats(-50, 50), min_size=8, max_size=8), max_size=6))
def test_it_finds_the_top_whatever_was_said(rows: list[list[float]]) -> None:
    seen = np.array(rows).reshape(-1, len(PARTS))
    found = learn(Taste.unknown(), seen)
    right = 0.5 * (1 + np.tanh(seen @ found.mean / 2))
    assert seen.T @ (1 - right) == pytest.approx(found.mean, abs=1e-5)


def test_what_is_known_beforehand_is_the_common_taste() -> None:
    nobody = begin(np.zeros((0, len(PARTS))))
    assert (nobody.mean == 0).all() and (nobody.covariance == np.eye(len(PARTS))).all()
    common = begin(np.array([unit("warmth")]))
    assert common.mean == pytest.approx(unit("warmth", 0.401058), abs=1e-6)
    assert (common.covariance == np.eye(len(PARTS))).all()


def test_an_answer_tells_most_where_it_is_not_known_yet() -> None:
    taste = Taste(unit("warmth", 2.0), np.eye(len(PARTS)) - np.diag(unit("facts", 0.9)))
    told = taste.telling(
        np.array([unit("length"), unit("facts"), unit("warmth"), unit("length", 2)])
    )
    # p (1 − p) d'Vd: ¼ · 1, ¼ · 0.1, σ(2) σ(−2) · 1, ¼ · 4
    assert told == pytest.approx([0.25, 0.025, 0.104994, 1.0], abs=1e-6)
