"""Searching documents: by their words, by their meaning, or by both."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from rlchat_envs.core.facts import Document
from rlchat_envs.nlu.words import stems

Encode: TypeAlias = Callable[[Sequence[str]], np.ndarray]
Found: TypeAlias = list[tuple[Document, float]]
Item = TypeVar("Item", bound=Hashable)

K1, B = 1.5, 0.75  # of BM25
RANK_CONSTANT = 60  # of reciprocal rank fusion: that of the paper
DEPTH = 20  # documents of each ranking that are fused


class Index(Protocol):
    """Documents that can be searched."""

    def search(self, query: str, k: int) -> Found:
        """Give at most ``k`` documents worth showing with their scores, the best first."""
        ...


class Bm25Index:
    """Okapi BM25 over stems of titles and texts, in the variant of Lucene.

    A document scores, summed over the query's distinct stems,
    idf * tf / (tf + k1 * (1 - b + b * length / mean length)) with
    idf = ln(1 + (N - df + 0.5) / (df + 0.5)); k1 = 1.5, b = 0.75 (Robertson and Zaragoza 2009;
    Kamphuis et al. 2020, "Which BM25 do you mean?").
    """

    def __init__(self, documents: Sequence[Document], threshold: float = 1.0):
        """Index documents, in about a tenth of a millisecond each.

        Args:
            documents: what is searched.
            threshold: the least score worth showing, in units of what a word that no other
                document has is worth in a document of mean length; it means the same in a small
                collection and in a large one.
        """
        self.documents = tuple(documents)
        counted = [stems(f"{d.title} {d.text}") for d in self.documents]
        rare = math.log(1 + (len(counted) - 0.5) / 1.5)  # the idf of a word in one document
        self.threshold = threshold * rare / (1 + K1)
        self._index = _bm25(counted) if any(counted) else None

    def search(self, query: str, k: int) -> Found:
        """See `Index`; scores are above 0."""
        asked = list(dict.fromkeys(stems(query)))
        if self._index is None or not asked:
            return []
        scores = self._index.get_scores(asked)
        # Zero is no match at all, whatever the threshold.
        return _best(self.documents, scores, k, max(self.threshold, 1e-9))


class DenseIndex:
    """Cosine similarity of vectors that an encoder makes of titles and texts."""

    def __init__(self, documents: Sequence[Document], encode: Encode, threshold: float = 0.3):
        """Encode documents.

        Args:
            documents: what is searched.
            encode: makes an (N, D) array of N texts; called once here and once a search.
            threshold: the least cosine worth showing, in [-1, 1].
        """
        self.documents, self.encode, self.threshold = tuple(documents), encode, threshold
        self._vectors = self._directions([f"{d.title}\n{d.text}" for d in self.documents])

    def search(self, query: str, k: int) -> Found:
        """See `Index`; scores are cosines."""
        if not self.documents or not query.strip():
            return []
        scores = self._vectors @ self._directions([query])[0]
        return _best(self.documents, scores, k, self.threshold)

    def _directions(self, texts: list[str]) -> np.ndarray:
        """Vectors of length 1, (N, D)."""
        if not texts:
            return np.zeros((0, 0))
        vectors = np.asarray(self.encode(texts), np.float64)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise ValueError(
                f"expected encode to make an array of shape ({len(texts)}, D) of {len(texts)} "
                f"texts; got shape {vectors.shape}; give one row for each text"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12))


class HybridIndex:
    """What words find and what meaning finds, ranked together by `fuse`."""

    def __init__(self, documents: Sequence[Document], encode: Encode):
        """Index documents both ways, each with its own threshold; ``encode`` as in `DenseIndex`."""
        self.indexes: tuple[Index, Index] = (Bm25Index(documents), DenseIndex(documents, encode))

    def search(self, query: str, k: int) -> Found:
        """See `Index`; scores are those of `fuse`."""
        depth = max(k, DEPTH)
        rankings = ([d for d, _ in index.search(query, depth)] for index in self.indexes)
        return fuse(rankings)[:k]


def fuse(rankings: Iterable[Sequence[Item]]) -> list[tuple[Item, float]]:
    """Reciprocal rank fusion: an item scores the sum of 1 / (60 + rank) over the rankings it is in.

    Cormack, Clarke and Buettcher 2009. Ranks start at 1; of equal scores the one seen first wins.
    """
    scores: dict[Item, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + 1 / (RANK_CONSTANT + rank)
    return sorted(scores.items(), key=lambda scored: -scored[1])


def _bm25(counted: list[list[str]]) -> Any:
    import bm25s  # type: ignore[import-untyped]

    # It logs the making of every index below any level that a program asks for.
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    index = bm25s.BM25(k1=K1, b=B, method="lucene")
    index.index(counted, show_progress=False)
    return index


def _best(documents: Sequence[Document], scores: np.ndarray, k: int, least: float) -> Found:
    """The k best that reach the threshold; of equal scores the first document wins."""
    order = np.argsort(-scores, kind="stable")[:k]
    return [(documents[i], float(scores[i])) for i in order if scores[i] >= least]
