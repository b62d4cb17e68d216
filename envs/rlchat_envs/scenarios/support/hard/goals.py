"""What a hard case is made of: problems with a twist, drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlchat_envs.scenarios.support.goals import (
    INTENTS,
    RESOLUTIONS,
    Goal,
    Rules,
    draw_goal,
    draw_policy,
    load_data,
)

TWO_PROBLEMS = 0.5  # of the cases
# Chances of the twists. A case of one problem has always one that is none of "plain".
TWISTS: dict[str, float] = {
    "plain": 0.2,
    "contradiction": 0.35,  # the record's status is not what the customer says
    "exception": 0.25,  # the policy makes an exception, and the order falls under it
    "near miss": 0.2,  # the policy makes an exception, and the order does not
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One of a customer's problems.

    ``goal`` holds what comes out for this customer, an exception included: its ``resolution`` is
    the right one. ``written`` are the rules as the policy has them.
    """

    goal: Goal
    twist: str  # a key of TWISTS
    written: Rules
    note: str  # what the record says beside the status
    made_for: str = ""  # whom the policy makes an exception for
    exceptional: str = ""  # the resolution that the exception gives
    claims: bool = False  # whether the customer says with the opening what a record may contradict

    @property
    def order_number(self) -> str:
        """Identifies the order."""
        return self.goal.order_number

    @property
    def detail(self) -> str:
        """Identifies the policy."""
        return self.goal.detail

    @property
    def contradicted(self) -> bool:
        """Whether the record contradicts the customer."""
        return self.twist == "contradiction"

    @property
    def record_text(self) -> str:
        """The order as the desk's books show it."""
        return f"{self.goal.record_text} {self.note}"

    @property
    def policy_text(self) -> str:
        """The rules as written, and the exception if there is one."""
        text = replace(self.goal, policy=self.written).policy_text
        if not self.made_for:
            return text
        return f"{text} Exception: {self.made_for}: {RESOLUTIONS[self.exceptional]}."

    @property
    def solution(self) -> str:
        """What is right, and why."""
        reasons = [f'the status is "{self.goal.status}"']
        if self.twist == "exception":
            reasons = [f"an exception is made for {self.made_for}"]
        return f"{RESOLUTIONS[self.goal.resolution]}, as {reasons[0]}"


def draw_problems(rng: np.random.Generator, split: str) -> tuple[Problem, ...]:
    """Draw one problem or two of the same customer, with different intents, items and numbers."""
    first = draw_goal(rng, split)
    if rng.random() >= TWO_PROBLEMS:
        twists = {name: chance for name, chance in TWISTS.items() if name != "plain"}
        return (_twisted(rng, first, _draw_twist(rng, twists)),)
    second = first
    while not _differ(first, second):
        drawn = draw_goal(rng, split)
        second = replace(drawn, customer=first.customer, shop=first.shop)
    return tuple(_twisted(rng, goal, _draw_twist(rng, TWISTS)) for goal in (first, second))


def draw_hard_policy(rng: np.random.Generator, intent: str) -> Rules:
    """Draw a policy that also has a rule for the status that may contradict a customer."""
    return (*draw_policy(rng, intent), _contradicting_rule(rng, intent))


def contradicting_status(intent: str) -> str:
    """The status that contradicts what customers with this intent say."""
    return str(load_data("hard/catalogue")["contradictions"][intent]["status"])


def _differ(one: Goal, two: Goal) -> bool:
    fields = ("intent", "item", "order_number")
    return all(getattr(one, name) != getattr(two, name) for name in fields)


def _draw_twist(rng: np.random.Generator, twists: Mapping[str, float]) -> str:
    chances = np.array(list(twists.values()))
    return list(twists)[int(rng.choice(len(twists), p=chances / chances.sum()))]


def _contradicting_rule(rng: np.random.Generator, intent: str) -> tuple[str, str]:
    known = load_data("hard/catalogue")["contradictions"][intent]
    return known["status"], str(rng.choice(known["outcomes"]))


def _twisted(rng: np.random.Generator, goal: Goal, twist: str) -> Problem:
    """Give an easy goal a twist."""
    written = (*goal.policy, _contradicting_rule(rng, goal.intent))
    goal = replace(goal, policy=written)
    if twist == "contradiction":
        goal = replace(goal, status=contradicting_status(goal.intent))
    exceptions: list[dict[str, Any]] = load_data("hard/catalogue")["exceptions"]
    exception = exceptions[int(rng.integers(len(exceptions)))]
    fits = twist == "exception" or (twist != "near miss" and rng.random() < 0.5)
    note = str(rng.choice(exception["fits" if fits else "misses"]))
    claims = twist == "contradiction" or bool(rng.random() < 0.5)
    problem = Problem(goal, twist, written, note, claims=claims)
    if twist not in ("exception", "near miss"):
        return problem
    others = sorted({r for o in INTENTS[goal.intent].outcomes.values() for r in o})
    given = str(rng.choice([r for r in others if r != goal.resolution]))
    problem = replace(problem, made_for=exception["made_for"], exceptional=given)
    if twist == "near miss":
        return problem
    excepted = tuple((s, given if s == goal.status else r) for s, r in written)
    return replace(problem, goal=replace(goal, policy=excepted))
