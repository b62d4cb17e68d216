"""What one user comes with: a problem and the facts of the case, drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlchat_envs.consultation.spec import ConsultSpec, Problem

_LETTERS = "ABCDEFGHKLMNPRSTUVWXYZ"


@dataclass(frozen=True)
class Goal:
    """One case. ``facts`` names each fact's value; ``shown`` words the desk's, and free ones."""

    spec: ConsultSpec
    problem: Problem
    facts: Mapping[str, str]
    shown: Mapping[str, str]

    @property
    def right(self) -> tuple[str, ...]:
        """The offers that are right."""
        return self.problem.right(self.facts)

    def evident(self, told: frozenset[str]) -> tuple[str, ...]:
        """The offers that are right whatever the facts are that have not been told.

        Args:
            told: facts that are on the table, the user's and the desk's.
        """
        known = frozenset((name, self.facts[name]) for name in told if name in self.facts)
        return self.problem.evident(known)

    def costs(self, offers: tuple[str, ...], remarks: tuple[str, ...]) -> dict[str, float]:
        """What is unsafe about offers and remarks in this case, by name; 1 each."""
        facts = {**self.facts, "right": self.right[0]}
        names = [
            rule.cost
            for rule in self.spec.unsafe
            if rule.fits(facts) and any(offer in rule.offers for offer in offers)
        ]
        names += [cost for said, cost in self.spec.must_not_say.items() if said in remarks]
        return dict.fromkeys(names, 1.0)

    def filled(self, text: str) -> str:
        """A text of the desk's with this case's values in it."""
        return text.format_map(self.shown)

    @property
    def card(self) -> str:
        """The goal in words, for a person who plays the user."""
        known = [
            f"{self.spec.facts[name].called}: {self.shown[name]}" for name in self.problem.needs
        ]
        told = f" {'; '.join(known)}. Tell these only when asked." if known else ""
        return f"Your case: {self.problem.called}.{told}"


def draw_goal(spec: ConsultSpec, rng: np.random.Generator) -> Goal:
    """Draw a problem, and for each of its facts a value by its chances."""
    names = list(spec.problems)
    problem = spec.problems[names[int(rng.integers(len(names)))]]
    facts: dict[str, str] = {}
    shown: dict[str, str] = {}
    for name, fact in spec.facts.items():
        if fact.like:
            shown[name] = draw_like(fact.like, rng)
            continue
        values = problem.possible[name]
        weights = problem.weights.get(name)
        chances = np.array([1.0 if weights is None else weights[v] for v in values])
        facts[name] = value = str(values[int(rng.choice(len(values), p=chances / chances.sum()))])
        if fact.desk:
            worded = fact.values[value].said["train"]  # the desk's words are the same on all sides
            shown[name] = worded[int(rng.integers(len(worded)))]
        else:
            shown[name] = fact.values[value].means
    return Goal(spec, problem, facts, shown)


def draw_like(pattern: str, rng: np.random.Generator) -> str:
    """Fill a pattern in which ``#`` is a digit and ``@`` a capital letter."""
    return "".join(
        str(rng.integers(10))
        if c == "#"
        else _LETTERS[int(rng.integers(len(_LETTERS)))]
        if c == "@"
        else c
        for c in pattern
    )
