"""Search by words, by meaning and by both, against scores worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlchat_envs.knowledge import Bm25Index, DenseIndex, Document, HybridIndex, fuse

PEAR, PLUM, FIG = (
    Document("", text, source)
    for text, source in (("apple pear", "a"), ("apple plum plum", "b"), ("fig", "c"))
)
FRUIT = (PEAR, PLUM, FIG)
LETTERS = "apflg"


def letters(texts: Sequence[str]) -> np.ndarray:
    """An encoder: how often five letters occur."""
    return np.array([[text.count(letter) for letter in LETTERS] for text in texts], float)


def test_bm25_by_hand() -> None:
    """Lengths 2, 3 and 1, so 2 on average; k1 = 1.5, b = 0.75.

    idf = ln(1 + (N - df + 0.5) / (df + 0.5)); tf / (tf + 1.5 * (0.25 + 0.75 * length / 2)).
    "plum" in b: tf 2, ln(1 + 2.5 / 1.5) * 2 / (2 + 1.5 * 1.375).
    "apple": ln(1 + 1.5 / 2.5); in a 1 / (1 + 1.5), in b 1 / (1 + 1.5 * 1.375).
    """
    index = Bm25Index(FRUIT, threshold=0)
    plum = log(1 + 2.5 / 1.5) * 2 / 4.0625
    apple_in_a, apple_in_b = log(1.6) / 2.5, log(1.6) / 3.0625
    assert index.search("plum", 3) == [(PLUM, pytest.approx(plum))]
    assert index.search("Apples?", 3) == [
        (PEAR, pytest.approx(apple_in_a)),
        (PLUM, pytest.approx(apple_in_b)),
    ]
    assert index.search("an apple or a plum, plum, plum", 3) == [
        (PLUM, pytest.approx(plum + apple_in_b)),
        (PEAR, pytest.approx(apple_in_a)),
    ]
    assert index.search("apple plum", 1) == [(PLUM, pytest.approx(plum + apple_in_b))]


def test_the_threshold_of_bm25_is_one_rare_word() -> None:
    """A word of one document, at mean length: ln(1 + 2.5 / 1.5) / 2.5 = 0.392 here."""
    index = Bm25Index(FRUIT)
    assert index.threshold == pytest.approx(0.39233, abs=1e-5)
    assert index.search("apple", 3) == []  # 0.188: every second document has it
    assert [d.source for d, _ in index.search("plum", 3)] == ["b"]  # 0.483


def test_titles_are_searched_too() -> None:
    titled = Document("Quince", "It is sour.", "q")
    assert Bm25Index([PEAR, titled]).search("quinces", 2)[0][0] == titled


def test_cosines_by_hand() -> None:
    """Letters a, p, f, l, g: "plum" is (0, 1, 0, 1, 0); "apple plum plum" is (1, 4, 0, 3, 0).

    (4 + 3) / (sqrt(2) * sqrt(26)); "apple pear": (2, 3, 0, 1, 0), 4 / (sqrt(2) * sqrt(14)).
    """
    found = DenseIndex(FRUIT, letters).search("plum", 3)
    assert found == [
        (PLUM, pytest.approx(7 / 52**0.5)),
        (PEAR, pytest.approx(4 / 28**0.5)),
    ]
    assert DenseIndex(FRUIT, encode=letters, threshold=0.8).search("plum", 3) == found[:1]
    assert DenseIndex(FRUIT, letters).search("xyz", 3) == []  # a vector of zeros


def test_reciprocal_rank_fusion_by_hand() -> None:
    """First and second: 1/61 + 1/62; third and first: 1/63 + 1/61; second alone: 1/62."""
    assert fuse(["abc", "ca"]) == [
        ("a", pytest.approx(1 / 61 + 1 / 62)),
        ("c", pytest.approx(1 / 63 + 1 / 61)),
        ("b", pytest.approx(1 / 62)),
    ]
    assert [item for item, _ in fuse(["xy", "yx"])] == ["x", "y"]
    assert fuse([]) == fuse([[], []]) == []


def test_a_hybrid_finds_what_either_finds() -> None:
    """Words find "fig" alone; letters find it and, behind the threshold, nothing else."""
    index = HybridIndex(FRUIT, letters)
    assert index.search("fig", 3)[0] == (FIG, pytest.approx(2 / 61))
    assert index.search("lapp", 3) == [  # no word: (1, 2, 0, 1, 0) is nearest to "apple pear"
        (PEAR, pytest.approx(1 / 61)),
        (PLUM, pytest.approx(1 / 62)),
    ]
    assert index.search("plum", 1) == [(PLUM, pytest.approx(2 / 61))]


@pytest.mark.parametrize(
    "make", [Bm25Index, partial(DenseIndex, encode=letters), partial(HybridIndex, encode=letters)]
)
def test_odd_collections_and_queries_find_nothing(make: type[Bm25Index]) -> None:
    for documents in ([], [Document("", "", "x")], [Document("the", "of it", "x")]):
        index = make(documents)
        assert index.search("apple", 2) == []
    for query in ("", " \n", "the to", "\x00"):
        assert make(FRUIT).search(query, 2) == []
    for query in ("a" * 10_000, "plum " * 2_000, "früit 你好 🙂 \ud800 ﷺ" * 500):
        assert len(make(FRUIT).search(query, 2)) <= 2


@given(query=st.text("aplefgumr ", max_size=60), k=st.integers(1, 5))
def test_scores_fall_and_equal_indexes_agree(query: str, k: int) -> None:
    for make in (Bm25Index, partial(HybridIndex, encode=letters)):
        found = make(FRUIT * 2).search(query, k)
        assert found == make(FRUIT * 2).search(query, k)
        assert len(found) <= k
        assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)
        assert all(type(s) is float and s > 0 for _, s in found)


def test_a_wrong_encoder_is_named() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, D\) of 3 texts; got shape \(5,\)"):
        DenseIndex(FRUIT, lambda texts: np.zeros(5))
