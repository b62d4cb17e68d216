"""How often 95% intervals hold the truth, and tests of equal agents reject: by simulation.

    make coverage

Synthetic evaluations whose truth is known, like those of rlchat's worlds: success with a given
rate, scores near 1 for a success and about -1 for a failure, skewed turns, rare costs, two agents
on the same users, several episodes with one goal, and evaluations that stop when their interval is
narrow. The tables go into docs/method/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from pages import put

from rlchat.evaluation.evaluate import HALF_AN_ACT
from rlchat.statistics import wilson
from rlchat.statistics.intervals import mean_intervals
from rlchat.statistics.power import looks
from rlchat.statistics.significance import mcnemar, sign_flip

Array = NDArray[np.float64]
RATES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
SIZES = (20, 50, 200)
TRIALS = 4  # episodes with one goal
SHARED = 0.6  # of users, whose difficulty decides for both agents
PAGE = Path(__file__).parent.parent / "docs/method/evaluation.md"
BEGIN, END = "<!-- made by make coverage -->", "<!-- end -->"


@dataclass(frozen=True)
class CoverageOptions:
    """Simulate evaluations, and write how often their intervals hold into the docs."""

    evaluations: int = 1_000
    """Synthetic evaluations of each kind."""
    seed: int = 0
    """Of what is drawn."""
    write: bool = True
    """Write the tables into docs/method/evaluation.md."""


class World:
    """Synthetic agents with a known rate of success, and what their episodes come to."""

    def __init__(self, evaluations: int, seed: int = 0):
        """Draw so many evaluations of everything."""
        self.evaluations, self.rng = evaluations, np.random.default_rng(seed)

    def successes(self, rate: float, n: int) -> Array:
        """One episode a goal: 0 or 1."""
        return (self.rng.random((self.evaluations, n)) < rate).astype(float)

    def both(self, rate: float, other: float, n: int) -> tuple[Array, Array]:
        """Two agents on the same users, of whom most are equally hard for both."""
        shape = (self.evaluations, n)
        common, shared = self.rng.random(shape), self.rng.random(shape) < SHARED
        a = np.where(shared, common, self.rng.random(shape)) < rate
        b = np.where(shared, common, self.rng.random(shape)) < other
        return a.astype(float), b.astype(float)

    def goal_rates(self, rate: float, n: int) -> Array:
        """Rates of goals that are hard or easy, about a mean rate."""
        return self.rng.beta(rate, 1 - rate, (self.evaluations, n))

    def goals(self, rates: Array) -> Array:
        """Several episodes with each goal: the share of them that succeeds."""
        return self.rng.binomial(TRIALS, rates) / TRIALS

    def scores(self, successes: Array) -> Array:
        """Scores near 1 for successes and about -.9 for failures, either skewed."""
        good = 0.99 - 0.06 * self.rng.gamma(1.0, 1.5, successes.shape)
        bad = -0.4 - 0.35 * self.rng.gamma(1.5, 1.0, successes.shape)
        return np.where(successes > 0, good, bad)

    def turns(self, n: int) -> Array:
        """Turns, of which some episodes have many: 3 on average."""
        return self.rng.geometric(0.5, (self.evaluations, n)).astype(np.float64) + 1.0

    def costs(self, rate: float, n: int) -> Array:
        """Unsafe acts an episode: so many on average, more than one in some."""
        return self.rng.poisson(rate, (self.evaluations, n)).astype(float)


def score_of(rate: float) -> float:
    """The true mean of scores."""
    return rate * 0.9 + (1 - rate) * -0.925


def share(low: Array, high: Array, truth: float) -> float:
    """The share of intervals that hold the truth."""
    return float(((low <= truth) & (truth <= high)).mean())


def means(x: Array, truth: float, low: float = np.inf, high: float = -np.inf) -> float:
    """Coverage of the intervals of means, as `EvaluationResult.metrics` makes them."""
    return share(*mean_intervals(x, low, high), truth)


def differences(x: Array, truth: float, least: float) -> float:
    """Coverage of the intervals of paired differences, as `difference` makes them."""
    far = np.maximum(np.abs(x).max(axis=1), least)
    return share(*mean_intervals(x, -far, far), truth)


def rates(x: Array, truth: float) -> float:
    """Coverage of Wilson's interval."""
    found = [wilson(int(row.sum()), row.size) for row in x]
    return float(np.mean([i.low <= truth <= i.high for i in found]))


def coverage(world: World, rate: float, n: int) -> dict[str, float]:
    """Coverage of each kind of interval at a rate and a number of episodes (or goals)."""
    successes = world.successes(rate, n)
    other = rate - 0.1 if rate > 0.5 else rate + 0.1
    a, b = world.both(rate, other, n)
    gain = world.scores(a) - world.scores(b)
    turns, costs = world.turns(n), world.costs(rate, n)
    most = np.maximum(costs.max(axis=1), 1.0) + HALF_AN_ACT
    return {
        "success": rates(successes, rate),
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


def goals_paired(world: World, rate: float, other: float, n: int) -> float:
    """Coverage of a paired difference, where both agents meet each goal several times."""
    chosen = world.goal_rates(rate, n)
    weaker = chosen * other / rate if other < rate else 1 - (1 - chosen) * (1 - other) / (1 - rate)
    return differences(world.goals(chosen) - world.goals(weaker), rate - other, 1.0)


def rejections(world: World, rate: float, n: int) -> dict[str, float]:
    """How often tests at 5% take equal agents for different ones."""
    a, b = world.both(rate, rate, n)
    lone = [mcnemar(int((d > 0).sum()), int((d < 0).sum())) for d in a - b]
    chosen = world.goal_rates(rate, n)
    shared = [sign_flip(d) for d in (world.goals(chosen) - world.goals(chosen)).tolist()]
    return {
        "McNemar": float(np.mean([p < 0.05 for p in lone])),
        "shared goals": float(np.mean([p < 0.05 for p in shared])),
    }


def stopped(world: World, rate: float, width: float, most: int = 4_000) -> dict[str, float]:
    """Coverage, false positives and episodes of evaluations that stop at a width."""
    held, found, played = 0, 0, 0
    for _ in range(world.evaluations):
        shared = world.rng.random(most) < SHARED
        common, a, b = world.rng.random((3, most))
        first = np.where(shared, common, a) < rate
        second = np.where(shared, common, b) < rate
        n = stop_at(np.stack([first, second]), width, most)
        interval = wilson(int(first[:n].sum()), n)
        held += interval.low <= rate <= interval.high
        gained, lost = (first & ~second)[:n].sum(), (second & ~first)[:n].sum()
        found += mcnemar(int(gained), int(lost)) < 0.05
        played += n
    count = world.evaluations
    return {"coverage": held / count, "McNemar": found / count, "episodes": played / count}


def stop_at(outcomes: NDArray[np.bool_], width: float, most: int) -> int:
    """The first look at which all agents' intervals are narrow enough."""
    counts = outcomes.cumsum(axis=1)
    for n in looks(most):
        intervals = [wilson(int(c), n) for c in counts[:, n - 1]]
        if all(i.high - i.low <= width for i in intervals):
            return n
    return most


def table(
    title: str, rows: Mapping[str, Mapping[str, float]], form: Callable[[float], str]
) -> list[str]:
    """A Markdown table: one row a case."""
    names = list(next(iter(rows.values())))
    lines = [f"| {title} | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
    for case, found in rows.items():
        lines.append(f"| {case} | {' | '.join(form(found[name]) for name in names)} |")
    return [*lines, ""]


def hundredths(value: float) -> str:
    """A share with three digits; numbers above 1 without any."""
    return f"{value:.0f}" if value > 1 else f"{value:.3f}".removeprefix("0")


def report(options: CoverageOptions) -> str:
    """All tables."""
    world = World(options.evaluations, options.seed)
    lines = [f"{options.evaluations:,} synthetic evaluations a number (seed {options.seed}).", ""]
    lines += ["How often the 95% intervals hold the truth:", ""]
    cases = {f"n {n}, rate {r}": coverage(world, r, n) for n in SIZES for r in RATES}
    lines += table("evaluation", cases, hundredths)
    lines += ["How often a test at 5% calls two equal agents different:", ""]
    some = (0.05, 0.2, 0.5, 0.8, 0.95)
    equal = {f"n {n}, rate {r}": rejections(world, r, n) for n in SIZES for r in some}
    lines += table("evaluation", equal, hundredths)
    lines += ["With `--until-width`, two equal agents, at most 4,000 episodes:", ""]
    widths = {f"width {w}, rate {r}": stopped(world, r, w) for w in (0.1, 0.2) for r in some}
    lines += table("evaluation", widths, hundredths)
    return "\n".join(lines).rstrip()


def main(options: CoverageOptions) -> None:
    """Simulate, print, and write."""
    text = report(options)
    print(text)
    if options.write:
        put(PAGE, text, BEGIN, END)


if __name__ == "__main__":
    main(tyro.cli(CoverageOptions))
