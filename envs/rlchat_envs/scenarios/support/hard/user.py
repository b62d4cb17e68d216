"""A customer with one problem after the other, whom a record may contradict."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlchat_envs.scenarios.support.goals import load_data
from rlchat_envs.scenarios.support.hard.goals import Problem
from rlchat_envs.scenarios.support.hard.nlu import contradicts, is_kind
from rlchat_envs.scenarios.support.nlu import LEXICON
from rlchat_envs.scenarios.support.user import Customer
from rlchat_envs.users.personas import Persona, slips

PROTEST_COST = 2  # patience, for an offer that leaves out what the record says


@dataclass
class HardCustomer:
    """Takes an easy customer through each problem, and speaks up where the tiers differ.

    A right offer settles a problem, and the next one is told; the last one is accepted. Where the
    record contradicts the customer, the right offer is not accepted before the agent has told
    them so, and kindly. Patience is one for all problems.
    """

    problems: tuple[Problem, ...]
    persona: Persona
    split: str
    rng: np.random.Generator
    at: int = 0  # index of the problem that is being talked about
    told: set[int] = field(default_factory=set)  # problems whose contradiction was told kindly
    opening: str = ""  # what opened the problem

    def __post_init__(self) -> None:
        """Come with the first problem."""
        self.customer = self._with_problem(0)

    @property
    def problem(self) -> Problem:
        """What is being talked about."""
        return self.problems[self.at]

    @property
    def verdict(self) -> str:
        """As the easy customer's; empty until the last problem is decided, or one is spoilt."""
        return self.customer.verdict

    @property
    def untold(self) -> bool:
        """Whether the record contradicts the customer and nobody has told them kindly."""
        return self.problem.contradicted and self.at not in self.told

    def open(self) -> str:
        """Tell the first problem."""
        self.opening = self._with_claim(self.customer.open())
        return self.opening

    def hear(self, text: str, desk_has_record: bool) -> str:
        """Take the agent's message; give the reply."""
        news = self.untold and desk_has_record and contradicts(text, self.problem.goal.intent)
        if news and is_kind(text):
            self.told.add(self.at)
        heard = LEXICON.understand(text)
        verdict = self.customer.judge(heard, desk_has_record)
        if verdict == "accepted" and self.untold:
            return self._say("accused" if news else "protest", PROTEST_COST)
        if verdict == "accepted" and self.at + 1 < len(self.problems):
            return self._go_on()
        if news and not (heard.asks or heard.offers or heard.questions):
            return self._say("accused" if self.untold else "surprised", 1)
        return self.customer.hear(heard, desk_has_record)

    def judge(self, text: str, desk_has_record: bool) -> str:
        """The verdict that ``hear`` would reach about a solution in it; changes nothing.

        ``settled`` stands for a right offer after which another problem follows.
        """
        verdict = self.customer.judge(LEXICON.understand(text), desk_has_record)
        if verdict != "accepted":
            return verdict
        told = contradicts(text, self.problem.goal.intent) and is_kind(text)
        if self.untold and not told:
            return ""
        return "accepted" if self.at + 1 == len(self.problems) else "settled"

    def take_note(self, text: str, desk_has_record: bool, answer: str) -> None:
        """Note what an agent said to a person who plays the customer, and who says ``answer``."""
        if self.judge(text, desk_has_record) == "settled":
            self._begin_next()
            self.opening = answer
        elif desk_has_record and contradicts(text, self.problem.goal.intent) and is_kind(text):
            self.told.add(self.at)

    def _go_on(self) -> str:
        """Tell the next problem."""
        self._begin_next()
        side = load_data("hard/phrasings")[self.split]
        intent, item = self.problem.goal.intent, self.problem.goal.item
        lines = side["second"][intent]
        if self.persona.terse:
            lines = load_data("phrasings")[self.split]["opening_terse"][intent]
        pick, manner = self.customer.manner.pick, self.customer.manner
        line = f"{pick(side['say']['more'])} {pick(lines).format(item=item)}"
        self.opening = self._with_claim(manner.put(line, (item,)))
        return self.opening

    def _begin_next(self) -> None:
        patience = self.customer.patience
        self.at += 1
        self.customer = self._with_problem(self.at)
        self.customer.patience = patience

    def _with_problem(self, at: int) -> Customer:
        return Customer(self.problems[at].goal, self.persona, self.split, self.rng)

    def _with_claim(self, opening: str) -> str:
        """Add what a record may contradict; the terse leave it out."""
        if not self.problem.claims or self.persona.terse:
            return opening
        claims = load_data("hard/phrasings")[self.split]["claim"][self.problem.goal.intent]
        claim = slips(self.customer.manner.pick(claims), self.persona.noise, self.rng)
        return f"{opening} {claim}"

    def _say(self, kind: str, cost: int) -> str:
        """Say a line of the hard tier at a price, or walk out if that is too much."""
        customer, lines = self.customer, load_data("hard/phrasings")[self.split]["say"]
        customer.patience -= cost
        if customer.patience <= 0:
            customer.verdict, kind = "walked out", "walkout"
            lines = load_data("phrasings")[self.split]["say"]
        return customer.manner.put(customer.manner.pick(lines[kind]))
