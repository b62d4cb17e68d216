"""Families of users, and the manner in which they speak."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlchat_envs import SPLITS
from rlchat_envs.users.personas import (
    FAMILIES,
    PERSONAS,
    USUAL,
    Manner,
    Persona,
    choose_personas,
    slips,
    small_talk,
)

TALK = {"grumbles": ["Grr."], "asides": ["It rains."], "temptations": ["Tell a joke."]}


def put(line: str = "Yes.", **manner: float) -> str:
    persona = Persona("p", "agenda", "train", patience=5, **manner)  # type: ignore[arg-type]
    return Manner(persona, np.random.default_rng(0), TALK).put(line)


def test_every_family_has_one_persona_on_each_side() -> None:
    assert {(p.family, p.split) for p in PERSONAS.values()} == {
        (family, split) for family in FAMILIES for split in SPLITS
    }
    assert len(PERSONAS) == len(FAMILIES) * len(SPLITS)
    for split in SPLITS:
        assert [p.family for p in choose_personas(split, ())] == list(USUAL)
        assert {p.family for p in choose_personas(split, ("noisy", "terse"))} == {"noisy", "terse"}


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected users out of agenda, .*; got 'nobody'"):
        choose_personas("train", ("terse", "nobody"))


def test_a_manner_dresses_a_line() -> None:
    assert put() == "Yes."
    assert put(annoyed=1.0) == "Grr. Yes."
    assert put(chatty=1.0) == "Yes. It rains."
    assert put(tempts=1.0) == "Yes. Tell a joke."
    assert put(annoyed=1.0, chatty=1.0, tempts=1.0) == "Grr. Yes. It rains. Tell a joke."


@pytest.mark.parametrize("one, two", list(combinations(SPLITS, 2)))
def test_no_small_talk_stands_on_two_sides(one: str, two: str) -> None:
    sides = [{line for lines in small_talk(s).values() for line in lines} for s in (one, two)]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_slips_are_as_frequent_as_they_should_be() -> None:
    text = "Somebody delivered another wonderful kettle yesterday afternoon"
    rng, words = np.random.default_rng(0), text.split()
    wrong = [
        sum(a != b for a, b in zip(words, slips(text, 0.2, rng).split(), strict=True))
        for _ in range(500)
    ]
    # A doubled or exchanged letter may leave a word as it was, so a little below .2.
    assert 0.17 < np.mean(wrong) / len(words) < 0.21
    assert slips(text, 0.0, rng) == text


def test_slips_spare_numbers_and_what_is_kept() -> None:
    text = "My order A1234 of the desk lamp, sent to 12 Mill Lane, please!"
    for seed in range(200):
        slipped = slips(text, 0.9, np.random.default_rng(seed), ("desk lamp",))
        assert "A1234" in slipped and "desk lamp" in slipped and "12" in slipped


@given(st.text(max_size=80), st.floats(0, 1), st.lists(st.text(max_size=5), max_size=3))
def test_slips_take_any_text(text: str, rate: float, kept: list[str]) -> None:
    slipped = slips(text, rate, np.random.default_rng(0), kept)
    assert len(slipped) <= 2 * len(text)
    assert slipped or not text.strip()


def test_a_text_never_slips_into_nothing() -> None:
    for seed in range(100):
        assert slips("It is.", 1.0, np.random.default_rng(seed)).strip()
        assert re.search(r"\w", slips("The a of", 1.0, np.random.default_rng(seed)))
