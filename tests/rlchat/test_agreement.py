"""Cohen's kappa: numbers of textbooks, and how often its interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from rlchat.statistics.agreement import agreement, kappa_interval

Table = tuple[int, int, int, int]


def pairs(table: Table) -> tuple[list[bool], list[bool]]:
    """Both say yes, the first alone, the second alone, neither."""
    both, first, second, neither = table
    rated = [True] * (both + first) + [False] * (second + neither)
    truth = [True] * both + [False] * first + [True] * second + [False] * neither
    return rated, truth


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        ((20, 5, 10, 15), 0.4),  # p_o .7; p_e .5·.6 + .5·.4 = .5; .2 / .5
        ((45, 15, 25, 15), 0.130435),  # p_o .6; p_e .6·.7 + .4·.3 = .54; .06 / .46
        ((25, 35, 5, 35), 0.259259),  # p_o .6; p_e .6·.3 + .4·.7 = .46; .14 / .54
        ((10, 0, 0, 10), 1.0),
        ((0, 10, 10, 0), -1.0),
        ((4, 4, 4, 4), 0.0),
    ],
)
def test_kappa_by_hand(table: Table, kappa: float) -> None:
    rated, truth = pairs(table)
    found = kappa_interval(rated, truth, range(len(rated)))
    assert found.mean == pytest.approx(kappa, abs=1e-6)
    assert -1 <= found.low <= found.mean <= found.high <= 1


def test_of_many_pairs_the_interval_is_the_usual_one() -> None:
    """Fleiss, Cohen and Everitt (1969), by hand for 200, 50, 100, 150 of 500.

    The standard error is √(A + B − C) / ((1 − p_e)·√n): A = Σ p_ii (1 − (p_i. + p_.i)(1 − κ))²
    = .4 (1 − 1.1·.6)² + .3 (1 − .9·.6)² = .10972; B = (1 − κ)² Σ_{i≠j} p_ij (p_.i + p_j.)²
    = .36 (.1 (.6 + .5)² + .2 (.4 + .5)²) = .10188; C = (κ − p_e (1 − κ))² = .01.
    """
    rated, truth = pairs((200, 50, 100, 150))
    found = kappa_interval(rated, truth, range(500))
    half = 1.96 * (0.10972 + 0.10188 - 0.01) ** 0.5 / (0.5 * 500**0.5)
    assert found.mean == pytest.approx(0.4)
    assert (found.low, found.high) == pytest.approx((0.4 - half, 0.4 + half), abs=0.006)


def test_the_other_numbers_by_hand() -> None:
    rated, truth = pairs((20, 5, 10, 15))
    found = agreement(rated, truth, range(50))
    assert found.count == 50 and found.undefined == ""
    assert found.raw is not None and found.raw.mean == pytest.approx(35 / 50)
    assert found.sensitivity is not None and found.sensitivity.mean == pytest.approx(20 / 30)
    assert found.specificity is not None and found.specificity.mean == pytest.approx(15 / 20)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ((12, 8, 0, 0), "the rating is good every time"),
        ((0, 0, 3, 9), "the rating is bad every time"),
        ((12, 0, 8, 0), "the verdict is good every time"),
        ((0, 2, 0, 8), "the verdict is bad every time"),
        ((0, 0, 0, 0), "there is nothing to compare"),
    ],
)
def test_there_is_no_kappa_where_a_side_is_constant(table: Table, why: str) -> None:
    rated, truth = pairs(table)
    found = agreement(rated, truth, range(len(rated)))
    assert found.kappa is None and found.undefined == why
    if truth and not any(truth):
        assert found.sensitivity is None and found.specificity is not None


def test_pairs_of_a_cluster_are_one_observation() -> None:
    rated, truth = pairs((20, 5, 10, 15))
    once = kappa_interval(rated, truth, range(50))
    again = kappa_interval(rated * 4, truth * 4, [*range(50)] * 4)
    apart = kappa_interval(rated * 4, truth * 4, range(200))
    assert once == again
    assert apart.mean == once.mean and apart.high - apart.low < 0.6 * (once.high - once.low)


TRUTHS = [  # how often the truth is yes, and how often each rating is right
    (0.5, 0.5, 0.5),
    (0.5, 0.7, 0.7),
    (0.5, 0.9, 0.9),
    (0.5, 0.98, 0.98),
    (0.2, 0.8, 0.9),
    (0.1, 0.8, 0.95),
    (0.65, 0.95, 0.3),
    (0.9, 0.9, 0.6),
    (0.5, 0.2, 0.2),
    (0.5, 1.0, 1.0),
]


@pytest.mark.parametrize("n", [20, 50, 200])
def test_the_interval_holds_the_truth(n: int) -> None:
    """Never less often than 93% (within what 250 evaluations can tell), 95 to 98.5% on average."""
    rng, evaluations, shares = np.random.default_rng(n), 250, []
    for prevalence, sensitivity, specificity in TRUTHS:
        cells = np.array(
            [
                prevalence * sensitivity,
                (1 - prevalence) * (1 - specificity),
                prevalence * (1 - sensitivity),
                (1 - prevalence) * specificity,
            ]
        )
        chance = (cells[0] + cells[1]) * (cells[0] + cells[2])
        chance += (cells[2] + cells[3]) * (cells[1] + cells[3])
        kappa = (cells[0] + cells[3] - chance) / (1 - chance)
        held = made = 0
        known: dict[Table, bool] = {}  # tables of few pairs come again and again
        while made < evaluations:
            both, first, second, neither = rng.multinomial(n, cells).tolist()
            table = (both, first, second, neither)
            rated, truth = pairs(table)
            if len(set(rated)) < 2 or len(set(truth)) < 2:
                continue
            if table not in known:
                found = kappa_interval(rated, truth, range(n))
                known[table] = found.low - 1e-9 <= kappa <= found.high + 1e-9
            made += 1
            held += known[table]
        shares.append(held / evaluations)
        assert held / evaluations > 0.92, (prevalence, sensitivity, specificity)
    assert 0.95 < np.mean(shares) < 0.985
