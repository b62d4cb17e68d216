"""Tests of paired differences, and their correction when several are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb

import numpy as np

_EXACT = 16  # differences other than 0 up to which all signs are tried
_DRAWS = 5_000


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's test of paired successes: exact, two-sided, mid-p (Fagerland et al. 2013).

    Args:
        gained: pairs in which the first agent alone succeeded.
        lost: pairs in which the second alone did.

    Returns:
        The p-value: 1 where no pair differs.
    """
    n, few = gained + lost, min(gained, lost)
    if gained == lost:
        return 1.0
    below = sum(comb(n, i) for i in range(few))
    return float((2 * below + comb(n, few)) / 2**n)


def sign_flip(differences: Sequence[float], seed: int = 0) -> float:
    """A permutation test of paired differences, one a cluster: two-sided, mid-p.

    If two agents are alike, each cluster's difference might as well have the other sign. All signs
    are tried where that is possible, else 5,000 draws of them.
    """
    d = np.asarray([value for value in differences if value], dtype=float)
    if d.size == 0:
        return 1.0
    if d.size <= _EXACT:
        places = np.arange(2**d.size)[:, None] >> np.arange(d.size)
        signs = 1.0 - 2.0 * (places & 1)
        extra = 0
    else:
        bits = np.random.default_rng(seed).integers(0, 2, (_DRAWS, d.size), dtype=np.int8)
        signs = 1.0 - 2.0 * bits
        extra = 1  # what was seen is one of the draws
    sums, seen = np.abs(signs @ d), abs(d.sum())
    slack = 1e-9 * np.abs(d).sum()
    beyond = float((sums > seen + slack).sum())
    alike = float((np.abs(sums - seen) <= slack).sum()) + extra
    return min(1.0, (beyond + alike / 2) / (len(sums) + extra))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction (1979): p-values that hold for all comparisons together."""
    worst, out = 0.0, {}
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for rank, name in enumerate(ordered):
        worst = max(worst, min(1.0, (len(ordered) - rank) * p_values[name]))
        out[name] = worst
    return {name: out[name] for name in p_values}
