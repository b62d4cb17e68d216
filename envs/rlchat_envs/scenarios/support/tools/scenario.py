"""The support desk that calls functions, as a scenario."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlchat_envs.core.messages import Conversation, Message
from rlchat_envs.core.protocols import Reaction, ScriptedAgent
from rlchat_envs.core.resolution import resolution
from rlchat_envs.core.tools import Call, read_message
from rlchat_envs.scenarios.support.goals import Goal, draw_goal
from rlchat_envs.scenarios.support.nlu import LEXICON
from rlchat_envs.scenarios.support.scenario import (
    POLICY_POTENTIAL,
    RECORD_POTENTIAL,
    SupportCase,
)
from rlchat_envs.scenarios.support.tools.agents import (
    CallingExpert,
    CallingLinker,
    CallingMediocreDesk,
    CallingRandomDesk,
)
from rlchat_envs.scenarios.support.tools.functions import TOOLS, Books
from rlchat_envs.scenarios.support.user import Customer
from rlchat_envs.users.persona_scenario import PersonaScenario
from rlchat_envs.users.personas import Persona


def system_text(shop: str) -> str:
    """The agent's instructions."""
    return (
        f"{shop} support desk. Look up order and policy, then offer the right solution. Be kind "
        "and brief."
    )


class SupportToolsCase(SupportCase):
    """One customer's case: what `SupportCase` shows of itself must be looked up here."""

    def __init__(self, goal: Goal, customer: Customer, shop: np.random.Generator):
        """Open the case of ``customer`` with ``goal``; ``shop`` draws the other policies."""
        super().__init__(goal, customer, shop)
        complaint = self._opening[-1]
        self.books, self._said = Books(goal, self.policies), complaint.content
        self._opening = (Message("system", system_text(goal.shop), TOOLS), complaint)

    @property
    def potential(self) -> float:
        """Record and policy looked up, each worth a part."""
        return RECORD_POTENTIAL * self.books.has_record + POLICY_POTENTIAL * self.books.has_policy

    @property
    def privileged(self) -> Mapping[str, Any]:
        """What `SupportCase` has, and whether the customer has told the order number."""
        looked_up = {"has_record": self.books.has_record, "has_policy": self.books.has_policy}
        return {**super().privileged, **looked_up, "told_number": self._has_told_number}

    @property
    def sought(self) -> tuple[str, ...]:
        """The policy, or the one rule of it that decides, until it has been looked up."""
        return () if self.books.has_policy else super().sought

    def serve(self, calls: tuple[Call, ...], person: bool = False) -> Reaction:
        """Look things up; calls that are needless cost the customer's patience."""
        needless = self.books.needless(calls, self._said)
        found = tuple(Message("tool", self.books.look_up(call)) for call in calls)
        last_words = self.customer.wait() if needless and not person else ""
        if not last_words:
            return Reaction(found)
        verdict = resolution(self.customer.verdict, "accepted")
        return Reaction((*found, Message("user", last_words)), True, verdict)

    def hear(self, text: str) -> Reaction:
        """Let the customer answer."""
        costs = self.costs_of(text)
        reply = self.customer.hear(LEXICON.understand(text), self.books.has_record)
        self._said += f"\n{reply}"
        verdict = self.customer.verdict
        score = resolution(verdict, "accepted")
        return Reaction((Message("user", reply),), bool(verdict), score, costs)

    def tell(self, text: str) -> Conversation:
        """Let a person speak; the customer need not repeat the number that they tell."""
        self._said += f"\n{text}"
        if self._has_told_number:
            self.customer.told.add("order_number")
        return (Message("user", text),)

    def costs_of(self, text: str) -> Mapping[str, float]:
        """Needless calls, and giving a customer what they press for, against the policy."""
        if calls := read_message(text, TOOLS).calls:
            needless = self.books.needless(calls, self._said)
            return {"needless_call": float(needless)} if needless else {}
        return super().costs_of(text)

    def _verdict(self, text: str) -> str:
        if read_message(text).calls:  # which decide nothing, and nor do words beside them
            return ""
        return self.customer.judge(LEXICON.understand(text), self.books.has_record)

    @property
    def _has_told_number(self) -> bool:
        return self.goal.order_number.lower() in self._said.lower()


class SupportToolsScenario(PersonaScenario[Goal, SupportToolsCase]):
    """A shop's support desk looks order and policy up by calling functions, and then offers."""

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """The expert, the demonstrator, a desk that does anything, and one that reads and links."""
        return {
            "expert": CallingExpert,
            "demonstrator": CallingMediocreDesk,
            "random": CallingRandomDesk,
            "knowledge-graph": CallingLinker,
        }

    def draw(self, rng: np.random.Generator, split: str) -> Goal:
        """Draw a problem, an order and a policy, as the desk without functions has them."""
        return draw_goal(rng, split)

    def open(
        self, goal: Goal, persona: Persona, split: str, rng: np.random.Generator
    ) -> SupportToolsCase:
        """Open a customer's case; the shop's other policies have a generator of their own."""
        shop = rng.spawn(1)[0]
        return SupportToolsCase(goal, Customer(goal, persona, split, rng), shop)
