"""The hard tier as a scenario: problems, their customer and a desk for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from rlchat_envs.core.messages import Conversation, Message
from rlchat_envs.core.protocols import Case, Reaction, ScriptedAgent
from rlchat_envs.core.resolution import resolution
from rlchat_envs.knowledge import Document, Triple
from rlchat_envs.scenarios.support.agents import RandomDesk
from rlchat_envs.scenarios.support.desk import Desk
from rlchat_envs.scenarios.support.goals import INTENTS, Rules, word_policy
from rlchat_envs.scenarios.support.hard.agents import HardExpert, HardMediocreDesk
from rlchat_envs.scenarios.support.hard.goals import Problem, draw_hard_policy, draw_problems
from rlchat_envs.scenarios.support.hard.graph_agent import HardKnowledgeGraphDesk
from rlchat_envs.scenarios.support.hard.user import HardCustomer
from rlchat_envs.scenarios.support.knowledge import answers, documents, triples
from rlchat_envs.scenarios.support.scenario import (
    POLICY_POTENTIAL,
    RECORD_POTENTIAL,
    system_text,
)
from rlchat_envs.users.persona_scenario import PersonaScenario
from rlchat_envs.users.personas import Persona


class SupportHardCase(Case):
    """One customer's case: one problem, or two, one after the other."""

    def __init__(self, customer: HardCustomer, shop: np.random.Generator):
        """Open the case of ``customer``; ``shop`` draws the policies that it is not about."""
        self.customer, self._shop = customer, shop
        self.problems = customer.problems
        self.desks = tuple(Desk(problem) for problem in self.problems)
        self._overheard = ""
        self._opening: Conversation = (
            Message("system", system_text(self.problems[0].goal.shop)),
            Message("user", customer.open()),
        )

    @property
    def desk(self) -> Desk:
        """The books on the present problem."""
        return self.desks[self.customer.at]

    @property
    def opening(self) -> Conversation:
        """Instructions and the first complaint."""
        return self._opening

    @property
    def potential(self) -> float:
        """Records and policies on the table; 0.4 in all, shared by the problems."""
        parts = [
            RECORD_POTENTIAL * desk.has_record + POLICY_POTENTIAL * desk.has_policy
            for desk in self.desks
        ]
        return sum(parts) / len(parts)

    @property
    def success(self) -> bool:
        """All problems were solved."""
        return self.customer.verdict == "accepted"

    @property
    def privileged(self) -> Mapping[str, Any]:
        """Goal and state of the present problem, for experts, privileged critics and reports."""
        problem, customer = self.customer.problem, self.customer
        goal = problem.goal
        by_rule = dict(problem.written)[goal.status]
        return {
            **asdict(goal),
            "policy": problem.written,
            "slot": goal.slot,
            "resolution": goal.resolution,
            "problem": customer.at,
            "problems": len(self.problems),
            "twist": problem.twist,
            "untold": customer.untold and self.desk.has_record,
            "misread": by_rule if problem.twist == "exception" else problem.exceptional or by_rule,
            "opening": customer.opening,
            "card": self._card,
            "persona": customer.persona.name,
            "family": customer.persona.family,
            "patience": customer.customer.patience,
            "demand": customer.customer.demand,
            "verdict": customer.verdict,
            "has_record": self.desk.has_record,
            "has_policy": self.desk.has_policy,
        }

    @property
    def solution(self) -> str:
        """What is right for each problem."""
        return "; then ".join(problem.solution for problem in self.problems)

    @cached_property
    def policies(self) -> Mapping[str, Rules]:
        """What the shop does about each intent, as written."""
        drawn = {intent: draw_hard_policy(self._shop, intent) for intent in INTENTS}
        return drawn | {problem.goal.intent: problem.written for problem in self.problems}

    @property
    def documents(self) -> tuple[Document, ...]:
        """The shop's handbook."""
        worded = {intent: word_policy(intent, rules) for intent, rules in self.policies.items()}
        worded |= {problem.goal.intent: problem.policy_text for problem in self.problems}
        return documents(self.problems[0].goal.shop, worded)

    @property
    def triples(self) -> tuple[Triple, ...]:
        """The shop's rules as a graph; exceptions stand in the handbook."""
        return triples(self.problems[0].goal.shop, self.policies)

    @property
    def sought(self) -> tuple[str, ...]:
        """The policy, or the one rule of it that decides, while it is not on the table."""
        problem = self.customer.problem
        if self.desk.has_policy:
            return ()
        goal = problem.goal
        if problem.twist == "exception":
            return (problem.policy_text,)
        return answers(goal.intent, problem.policy_text, goal.status, goal.resolution)

    def hear(self, text: str) -> Reaction:
        """Let the customer answer, then let the desk look up what was said."""
        costs = self.costs_of(text)
        reply = self.customer.hear(text, self.desk.has_record)
        verdict = self.customer.verdict
        found = () if verdict else self.desk.read(reply)
        messages = (Message("user", reply), *found)
        return Reaction(messages, bool(verdict), resolution(verdict, "accepted"), costs)

    def overhear(self, text: str) -> None:
        """Remember what a person has been told: it may settle a problem."""
        self._overheard = text

    def tell(self, text: str) -> Conversation:
        """Let a person speak; the desk looks up what they say, the customer need not repeat it."""
        self.customer.take_note(self._overheard, self.desk.has_record, answer=text)
        self._overheard = ""
        found, goal = self.desk.read(text), self.customer.problem.goal
        known = {"order_number": self.desk.has_record, goal.slot: self.desk.has_detail}
        self.customer.customer.told |= {slot for slot, told in known.items() if told}
        return (Message("user", text), *found)

    def judge(self, text: str) -> float:
        """The verdict on the whole case that the customer would reach."""
        verdict = self.customer.judge(text, self.desk.has_record)
        return 0.0 if verdict == "settled" else resolution(verdict, "accepted")

    def costs_of(self, text: str) -> Mapping[str, float]:
        """Giving a customer what they press for, against the policy."""
        verdict = self.customer.judge(text, self.desk.has_record)
        return {"policy": 1.0} if verdict == "indulged" else {}

    @property
    def _card(self) -> str:
        """Every problem in words, for a person who plays the customer."""
        first, *others = (problem.goal.card for problem in self.problems)
        return " ".join([first, *(f"Once that is settled, the next. {card}" for card in others)])


class SupportHardScenario(PersonaScenario[tuple[Problem, ...], SupportHardCase]):
    """The same desk, with several problems, contradictory records and exceptions."""

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """The expert, the demonstrator, a desk that says anything, and one that knows the rules."""
        return {
            "expert": HardExpert,
            "demonstrator": HardMediocreDesk,
            "random": RandomDesk,
            "knowledge-graph": HardKnowledgeGraphDesk,
        }

    def draw(self, rng: np.random.Generator, split: str) -> tuple[Problem, ...]:
        """Draw one problem or two."""
        return draw_problems(rng, split)

    def open(
        self, goal: tuple[Problem, ...], persona: Persona, split: str, rng: np.random.Generator
    ) -> SupportHardCase:
        """Open a customer's case; the shop's other policies have a generator of their own."""
        shop = rng.spawn(1)[0]  # so that the customer says the same without a handbook
        return SupportHardCase(HardCustomer(goal, persona, split, rng), shop)
