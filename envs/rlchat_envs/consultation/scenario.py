"""A consultation as a scenario: a user, a desk with records, and the file that describes both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlchat_envs.consultation.agents import Demonstrator, Expert, RandomAgent
from rlchat_envs.consultation.goals import Goal, draw_goal
from rlchat_envs.consultation.knowledge import KnowledgeGraphAgent, documents, triples
from rlchat_envs.consultation.reading import placeholders, read_spec
from rlchat_envs.consultation.spec import ConsultSpec
from rlchat_envs.consultation.user import ConsultUser
from rlchat_envs.core.messages import Conversation, Message
from rlchat_envs.core.protocols import Case, Reaction, ScriptedAgent
from rlchat_envs.core.resolution import resolution
from rlchat_envs.knowledge import Document, Triple
from rlchat_envs.nlu.lexicon import Heard
from rlchat_envs.users.persona_scenario import PersonaScenario
from rlchat_envs.users.personas import Persona

KNOWN_POTENTIAL = 0.4  # everything that matters is on the table


class ConsultCase(Case):
    """One user's case."""

    def __init__(self, goal: Goal, user: ConsultUser):
        """Open the case of ``user`` with ``goal``."""
        self.goal, self.user = goal, user
        self._shown: dict[int, None] = {}
        self._asked: tuple[str, ...] = ()
        self._opening: Conversation = (
            Message("system", goal.spec.system),
            Message("user", user.open()),
            *self._look_up(),
        )

    @property
    def opening(self) -> Conversation:
        """Instructions, the user's first words, and what the desk shows at once."""
        return self._opening

    @property
    def potential(self) -> float:
        """The share of what matters that the user has told."""
        needs = self.goal.problem.needs
        told = sum(name in self.user.told for name in needs)
        return KNOWN_POTENTIAL * told / len(needs) if needs else 0.0

    @property
    def success(self) -> bool:
        """The right offer was made, for good reasons, with all that has to be said."""
        return self.user.verdict == "accepted"

    @property
    def privileged(self) -> Mapping[str, Any]:
        """Goal and state, for experts, privileged critics and reports."""
        goal, user = self.goal, self.user
        return {
            "problem": goal.problem.name,
            **{f"fact {name}": goal.facts.get(name, "") for name in goal.problem.needs},
            "right": goal.right,
            "evident": goal.evident(self._known),
            "missing": tuple(n for n in goal.problem.needs if n not in user.told),
            "unsaid": tuple(n for n in goal.spec.must_say if n not in user.remarks),
            "card": goal.card,
            "persona": user.persona.name,
            "family": user.persona.family,
            "patience": user.patience,
            "demand": user.demand,
            "verdict": user.verdict,
        }

    @property
    def solution(self) -> str:
        """What is right."""
        return " or ".join(self.goal.spec.offers[name].called for name in self.goal.right)

    @property
    def documents(self) -> tuple[Document, ...]:
        """The desk's pages, with this case's values."""
        return documents(self.goal)

    @property
    def triples(self) -> tuple[Triple, ...]:
        """What the file says, as a graph, with this case's values."""
        return triples(self.goal)

    def hear(self, text: str) -> Reaction:
        """Let the user answer, then let the desk look up what was said."""
        heard = self.goal.spec.lexicon.understand(text)
        costs = self._costs(heard)
        reply = self.user.hear(heard, self._on_the_table)
        verdict = self.user.verdict
        found = () if verdict else self._look_up()
        messages = (Message("user", reply), *found)
        return Reaction(messages, bool(verdict), resolution(verdict, "accepted"), costs)

    def overhear(self, text: str) -> None:
        """Remember what a person has been asked: their reply tells it."""
        heard = self.goal.spec.lexicon.understand(text)
        self._asked = heard.asks
        self.user.remarks |= set(heard.remarks)

    def tell(self, text: str) -> Conversation:
        """Let a person speak: it tells what the agent has asked for, and the desk looks it up."""
        needs = self.goal.problem.needs
        self.user.told |= {name for name in self._asked if name in needs}
        return (Message("user", text), *self._look_up())

    def judge(self, text: str) -> float:
        """The verdict that the user would reach."""
        heard = self.goal.spec.lexicon.understand(text)
        return resolution(self.user.judge(heard, self._on_the_table), "accepted")

    def costs_of(self, text: str) -> Mapping[str, float]:
        """What the file calls unsafe in this case, and giving the user what they press for."""
        return self._costs(self.goal.spec.lexicon.understand(text))

    def _costs(self, heard: Heard) -> Mapping[str, float]:
        costs = self.goal.costs(heard.offers, heard.remarks)
        given_in = self.user.demand in (*heard.offers, *heard.remarks)
        if given_in and self.user.judge(heard, self._on_the_table) == "indulged":
            costs["policy"] = 1.0
        return costs

    @property
    def _on_the_table(self) -> frozenset[str]:
        """The desk's facts that its records have shown, and those that no record holds."""
        spec = self.goal.spec
        held = [set(placeholders(record.text)) for record in spec.records]
        seen = {name for i in self._shown for name in held[i]}
        unseen = {name for names in held for name in names} - seen
        return frozenset(n for n, fact in spec.facts.items() if fact.desk and n not in unseen)

    @property
    def _known(self) -> frozenset[str]:
        return frozenset(self.user.told) | self._on_the_table

    def _look_up(self) -> Conversation:
        """Records that can be shown now and have not been."""
        found = []
        for i, record in enumerate(self.goal.spec.records):
            concerns = not record.problems or self.goal.problem.name in record.problems
            if i not in self._shown and concerns and all(n in self.user.told for n in record.after):
                self._shown[i] = None
                found.append(Message("tool", self.goal.filled(record.text)))
        return tuple(found)


@cache
def _read(path: Path, modified: int) -> ConsultSpec:
    """A file as it was at a time: reading a long one takes a second."""
    return read_spec(path)


class ConsultScenario(PersonaScenario[Goal, ConsultCase]):
    """Any number of cases from a file; see ``docs/worlds/your-own-world.md`` for what it holds."""

    def __init__(self, path: Path):
        """Read the file.

        Raises:
            ValueError: a mistake in it, with file, line and field.
        """
        self.path = path

    @cached_property
    def spec(self) -> ConsultSpec:
        """What the file says; environments of one file share it."""
        return _read(self.path, self.path.stat().st_mtime_ns if self.path.is_file() else 0)

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """The expert, the demonstrator, one that says anything, and one that looks up rules."""
        return {
            "expert": lambda seed: Expert(self.spec, seed),
            "demonstrator": lambda seed: Demonstrator(self.spec, seed),
            "random": lambda seed: RandomAgent(self.spec, seed),
            "knowledge-graph": lambda seed: KnowledgeGraphAgent(self.spec, seed),
        }

    def draw(self, rng: np.random.Generator, split: str) -> Goal:
        """Draw a problem and its facts."""
        return draw_goal(self.spec, rng)

    def open(
        self, goal: Goal, persona: Persona, split: str, rng: np.random.Generator
    ) -> ConsultCase:
        """Open a user's case."""
        return ConsultCase(goal, ConsultUser(goal, persona, split, rng))
