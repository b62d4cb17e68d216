"""Values that belong together: several episodes with the same goal are one observation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import comb


def by_cluster(values: Sequence[float], clusters: Sequence[Hashable]) -> list[float]:
    """The mean of each cluster's values, in the order in which clusters come first.

    Clusters are independent of each other; values of one are not, so that an interval of these
    means is right where one of the values would be too narrow.
    """
    groups: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        groups.setdefault(cluster, []).append(value)
    return [sum(own) / len(own) for own in groups.values()]


def pass_power(successes: int, trials: int, k: int) -> float:
    """The chance that k trials of one goal all succeed, from the successes of n ≥ k of them.

    The share of the ways to choose k out of n that chooses successes alone, which is unbiased.
    """
    return comb(successes, k) / comb(trials, k)
