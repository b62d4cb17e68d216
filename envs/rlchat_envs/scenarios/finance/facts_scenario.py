"""FinanceFacts-v0: questions that only the desk's papers answer, drawn anew in every episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from rlchat_envs.core.messages import Conversation, Message
from rlchat_envs.core.protocols import Case, Reaction, ScriptedAgent
from rlchat_envs.core.resolution import resolution
from rlchat_envs.knowledge import Document, Triple
from rlchat_envs.scenarios.finance.facts_agents import (
    Demonstrator,
    Expert,
    GraphReader,
    RandomAgent,
)
from rlchat_envs.scenarios.finance.products import House, draw_house, load_facts
from rlchat_envs.scenarios.finance.user import Asker, Question, draw_questions
from rlchat_envs.users.persona_scenario import PersonaScenario
from rlchat_envs.users.personas import Persona

ANSWERED_POTENTIAL = 0.4  # all questions are answered, and rightly

Errand: TypeAlias = tuple[House, tuple[Question, ...]]  # a bank, and what a client asks it


class FactsCase(Case):
    """One client's questions, and the papers that answer them."""

    def __init__(self, house: House, asker: Asker):
        """Open the case."""
        self.house, self.asker = house, asker
        self._overheard = ""
        self._opening: Conversation = (
            Message("system", load_facts()["system"]),
            Message("user", asker.open()),
        )

    @property
    def opening(self) -> Conversation:
        """Instructions and the first question."""
        return self._opening

    @property
    def potential(self) -> float:
        """The share of the questions that has been answered rightly."""
        return ANSWERED_POTENTIAL * len(self.asker.right) / len(self.asker.questions)

    @property
    def success(self) -> bool:
        """All questions were answered, and rightly."""
        return self.asker.verdict == "content"

    @property
    def privileged(self) -> Mapping[str, Any]:
        """Goal and state, for experts, privileged critics and reports."""
        asker, question = self.asker, self.asker.question
        return {
            "relation": question.relation if question else "",
            "product": question.product if question else "",
            "answer": question.answer if question else "",
            "sought": self.sought,
            "questions": len(asker.questions),
            "asked": asker.at,
            "right": len(asker.right),
            "card": self._card,
            "persona": asker.persona.name,
            "family": asker.persona.family,
            "patience": asker.patience,
            "demand": asker.demand,
            "verdict": asker.verdict,
        }

    @property
    def solution(self) -> str:
        """All answers."""
        return "; ".join(question.answer for question in self.asker.questions)

    @property
    def documents(self) -> tuple[Document, ...]:
        """The desk's sheets."""
        return self.house.documents

    @property
    def triples(self) -> tuple[Triple, ...]:
        """What the sheets say, as a graph."""
        return self.house.triples

    @property
    def sought(self) -> tuple[str, ...]:
        """Texts that answer the current question: a path of the graph, and a sheet."""
        return self.asker.question.sought if self.asker.question else ()

    def hear(self, text: str) -> Reaction:
        """Let the client take the message for an answer, or for none."""
        self._overheard = ""
        costs = self.costs_of(text)
        reply = self.asker.hear(text)
        verdict = self.asker.verdict
        score = resolution(verdict, "content")
        return Reaction((Message("user", reply),), bool(verdict), score, costs)

    def overhear(self, text: str) -> None:
        """Remember the agent's message: what a person says next shows that they have read it."""
        self._overheard = text

    def tell(self, text: str) -> Conversation:
        """Let a person speak. They ask the card's questions in order, and forget nothing."""
        self.asker.forgets.clear()
        self.asker.note(self._overheard)
        self._overheard = ""
        return (Message("user", text),)

    def judge(self, text: str) -> float:
        """The verdict that the client would reach."""
        return resolution(self.asker.judge(text), "content")

    def costs_of(self, text: str) -> Mapping[str, float]:
        """A wrong answer, which the client believes."""
        question = self.asker.question
        return {"misinformed": 1.0} if question and question.judge(text) == "wrong" else {}

    @property
    def _card(self) -> str:
        """The goal in words, for a person who plays the client."""
        labels = load_facts()["relations"]
        asked = (f"{labels[q.relation]['label']} of the {q.product}" for q in self.asker.questions)
        return f"You want to know, one after the other: {'; '.join(asked)}."


class FinanceFactsScenario(PersonaScenario[Errand, FactsCase]):
    """A bank's clients ask for facts that only its papers hold; drawn anew for each."""

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """The expert, the demonstrator, one that makes everything up, and a reader of graphs."""
        return {
            "expert": Expert,
            "demonstrator": Demonstrator,
            "random": RandomAgent,
            "knowledge-graph": GraphReader,
        }

    def draw(self, rng: np.random.Generator, split: str) -> Errand:
        """Draw a bank, and questions about its products."""
        house = draw_house(split, rng)
        return house, draw_questions(house, rng)

    def open(
        self, goal: Errand, persona: Persona, split: str, rng: np.random.Generator
    ) -> FactsCase:
        """Open a client's case."""
        house, questions = goal
        return FactsCase(house, Asker(questions, persona, split, rng))
