"""How many comparisons it takes to know a person's style, measured on simulated people.

    python benchmarks/people.py

Replies are those of scripted desks on the test splits of five worlds. Fixed before anything was
measured: a person's preference weights over `STYLE_FEATURES` are drawn from N(COMMON, I), so that
people share half a unit a feature and differ by one; they answer with probability
σ(w·(φ(a) − φ(b))), as noisily as `fit_posterior` assumes. Every other dialogue is asked about, with
one half of all texts; the others are tested, with the other half: neither a dialogue nor a reply
that is tested was ever asked about.
Accuracy is how often two tested replies of a moment are ranked as the person's true weights rank
them, a tie counting half; pairs that no feature tells apart are left out, as nobody prefers either.

People come in groups of ``--people``. The common reward is learned from what the others of the
group answered to ``--told`` random questions each, and a person's own begins there. "random" asks
about any two replies of any moment, "telling" as `rlchat feedback ask` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import tyro
from rich.console import Console

from rlchat.evaluation.summary import with_interval
from rlchat.rewards.elicitation import Question, questions
from rlchat.rollout.config import BranchConfig
from rlchat.statistics import mean_interval, paired
from rlchat_reward_models.preference_posterior import fit_posterior, population_prior
from rlchat_reward_models.splits import fraction
from rlchat_reward_models.style_features import STYLE_FEATURES, Array

COMMON = {
    "length": -0.5,
    "courtesy": 0.5,
    "sympathy": 0.5,
    "warmth": 0.5,
    "questions": -0.5,
    "formality": 0.5,
    "facts": 0.5,
    "repetition": -0.5,
}
SHARED: Array = np.array([COMMON[name] for name in STYLE_FEATURES])
COUNTS = (0, 2, 5, 10, 20, 50)


@dataclass(frozen=True)
class Options:
    """Simulate people, ask them, and see how well their rewards rank unseen replies."""

    people: int = 20
    """In a group."""
    groups: int = 10
    """The first one's table comes first, then that of all."""
    told: int = 10
    """Comparisons of everybody else, from which the common weights are learned."""
    dialogues: int = 100
    """In each world; half are asked about, half tested."""
    replies: int = 6
    """Sampled in a moment of each."""


@dataclass(frozen=True)
class Sides:
    """How two replies differ: those that may be asked about, by moment, and those tested."""

    moments: list[Array]  # each (pairs, P)
    tested: Array  # (pairs, P)

    @classmethod
    def gather(cls, config: BranchConfig) -> Sides:
        """Play dialogues, and sample replies in them."""
        moments: list[Array] = []
        tested: list[Array] = []
        for number, found in enumerate(questions("test", 0, config)):
            side = number % 2
            own = [q.difference for q in found if _half(q, side)]
            if own:
                (tested if side else moments).append(np.array(own))
        return cls(moments, np.concatenate(tested))


def _half(question: Question, side: int) -> bool:
    """Whether both replies belong to this half of all texts."""
    return all((fraction(b.text) < 0.5) == bool(side) for b in (question.first, question.second))


class Person:
    """Somebody simulated: hidden preference weights, and answers as they make likely."""

    def __init__(self, seed: Sequence[int]):
        """Draw preference weights."""
        self.rng = np.random.default_rng(seed)
        self.w = SHARED + self.rng.normal(size=len(STYLE_FEATURES))

    def answer(self, pair: Array) -> Array:
        """Features of the better reply less those of the worse, to this person, today."""
        return pair if self.rng.random() < 1 / (1 + np.exp(-self.w @ pair)) else -pair

    def at_random(self, moments: Sequence[Array], count: int) -> Array:
        """Answers about any two replies of any moments: (count, P)."""
        chosen = self.rng.permutation(len(moments))[:count]
        return np.array([self.answer(self.rng.choice(moments[i])) for i in chosen])

    def telling(self, moments: Sequence[Array], count: int, others: Array) -> Array:
        """Answers about the pairs that tell most, given the answers so far: (count, P)."""
        left, seen = np.concatenate(moments), np.zeros((0, len(STYLE_FEATURES)))
        for _ in range(count):
            known = fit_posterior(population_prior(others), seen)
            best = int(np.argmax(known.expected_information(left)))
            seen = np.vstack([seen, self.answer(left[best])])
            left = np.delete(left, best, axis=0)
        return seen


def accuracy(w: Array, person: Person, tested: Array) -> float:
    """How often preference weights rank two replies as the person does, in percent."""
    return float(50 * (1 + np.sign(tested @ person.w) * np.sign(tested @ w)).mean())


def consistency(person: Person, tested: Array) -> float:
    """How often the person's own noisy answer is what they truly prefer, in percent."""
    return float(100 * (1 / (1 + np.exp(-np.abs(tested @ person.w)))).mean())


@dataclass(frozen=True)
class Measured:
    """One person: percent of unseen pairs ranked rightly."""

    common: float
    best_common: float  # the ceiling of any reward that is the same for all
    own_answers: float
    personal: dict[str, dict[int, float]]  # by way of asking and number of comparisons


def measure(group: int, options: Options, sides: Sides) -> list[Measured]:
    """Measure everybody in a group."""
    people = [Person([group, i]) for i in range(options.people)]
    told = [p.at_random(sides.moments, options.told) for p in people]
    found = []
    for i, person in enumerate(people):
        others = np.concatenate(told[:i] + told[i + 1 :])
        answers = {
            "random": person.at_random(sides.moments, max(COUNTS)),
            "telling": person.telling(sides.moments, max(COUNTS), others),
        }
        before = population_prior(others)
        personal = {
            way: {
                n: accuracy(fit_posterior(before, seen[:n]).mean, person, sides.tested)
                for n in COUNTS
            }
            for way, seen in answers.items()
        }
        common = accuracy(before.mean, person, sides.tested)
        best = accuracy(SHARED, person, sides.tested)
        found.append(Measured(common, best, consistency(person, sides.tested), personal))
    return found


def table(units: Sequence[Sequence[Measured]], say: Callable[[str], None]) -> None:
    """Print what was measured, with 95% intervals over units: people, or groups of them.

    People of one group share what the common reward learned from, so that groups are the units
    where there are several.
    """

    def each(value: Callable[[Measured], float]) -> list[float]:
        return [fmean(value(person) for person in unit) for unit in units]

    common, own = each(lambda p: p.common), each(lambda p: p.own_answers)
    best = each(lambda p: p.best_common)
    say(f"the common reward ranks {_percent(common)} percent rightly,")
    say(f"the weights that people are drawn around {_percent(best)},")
    say(f"people's own noisy answers would {_percent(own)}\n")
    say("| comparisons | asked | personal reward, percent | over the common one, points |")
    say("|---|---|---|---|")
    for way in units[0][0].personal:
        for n in COUNTS:
            values = each(lambda p, way=way, n=n: p.personal[way][n])  # type: ignore[misc]
            gain = with_interval(paired(values, common), "{:+.1f}")
            say(f"| {n} | {way} | {_percent(values)} | {gain} |")


def _percent(values: Sequence[float]) -> str:
    return with_interval(mean_interval(values), "{:.1f}")


def main(options: Options, say: Callable[[str], None]) -> None:
    """Print the first group's table, then that of all groups."""
    sides = Sides.gather(BranchConfig(options.dialogues, options.replies))
    pairs = sum(len(m) for m in sides.moments)
    say(f"{pairs} pairs in {len(sides.moments)} moments to ask about, {len(sides.tested)} to test")
    groups = [measure(group, options, sides) for group in range(options.groups)]
    say(f"\nthe first {options.people} people, intervals over people:")
    table([[person] for person in groups[0]], say)
    if len(groups) > 1:
        say(f"\n{options.groups} groups of {options.people} people, intervals over groups:")
        table(groups, say)
        gains = [fmean(p.personal["telling"][10] - p.common for p in group) for group in groups]
        say("\ngroups at 10 telling comparisons, points: " + ", ".join(f"{g:+.1f}" for g in gains))


if __name__ == "__main__":
    main(tyro.cli(Options), Console(markup=False, highlight=False, soft_wrap=True).print)
