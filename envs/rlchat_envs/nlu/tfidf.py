"""Which of some labels a text is most like: how the classical agents understand free text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

_WORD = re.compile(r"\w+")


class TfIdf:
    """Which of some labels a text is most like, by the wordings of the training side.

    Cosines of tf-idf vectors of words and pairs of words (Salton and Buckley 1988).
    """

    def __init__(self, examples: Mapping[str, Iterable[str]]):
        """Index ``examples``: wordings by label."""
        self._lines = [(label, _terms(t)) for label, texts in examples.items() for t in texts]
        seen = Counter(term for _, terms in self._lines for term in terms)
        self._idf = {t: math.log(1 + len(self._lines) / n) for t, n in seen.items()}
        self._norms = [self._norm(terms) for _, terms in self._lines]

    def best(self, text: str, labels: Sequence[str] = ()) -> tuple[str, float]:
        """The label with the nearest wording, out of ``labels`` if any are given; its cosine."""
        found = ("", 0.0)
        for label, score in self._cosines(text, labels):
            if score > found[1] or not found[0]:
                found = (label, score)
        return found

    def usual(self, text: str, labels: Sequence[str] = ()) -> str:
        """The label whose wordings are nearest on average; better than one where there are many."""
        scores: dict[str, list[float]] = {}
        for label, score in self._cosines(text, labels):
            scores.setdefault(label, []).append(score)
        return max(scores, key=lambda label: math.fsum(scores[label]) / len(scores[label]))

    def _cosines(self, text: str, labels: Sequence[str]) -> Iterator[tuple[str, float]]:
        terms = _terms(text)
        norm = self._norm(terms) or 1.0
        for (label, known), size in zip(self._lines, self._norms, strict=True):
            if not labels or label in labels:
                # Exact sums: sets of words have another order in every process.
                common = math.fsum(self._idf[t] ** 2 for t in terms if t in known)
                yield label, common / (norm * (size or 1.0))

    def _norm(self, terms: set[str]) -> float:
        return math.sqrt(math.fsum(self._idf.get(t, 0.0) ** 2 for t in terms))


def _terms(text: str) -> set[str]:
    words = _WORD.findall(text.lower())
    return {*words, *(f"{a} {b}" for a, b in pairwise(words))}
