"""How often 95% intervals hold the truth, and tests of equal agents reject: by simulation.

    make coverage

Synthetic evaluations whose truth is known, like those of rlchat's worlds: success with a given
rate, scores near 1 for a success and about -1 for a failure, skewed turns, rare costs, two agents
on the same users, several episodes with one goal, and evaluations that stop when their intervals
are narrow. The tables go into docs/method/evaluation.md; beside them stands the coverage of BCa
bootstraps of the same evaluations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np
import tyro
from pages import put
from stopping import stopped, stopped_against, stopped_trials
from synthetic import Array, Synthetic, differences, means, score_of, share

from rlchat.evaluation.evaluate import HALF_AN_ACT
from rlchat.statistics import wilson
from rlchat.statistics.intervals import mean_intervals
from rlchat.statistics.significance import mcnemar, sign_flip

RATES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
SOME = (0.05, 0.2, 0.5, 0.8, 0.95)
SIZES = (20, 50, 200)
WIDTHS = (0.1, 0.2)
LOW, HIGH = 0.93, 0.97
RESAMPLES = 999  # of a bootstrap
PAGE = Path(__file__).parent.parent / "docs/method/evaluation.md"
BEGIN, END = "<!-- made by make coverage -->", "<!-- end -->"
Rows = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class CoverageOptions:
    """Simulate evaluations, and write how often their intervals hold into the docs."""

    evaluations: int = 2_000
    """Synthetic evaluations of each kind; half as many that stop, or have bootstraps."""
    seed: int = 0
    """Of what is drawn."""
    write: bool = True
    """Write the tables into docs/method/evaluation.md."""


def coverage(world: Synthetic, rate: float, n: int) -> dict[str, float]:
    """Coverage of each kind of interval at a rate and a number of episodes (or goals)."""
    other = rate - 0.1 if rate > 0.5 else rate + 0.1
    a, b = world.both(rate, other, n)
    gain = world.scores(a) - world.scores(b)
    turns, costs = world.turns(n), world.costs(rate, n)
    most = np.maximum(costs.max(axis=1), 1.0) + HALF_AN_ACT
    successes = world.successes(rate, n)
    return {
        "success": wilson_holds(rate, n),
        "score": means(world.scores(successes), score_of(rate), -1.0, 1.0),
        "turns": share(
            *mean_intervals(turns, turns.min(axis=1) - 1, turns.max(axis=1) + 1), truth=3.0
        ),
        "cost": share(*mean_intervals(costs, 0.0, most), truth=rate),
        "success, paired": differences(a - b, rate - other, 1.0),
        "score, paired": differences(gain, score_of(rate) - score_of(other), 2.0),
        "success, shared goals": means(world.goals(world.goal_rates(rate, n)), rate, 0.0, 1.0),
        "paired, shared goals": goals_paired(world, rate, other, n),
    }


def chances(rate: float, n: int) -> Array:
    """The chance of each number of successes."""
    return np.array([comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)])


def wilson_holds(rate: float, n: int) -> float:
    """Coverage of Wilson's interval; exact, as there are but n + 1 of them."""
    intervals = [wilson(k, n) for k in range(n + 1)]
    held = [i.low <= rate <= i.high for i in intervals]
    return float(chances(rate, n)[held].sum())


def within_reach(rate: float, n: int) -> bool:
    """Whether any interval of a rate could have its coverage between `LOW` and `HIGH` there.

    An interval that grows with the number of successes holds a rate for all numbers between two.
    """
    below = np.concatenate([[0.0], chances(rate, n).cumsum()])
    sums = below[None, :] - below[:, None]
    return bool(((sums >= LOW) & (sums <= HIGH)).any())


def goals_paired(world: Synthetic, rate: float, other: float, n: int) -> float:
    """Coverage of a paired difference, where both agents meet each goal several times."""
    chosen = world.goal_rates(rate, n)
    weaker = chosen * other / rate if other < rate else 1 - (1 - chosen) * (1 - other) / (1 - rate)
    return differences(world.goals(chosen) - world.goals(weaker), rate - other, 1.0)


def bootstrapped(world: Synthetic, rate: float, n: int) -> dict[str, float]:
    """Coverage of BCa bootstraps of such evaluations."""
    other = rate - 0.1 if rate > 0.5 else rate + 0.1
    a, b = world.both(rate, other, n)
    gain = world.scores(a) - world.scores(b)
    return {
        "success": bca(world, a, rate),
        "score": bca(world, world.scores(a), score_of(rate)),
        "cost": bca(world, world.costs(rate, n), rate),
        "success, paired": bca(world, a - b, rate - other),
        "score, paired": bca(world, gain, score_of(rate) - score_of(other)),
    }


def bca(world: Synthetic, x: Array, truth: float) -> float:
    """Coverage of bias-corrected and accelerated bootstraps (Efron 1987) of means."""
    from scipy.stats import bootstrap

    # Of values that are all alike it has no interval, and gives NaN; the mean is taken for it.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = bootstrap(
            (x,),
            np.mean,
            n_resamples=RESAMPLES,
            batch=25,
            axis=1,
            method="BCa",
            rng=world.rng,
        ).confidence_interval
    mean = x.mean(axis=1)
    low, high = (np.where(np.isnan(bound), mean, bound) for bound in found)
    return share(low, high, truth)


def rejections(world: Synthetic, rate: float, n: int) -> dict[str, float]:
    """How often tests at 5% take equal agents for different ones."""
    a, b = world.both(rate, rate, n)
    lone = [mcnemar(int((d > 0).sum()), int((d < 0).sum())) for d in a - b]
    chosen = world.goal_rates(rate, n)
    shared = [sign_flip(d) for d in (world.goals(chosen) - world.goals(chosen)).tolist()]
    return {
        "McNemar": float(np.mean([p < 0.05 for p in lone])),
        "shared goals": float(np.mean([p < 0.05 for p in shared])),
    }


def table(title: str, rows: Rows) -> list[str]:
    """A Markdown table: one row a case."""
    names = list(next(iter(rows.values())))
    lines = [f"| {title} | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
    for case, found in rows.items():
        lines.append(f"| {case} | {' | '.join(hundredths(found[name]) for name in names)} |")
    return [*lines, ""]


def hundredths(value: float) -> str:
    """A share with three digits; numbers above 1 without any."""
    return f"{value:.0f}" if value > 1 else f"{value:.3f}".removeprefix("0")


def outside(rows: Rows) -> list[str]:
    """Cells below `LOW` and above `HIGH`, by kind of interval."""
    lines = [f"| interval | below {LOW:.0%} | above {HIGH:.0%} |", "|---|---|---|"]
    for name in next(iter(rows.values())):
        told = [
            "; ".join(f"{case} ({found[name]:.1%})" for case, found in rows.items() if is_so(found))
            for is_so in (_beyond(name, below=True), _beyond(name, below=False))
        ]
        lines.append(f"| {name} | {told[0] or 'none'} | {told[1] or 'none'} |")
    return [*lines, ""]


def _beyond(name: str, below: bool) -> Callable[[Mapping[str, float]], bool]:
    return lambda found: found[name] < LOW if below else found[name] > HIGH


def every(rates: Sequence[float]) -> list[tuple[str, float, int]]:
    """Sizes and rates, with what they are called."""
    return [(f"n {n}, rate {rate}", rate, n) for n in SIZES for rate in rates]


def report(options: CoverageOptions) -> str:
    """All tables."""
    world = Synthetic(options.evaluations, options.seed)
    fewer = Synthetic(max(1, options.evaluations // 2), options.seed)
    cases = {name: coverage(world, rate, n) for name, rate, n in every(RATES)}
    lines = [
        f"{options.evaluations:,} synthetic evaluations a number (seed {options.seed}); that of "
        f"success is exact. {fewer.evaluations:,} of those that stop or have bootstraps.",
        "",
        "How often the 95% intervals hold the truth:",
        "",
        *table("evaluation", cases),
        "Outside 93 to 97%:",
        "",
        *outside(cases),
        "Where no interval of a rate whatever has a coverage of 93 to 97%, as so few episodes have "
        f"so few outcomes: {', '.join(n for n, r, k in every(RATES) if not within_reach(r, k))}.",
        "",
        f"BCa bootstraps ({RESAMPLES} resamples) of the same kinds:",
        "",
    ]
    lines += table("evaluation", {name: bootstrapped(fewer, r, n) for name, r, n in every(RATES)})
    lines += ["How often a test at 5% calls two equal agents different:", ""]
    lines += table("evaluation", {name: rejections(world, r, n) for name, r, n in every(SOME)})
    return "\n".join([*lines, *stopping(fewer)]).rstrip()


def stopping(world: Synthetic) -> list[str]:
    """The tables of evaluations that stop."""
    cases = [(f"width {w}, rate {r}", r, w) for w in WIDTHS for r in SOME]
    lines = ["With `--until-width`, two equal agents:", ""]
    lines += table("evaluation", {name: stopped(world, r, w) for name, r, w in cases})
    lines += ["With `--until-width --against`, two agents ten points apart:", ""]
    pairs = {
        f"{name}, {told}": stopped_against(world, r, w, shared)
        for told, shared in (("alike in most users", 0.6), ("in none", 0.0))
        for name, r, w in cases
    }
    lines += table("evaluation", pairs)
    lines += ["With `--until-width --trials 4`, goals that are hard or easy:", ""]
    return lines + table("evaluation", {name: stopped_trials(world, r, w) for name, r, w in cases})


def main(options: CoverageOptions) -> None:
    """Simulate, print, and write."""
    text = report(options)
    print(text)
    if options.write:
        put(PAGE, text, BEGIN, END)


if __name__ == "__main__":
    main(tyro.cli(CoverageOptions))
