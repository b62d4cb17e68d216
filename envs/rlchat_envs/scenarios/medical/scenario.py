"""The helpline as a scenario: a consultation whose patients come from the probabilistic graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from rlchat_envs.consultation import ConsultCase, ConsultScenario
from rlchat_envs.consultation.agents import Demonstrator, Habits
from rlchat_envs.consultation.goals import Goal
from rlchat_envs.consultation.spec import ConsultSpec, Problem
from rlchat_envs.consultation.user import ConsultUser
from rlchat_envs.core.protocols import ScriptedAgent
from rlchat_envs.knowledge import Triple
from rlchat_envs.scenarios.medical.knowledge import CareGraph, care_graph
from rlchat_envs.users.personas import Persona

URGENCY = {"doctor": 1, "emergency": 2}  # of an offer, or of what a condition needs; else 0

# Three or four facts decide here, where other consultations take two: with the usual share of
# skipped ones hardly any advice would be founded, and there would be little to learn from.
HABITS = Habits(skips=0.25)


@dataclass(frozen=True)
class Patient(Goal):
    """A goal that has a cause."""

    condition: str = ""


class MedicalCase(ConsultCase):
    """One patient's case."""

    goal: Patient

    @property
    def privileged(self) -> Mapping[str, Any]:
        """Goal and state, and the condition behind them."""
        return {**super().privileged, "condition": self.goal.condition}

    @property
    def triples(self) -> tuple[Triple, ...]:
        """The whole graph: nothing in it is this patient's own."""
        return care_graph().triples


class MedicalScenario(ConsultScenario):
    """A helpline asks for red flags, triages and advises; a game, not medicine."""

    def __init__(self) -> None:
        """Find the file."""
        with resources.as_file(resources.files("rlchat_envs.scenarios.medical")) as folder:
            super().__init__(Path(folder) / "medical.yaml")

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """Those of every consultation; the demonstrator with habits of its own."""
        return {
            **super().agents,
            "demonstrator": lambda seed: Demonstrator(self.spec, seed, HABITS),
        }

    def draw(self, rng: np.random.Generator, split: str) -> Patient:
        """Draw a patient."""
        return draw_patient(self.spec, care_graph(), rng)

    def open(
        self, goal: Goal, persona: Persona, split: str, rng: np.random.Generator
    ) -> MedicalCase:
        """Open a patient's case."""
        return MedicalCase(goal, ConsultUser(goal, persona, split, rng))


def draw_patient(spec: ConsultSpec, graph: CareGraph, rng: np.random.Generator) -> Patient:
    """Draw a complaint, its condition, what that shows, and the patient's background.

    What a condition shows is drawn on condition that it calls for no less than the condition
    needs: a serious one shows its red flags, or lasts.
    """
    problem = list(spec.problems.values())[int(rng.integers(len(spec.problems)))]
    condition = _choose(graph.subjects("causes", in_words(problem.name)), rng)
    background = _choose(graph.objects("patient", "may have"), rng).replace(" ", "_")
    needed = max((URGENCY[name] for name in graph.objects(condition, "needs")), default=0)
    while True:
        facts = {**_draw_signs(problem, condition, graph, rng), "background": background}
        if URGENCY.get(problem.right(facts)[0], 0) >= needed:
            break
    shown = {name: spec.facts[name].values[value].means for name, value in facts.items()}
    return Patient(spec, problem, facts, shown, condition)


def in_words(name: str) -> str:
    """A name of the YAML file as the graph writes it."""
    return name.replace("_", " ")


def _choose(chances: Mapping[str, float], rng: np.random.Generator) -> str:
    weights = np.array(list(chances.values()))
    return list(chances)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _draw_signs(
    problem: Problem, condition: str, graph: CareGraph, rng: np.random.Generator
) -> dict[str, str]:
    """Every fact but the background, each on its own given the condition."""
    shows, lasts = graph.objects(condition, "shows"), graph.objects(condition, "lasts for")
    facts = {}
    for name in problem.needs:
        if name == "lasting":
            facts[name] = "weeks" if rng.random() < lasts.get("weeks", 0.0) else "days"
        elif name != "background":
            facts[name] = "yes" if rng.random() < shows.get(in_words(name), 0.0) else "no"
    return facts
