"""How many comparisons it takes to know a person's taste, measured on simulated people.

    python benchmarks/people.py

Replies are those of scripted desks on the test sides of five worlds. Fixed before anything was
measured: a person's taste over the parts of `style.PARTS` is drawn from N(COMMON, I), so that
people share half a unit a part and differ by one; they answer with probability σ(w·(φ(a) − φ(b))),
as noisily as the model of `style.learn` says. Half of the dialogues are asked about, by the halves
of texts: neither a dialogue nor a reply that is tested was ever asked about. Accuracy is how often
two tested replies are ranked as the person's true taste ranks them; pairs that no part tells apart
are nobody's preference and left out, and what a reward holds for a tie counts half.

The common reward is learned from the other people's comparisons pooled, ``--told`` of each; a
person's own begins where the others leave it. "random" asks about two replies of a moment at random,
"informed" about the two of it whose answer tells most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import tyro
from rich.console import Console

from rlchat.agents import NamedAgent
from rlchat.branches import Branch, BranchConfig, Forest
from rlchat.statistics import bootstrap, paired
from rlchat.tables import with_interval
from rlchat.worlds import WorldConfig
from rlchat_reward_models.preferences import fraction
from rlchat_reward_models.style import PARTS, Array, Taste, learn, manner, population

WORLDS = ("Support", "SupportHard", "Tutoring", "Medical", "Finance")
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
COUNTS = (0, 2, 5, 10, 20, 50)
PLAIN, FITTED = "spread 1", "spread fitted"  # what is assumed of how much people differ


@dataclass(frozen=True)
class Options:
    """Simulate people, ask them, and see how well their rewards rank unseen replies."""

    people: int = 20
    """How many."""
    told: int = 10
    """Comparisons of everybody else, from which the common taste is learned."""
    dialogues: int = 100
    """In each world; half are asked about, half tested."""
    replies: int = 6
    """Sampled in a moment of each."""
    seed: int = 0
    """Of people, questions and answers."""


@dataclass(frozen=True)
class Sides:
    """Differences of manner that may be asked about, by moment, and those that are tested."""

    asked: list[Array]  # of each moment (pairs, P)
    tested: Array  # (pairs, P)


def gather(options: Options) -> Sides:
    """Play dialogues, and sample replies in them."""
    asked, tested = [], []
    for world in WORLDS:
        forest = Forest(WorldConfig(f"rlchat/{world}-v0"), "test")
        config = BranchConfig(options.dialogues, options.replies)
        for number, alike in enumerate(forest.branches(NamedAgent("demonstrator"), config)):
            side = number % 2
            own = pairs([b for b in alike if (fraction(b.reply) < 0.5) == bool(side)])
            if len(own):
                (tested if side else asked).append(own)
    return Sides(asked, np.concatenate(tested))


def pairs(alike: Sequence[Branch]) -> Array:
    """How two replies of a moment differ, for every two that do."""
    said = [manner(b.context, b.reply) for b in alike]
    found = np.array([a - b for a, b in combinations(said, 2)]).reshape(-1, len(PARTS))
    return found[np.abs(found).max(axis=1, initial=0) > 0]


class Person:
    """Somebody simulated: a hidden taste, and answers as it makes likely."""

    def __init__(self, seed: Sequence[int]):
        """Draw a taste."""
        self.rng = np.random.default_rng(seed)
        self.w = np.array([COMMON[name] for name in PARTS]) + self.rng.normal(size=len(PARTS))

    def answer(self, pair: Array) -> Array:
        """The manner of the better less that of the worse, to this person, today."""
        return pair if self.rng.random() < 1 / (1 + np.exp(-self.w @ pair)) else -pair

    def asked(self, moments: Sequence[Array], count: int, before: Taste | None = None) -> Array:
        """Answers to so many questions: at random, or informed by what was known before."""
        seen = np.zeros((0, len(PARTS)))
        for number in self.rng.permutation(len(moments))[:count]:
            moment = moments[number]
            if before is None:
                pair = moment[self.rng.integers(len(moment))]
            else:
                pair = most_telling(learn(before, seen), moment)
            seen = np.vstack([seen, self.answer(pair)])
        return seen


def most_telling(taste: Taste, moment: Array) -> Array:
    """The pair whose answer is expected to tell most of w: p (1 − p) d' V d is largest."""
    right = 1 / (1 + np.exp(-moment @ taste.mean))
    return moment[np.argmax(right * (1 - right) * ((moment @ taste.covariance) * moment).sum(1))]


def accuracy(mean: Array, person: Person, tested: Array) -> float:
    """How often w ranks two replies as the person does, in percent."""
    truth, told = np.sign(tested @ person.w), np.sign(tested @ mean)
    return float(50 * (1 + truth * told).mean())


def consistency(person: Person, tested: Array) -> float:
    """How often the person's own noisy answer is what they truly prefer, in percent."""
    return float((100 / (1 + np.exp(-np.abs(tested @ person.w)))).mean())


Ways = dict[str, dict[int, list[float]]]  # accuracy of everybody, by way and comparisons


def measure(options: Options, sides: Sides) -> tuple[list[float], list[float], Ways]:
    """Accuracies of the common reward, people's consistency, and accuracies of their own."""
    people = [Person([options.seed, i, 0]) for i in range(options.people)]
    told = [p.asked(sides.asked, options.told) for p in people]
    common, own, ways = [], [], {}
    for i, person in enumerate(people):
        others = told[:i] + told[i + 1 :]
        pooled = learn(Taste.unknown(), np.concatenate(others))
        priors = {PLAIN: Taste(pooled.mean, np.eye(len(PARTS))), FITTED: population(others)}
        common.append(accuracy(pooled.mean, person, sides.tested))
        own.append(consistency(person, sides.tested))
        for name, prior in priors.items():
            for asking, before in (("random", None), ("informed", prior)):
                seen = person.asked(sides.asked, max(COUNTS), before)
                for n in COUNTS:
                    found = accuracy(learn(prior, seen[:n]).mean, person, sides.tested)
                    ways.setdefault(f"{name}, {asking}", {}).setdefault(n, []).append(found)
    return common, own, ways


def main(options: Options, say: Callable[[str], None]) -> None:
    """Print a table of each way."""
    sides = gather(options)
    common, own, ways = measure(options, sides)
    say(f"{options.people} people, {len(sides.asked)} moments to ask about, {len(sides.tested)} pairs")
    say(f"common reward: {with_interval(bootstrap(common), '{:.1f}')} percent ranked rightly")
    say(f"a person's own noisy answers: {with_interval(bootstrap(own), '{:.1f}')}")
    for way, found in ways.items():
        say(f"\n{way}\n\n| comparisons | personal reward | over the common one, points |\n|---|---|---|")
        for n, values in found.items():
            gain = with_interval(paired(values, common), "{:+.1f}")
            say(f"| {n} | {with_interval(bootstrap(values), '{:.1f}')} | {gain} |")


if __name__ == "__main__":
    main(tyro.cli(Options), Console(markup=False, highlight=False, soft_wrap=True).print)
