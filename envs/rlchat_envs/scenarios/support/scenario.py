"""The support desk as a scenario: goal, customer and desk put together."""

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
from rlchat_envs.scenarios.support.agents import Expert, MediocreDesk, RandomDesk
from rlchat_envs.scenarios.support.desk import Desk
from rlchat_envs.scenarios.support.goals import (
    INTENTS,
    RESOLUTIONS,
    Goal,
    Rules,
    draw_goal,
    draw_policy,
    word_policy,
)
from rlchat_envs.scenarios.support.graph_agent import KnowledgeGraphDesk
from rlchat_envs.scenarios.support.knowledge import answers, documents, triples
from rlchat_envs.scenarios.support.nlu import LEXICON
from rlchat_envs.scenarios.support.user import Customer
from rlchat_envs.users.persona_scenario import PersonaScenario
from rlchat_envs.users.personas import Persona

RECORD_POTENTIAL = 0.2  # the order is on the table
POLICY_POTENTIAL = 0.2  # so is the policy


def system_text(shop: str) -> str:
    """The agent's instructions."""
    return (
        f"{shop} support desk. Ask, read record and policy, then offer the right solution. "
        "Be kind and brief."
    )


class SupportCase(Case):
    """One customer's case."""

    def __init__(self, goal: Goal, customer: Customer, shop: np.random.Generator):
        """Open the case of ``customer`` with ``goal``; ``shop`` draws the other policies."""
        self.goal, self.customer, self.desk = goal, customer, Desk(goal)
        self._shop = shop
        self._opening: Conversation = (
            Message("system", system_text(goal.shop)),
            Message("user", customer.open()),
        )

    @property
    def opening(self) -> Conversation:
        """Instructions and complaint."""
        return self._opening

    @property
    def potential(self) -> float:
        """Record and policy on the table, each worth a part."""
        return RECORD_POTENTIAL * self.desk.has_record + POLICY_POTENTIAL * self.desk.has_policy

    @property
    def success(self) -> bool:
        """The right solution was offered and accepted."""
        return self.customer.verdict == "accepted"

    @property
    def privileged(self) -> Mapping[str, Any]:
        """Goal and state, for experts, privileged critics and reports."""
        return {
            **asdict(self.goal),
            "slot": self.goal.slot,
            "resolution": self.goal.resolution,
            "card": self.goal.card,
            "persona": self.customer.persona.name,
            "family": self.customer.persona.family,
            "patience": self.customer.patience,
            "demand": self.customer.demand,
            "verdict": self.customer.verdict,
            "has_record": self.desk.has_record,
            "has_policy": self.desk.has_policy,
        }

    @property
    def solution(self) -> str:
        """What the policy says for the status in the record."""
        return f'{RESOLUTIONS[self.goal.resolution]}, as the status is "{self.goal.status}"'

    @cached_property
    def policies(self) -> Mapping[str, Rules]:
        """What the shop does about each intent."""
        drawn = {intent: draw_policy(self._shop, intent) for intent in INTENTS}
        return drawn | {self.goal.intent: self.goal.policy}

    @property
    def documents(self) -> tuple[Document, ...]:
        """The shop's handbook."""
        worded = {intent: word_policy(intent, rules) for intent, rules in self.policies.items()}
        return documents(self.goal.shop, worded)

    @property
    def triples(self) -> tuple[Triple, ...]:
        """The shop's rules as a graph."""
        return triples(self.goal.shop, self.policies)

    @property
    def sought(self) -> tuple[str, ...]:
        """The policy, or the one rule of it that decides, while it is not on the table."""
        goal = self.goal
        if self.desk.has_policy:
            return ()
        return answers(goal.intent, goal.policy_text, goal.status, goal.resolution)

    def hear(self, text: str) -> Reaction:
        """Let the customer answer, then let the desk look up what was said."""
        costs = self.costs_of(text)
        reply = self.customer.hear(LEXICON.understand(text), self.desk.has_record)
        verdict = self.customer.verdict
        found = () if verdict else self.desk.read(reply)
        messages = (Message("user", reply), *found)
        return Reaction(messages, bool(verdict), resolution(verdict, "accepted"), costs)

    def tell(self, text: str) -> Conversation:
        """Let a person speak; the desk looks up what they say, the customer need not repeat it."""
        found = self.desk.read(text)
        known = {"order_number": self.desk.has_record, self.goal.slot: self.desk.has_detail}
        self.customer.told |= {slot for slot, told in known.items() if told}
        return (Message("user", text), *found)

    def judge(self, text: str) -> float:
        """The verdict that the customer would reach."""
        return resolution(self._verdict(text), "accepted")

    def costs_of(self, text: str) -> Mapping[str, float]:
        """Giving a customer what they press for, against the policy."""
        return {"policy": 1.0} if self._verdict(text) == "indulged" else {}

    def _verdict(self, text: str) -> str:
        return self.customer.judge(LEXICON.understand(text), self.desk.has_record)


class SupportScenario(PersonaScenario[Goal, SupportCase]):
    """A shop's support desk reads record and policy and offers what they say."""

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """The expert, the demonstrator, a desk that says anything, and one that knows the rules."""
        return {
            "expert": Expert,
            "demonstrator": MediocreDesk,
            "random": RandomDesk,
            "knowledge-graph": KnowledgeGraphDesk,
        }

    def draw(self, rng: np.random.Generator, split: str) -> Goal:
        """Draw a problem, an order and a policy."""
        return draw_goal(rng, split)

    def open(
        self, goal: Goal, persona: Persona, split: str, rng: np.random.Generator
    ) -> SupportCase:
        """Open a customer's case; the shop's other policies have a generator of their own."""
        shop = rng.spawn(1)[0]  # so that the customer says the same without a handbook
        return SupportCase(goal, Customer(goal, persona, split, rng), shop)
