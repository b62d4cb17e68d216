"""How much one text says of another: an estimate of mutual information from pairs of texts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_WORD = re.compile(r"\w+")
_MOST = 256  # pairs that are looked at: work grows with their third power
_FEWEST = 8
_SHUFFLES = 20
_UNLIKE = 1e-3  # likeness of texts that share no word


def text_information(heard: Sequence[str], said: Sequence[str]) -> float:
    """Nats that what was said tells of what was heard: 0 where it does not depend on it.

    A lower bound of the mutual information (InfoNCE, van den Oord et al. 2018): how much better a
    reply fits its own opening than the others, where a reply fits an opening if similar openings
    got similar replies, by shared words weighed by their rarity. The pair itself is left out. What
    the same estimate makes of shuffled replies is subtracted, so that independent texts give 0 on
    average; a single one can be below.

    Args:
        heard: openings.
        said: the reply to each.

    Returns:
        At most the logarithm of the number of pairs; NaN of fewer than eight.
    """
    count = min(len(heard), _MOST)
    if count < _FEWEST:
        return math.nan
    openings, replies = _likeness(heard[:count]), _likeness(said[:count])
    np.fill_diagonal(openings, 0.0)
    np.fill_diagonal(replies, 0.0)
    rng = np.random.default_rng(0)
    chance = []
    for _ in range(_SHUFFLES):
        order = rng.permutation(count)
        chance.append(_bound(openings, replies[np.ix_(order, order)]))
    return _bound(openings, replies) - sum(chance) / len(chance)


def _bound(openings: Array, replies: Array) -> float:
    """InfoNCE of likenesses whose diagonals are 0: no pair speaks for itself."""
    weights = openings.sum(axis=1)[None, :] - openings
    fits = np.log(replies @ openings / weights)  # of reply i to opening j
    highest = fits.max(axis=1, keepdims=True)
    usual = highest[:, 0] + np.log(np.exp(fits - highest).mean(axis=1))
    return float((np.diag(fits) - usual).mean())


def _likeness(texts: Sequence[str]) -> Array:
    """Squared cosines of words weighed by their rarity, never 0."""
    counts = [Counter(_WORD.findall(text.lower())) for text in texts]
    found = Counter(word for own in counts for word in own)
    places = {word: i for i, word in enumerate(found)}
    vectors = np.zeros((len(texts), len(places) + 1))
    vectors[:, -1] = 1e-6  # a text without words is like another without
    for row, own in zip(vectors, counts, strict=True):
        for word, times in own.items():
            row[places[word]] = times * math.log(1 + len(texts) / found[word])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness: Array = (vectors @ vectors.T) ** 2 + _UNLIKE
    return likeness
