"""Users in numbers, worked out by hand."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlchat_envs import Conversation, Message
from rlchat_envs.users.statistics import divergence, listen, rows


def talk(*said: str) -> Conversation:
    return tuple(m for s in said for m in (Message("user", s), Message("assistant", "Aha?")))


def test_counts_by_hand() -> None:
    heard = listen([talk("Hello. It's broken!", "No, B12."), talk("Where is it?")])
    assert heard.words == Counter(hello=1, it=2, s=1, broken=1, no=1, b12=1, where=1, **{"is": 1})
    assert heard.lengths == Counter({1: 2, 0: 1})  # 4, 2 and 3 words; up to 2, up to 5
    assert heard.acts == Counter(greets=1, tells=1, refuses=1, asks=1)
    assert heard.turns == Counter({2: 1, 1: 1})
    assert heard.words_a_message == pytest.approx(9 / 3)
    assert heard.acts_a_message == pytest.approx(4 / 3)
    assert heard.messages == 1.5
    assert heard.vocabulary == pytest.approx(1_000 * 8 / 9)
    assert [heard.hazard(turn) for turn in (1, 2)] == [0.5, 1.0]
    assert math.isnan(heard.hazard(3))


def test_divergence_by_hand() -> None:
    """p = (1, 0), q = (1/2, 1/2): middle (3/4, 1/4); (log2 4/3 + (log2 2/3 + log2 2) / 2) / 2."""
    by_hand = (math.log2(4 / 3) + 0.5 * math.log2(2 / 3) + 0.5 * math.log2(2)) / 2
    assert divergence({"a": 3}, {"a": 2, "b": 2}) == pytest.approx(by_hand)
    assert divergence({"a": 1}, {"b": 5}) == 1.0
    assert math.isnan(divergence({}, {"a": 1}))


@given(
    st.dictionaries(st.integers(0, 5), st.integers(1, 9), min_size=1),
    st.dictionaries(st.integers(0, 5), st.integers(1, 9), min_size=1),
)
def test_divergence_is_a_distance_of_sorts(p: dict[int, int], q: dict[int, int]) -> None:
    assert -1e-12 <= divergence(p, q) <= 1 + 1e-12
    assert divergence(p, q) == pytest.approx(divergence(q, p))
    assert divergence(p, p) == pytest.approx(0)


def test_rows_show_the_distance_to_what_stands_beside() -> None:
    one, two = listen([talk("Hello there.")]), listen([talk("Why? Oh why?", "No.")])
    same, other = rows({"one": one, "two": two}, beside=one)
    assert same == ("one", "2.0", "1.0", "1.0", "1000.0", same[5], *["0.00"] * 4)
    assert other[-4:] == ("0.31", "1.00", "1.00", "1.00")
