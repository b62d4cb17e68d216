"""How often the intervals of sweeps hold the truth: by simulation, for 3, 5 and 10 runs a setting.

    make coverage

Synthetic runs whose truth is known meet 100 synthetic users: a run succeeds with a user by its own
level and by how hard the user is, for all runs alike. The tables go into docs/method/sweeps.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from interval_coverage import table
from numpy.typing import NDArray
from pages import put

from rlchat.statistics import Interval
from rlchat.statistics.aggregates import (
    bootstrapped_improvement,
    improvement_interval,
    iqm,
    mean,
    mean_of_runs,
    stratified_bootstrap,
    student,
)

Array = NDArray[np.float64]
RUNS = (3, 5, 10)
USERS = 100
HARDNESS = 1.5  # spread of users, in logits
MANY = 20_000  # runs that the truth is counted from
PAGE = Path(__file__).parent.parent / "docs/method/sweeps.md"
BEGIN, END = "<!-- made by make coverage -->", "<!-- end -->"


@dataclass(frozen=True)
class SweepCoverageOptions:
    """Simulate sweeps, and write how often their intervals hold into the docs."""

    sweeps: int = 1_000
    """Synthetic sweeps of each kind."""
    seed: int = 0
    """Of what is drawn."""
    write: bool = True
    """Write the tables into docs/method/sweeps.md."""


def alike(rng: np.random.Generator, runs: int) -> Array:
    """Levels of runs that are normally distributed, in logits."""
    return rng.normal(1.8, 0.4, runs)


def skewed(rng: np.random.Generator, runs: int) -> Array:
    """Levels of which most are high and some are well below."""
    return 3.2 - rng.gamma(1.5, 0.5, runs)


def collapsing(rng: np.random.Generator, runs: int) -> Array:
    """Levels of which one in five has collapsed."""
    return np.where(rng.random(runs) < 0.2, -1.5, rng.normal(2.2, 0.3, runs))


WORLDS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "alike": alike,
    "skewed": skewed,
    "one run in five collapses": collapsing,
}


def rates(levels: Array) -> Array:
    """Success of runs with all users that there are."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    chances = 1 / (1 + np.exp(-(levels[:, None] + HARDNESS * nodes)))
    found: Array = chances @ (weights / weights.sum())
    return found


def played(rng: np.random.Generator, levels: Array, hard: Array) -> Array:
    """Runs × users: 0 or 1."""
    chances = 1 / (1 + np.exp(-(levels[:, None] + hard[None, :])))
    return (rng.random(chances.shape) < chances).astype(float)


def holds(interval: Interval, truth: float) -> bool:
    """Whether an interval holds the truth, but for rounding."""
    return bool(interval.low - 1e-9 <= truth <= interval.high + 1e-9)


def of_seeds(scores: Array) -> Interval:
    """Student's interval of runs' means, as if users were all that there are."""
    of_runs = scores[:, 0]
    half = student(len(of_runs) - 1) * float(of_runs.std(ddof=1)) / len(of_runs) ** 0.5
    return Interval(float(of_runs.mean()), of_runs.mean() - half, of_runs.mean() + half)


def levels_held(world: str, runs: int, sweeps: int, seed: int) -> dict[str, float]:
    """How often intervals of one setting hold the truth."""
    rng, draw = np.random.default_rng((seed, runs)), WORLDS[world]
    true = rates(draw(np.random.default_rng(seed), MANY))
    middle, level = float(iqm(true[None])[0]), float(true.mean())
    held = dict.fromkeys(
        ("IQM, bootstrap", "mean, bootstrap", "mean, runs alone", "mean, runs and users"), 0
    )
    for sweep in range(sweeps):
        outcomes = played(rng, draw(rng, runs), rng.normal(0, HARDNESS, USERS))
        scores = outcomes.mean(axis=1, keepdims=True)
        held["IQM, bootstrap"] += holds(stratified_bootstrap(scores, iqm, seed=sweep), middle)
        held["mean, bootstrap"] += holds(stratified_bootstrap(scores, mean, seed=sweep), level)
        held["mean, runs alone"] += holds(of_seeds(scores), level)
        held["mean, runs and users"] += holds(mean_of_runs([outcomes], 0.0, 1.0), level)
    return {name: count / sweeps for name, count in held.items()}


def differences_held(world: str, runs: int, sweeps: int, seed: int) -> dict[str, float]:
    """How often intervals of two settings' difference hold the truth; the second is better."""
    rng, draw, more = np.random.default_rng((seed, runs)), WORLDS[world], 0.4
    many = np.random.default_rng(seed)
    one, other = draw(many, MANY), draw(many, MANY) + more
    apart = float(rates(other).mean() - rates(one).mean())
    hard = many.normal(0, HARDNESS, (MANY // 100, USERS))
    chance = float(np.mean([_better(many, one, other, users) for users in hard]))
    held = dict.fromkeys(("difference", "improvement", "improvement, bootstrap"), 0)
    for sweep in range(sweeps):
        users = rng.normal(0, HARDNESS, USERS)
        a, b = played(rng, draw(rng, runs) + more, users), played(rng, draw(rng, runs), users)
        held["difference"] += holds(mean_of_runs([a - b], -1.0, 1.0), apart)
        x, y = a.mean(axis=1, keepdims=True), b.mean(axis=1, keepdims=True)
        held["improvement"] += holds(improvement_interval(x, y), chance)
        drawn = bootstrapped_improvement(x, y, seed=sweep)
        held["improvement, bootstrap"] += holds(drawn, chance)
    return {name: count / sweeps for name, count in held.items()}


def _better(rng: np.random.Generator, one: Array, other: Array, users: Array) -> float:
    """How often a run of the second setting is better than one of the first, with some users."""
    some = rng.integers(0, len(one), (2, 50))
    a, b = played(rng, other[some[0]], users), played(rng, one[some[1]], users)
    x, y = a.mean(axis=1)[:, None], b.mean(axis=1)[None, :]
    return float(((x > y) + 0.5 * (x == y)).mean())


def report(options: SweepCoverageOptions) -> str:
    """All tables."""
    cases = [(world, runs) for world in WORLDS for runs in RUNS]
    said = f"{options.sweeps:,} synthetic sweeps a number (seed {options.seed}), {USERS} users."
    lines = [said, "", "How often 95% intervals of a setting's level hold the truth:", ""]
    few = options.sweeps, options.seed
    one = {f"{world}, {runs} runs": levels_held(world, runs, *few) for world, runs in cases}
    lines += table("runs are", one)
    lines += ["How often those of two settings hold it:", ""]
    two = {f"{world}, {runs} runs": differences_held(world, runs, *few) for world, runs in cases}
    lines += table("runs are", two)
    return "\n".join(lines).rstrip()


def main(options: SweepCoverageOptions) -> None:
    """Simulate, print, and write."""
    text = report(options)
    print(text)
    if options.write:
        put(PAGE, text, BEGIN, END)


if __name__ == "__main__":
    main(tyro.cli(SweepCoverageOptions))
