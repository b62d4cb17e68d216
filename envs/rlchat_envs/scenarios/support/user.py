"""The customer: what it knows of its order, which solution is right, and how it says things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlchat_envs.nlu.lexicon import Heard
from rlchat_envs.scenarios.support.goals import SLOTS, Goal, load_data
from rlchat_envs.users.agenda import Act, AgendaUser, mistaken

DEMANDED = {"refund": "a full refund", "voucher": "a voucher", "replacement": "a new one"}


class Customer(AgendaUser[Goal, bool]):
    """Decides once the desk has the record: ``shown`` tells whether it has."""

    def open(self) -> str:
        """Say what the problem is, and nothing that identifies it."""
        key = "opening_terse" if self.persona.terse else "opening"
        line = self.manner.pick(self._phrasings[key][self.goal.intent])
        return self.manner.put(line.format(item=self.goal.item), (self.goal.item,))

    @property
    def _facts(self) -> Mapping[str, str]:
        return self.goal.facts

    @property
    def _demands(self) -> Mapping[str, str]:
        return {offer: to for offer, to in DEMANDED.items() if offer != self.goal.resolution}

    @property
    def _talk(self) -> Mapping[str, Sequence[str]]:
        talk: Mapping[str, Sequence[str]] = self._phrasings["say"]
        return talk

    @property
    def _kept(self) -> Sequence[str]:
        return tuple(self.goal.facts.values())

    def _lines(self, kind: str) -> Sequence[str]:
        return self._talk[kind]

    def _decide(self, heard: Heard, shown: bool) -> str:
        offers = _meant(heard.offers)
        if len(offers) > 1 or not shown:
            return ""
        if offers[0] == self.goal.resolution:
            return "accepted"
        return "indulged" if offers[0] == self.demand else "rejected"

    def _doubt(self, heard: Heard, shown: bool) -> str:
        return "unsure" if shown else "no_order"

    def _mistakes(self, fact: str) -> bool:
        return any(c.isdigit() for c in self.goal.facts[fact])

    def _tell(self, fact: str, wrongly: bool) -> str:
        value = mistaken(self.goal.facts[fact]) if wrongly else self.goal.facts[fact]
        if self.persona.terse:
            return f"{value[0].upper()}{value[1:]}."
        return self.manner.pick(self._phrasings["answer"][fact]).format(value=value)

    def _fill(self, line: str, act: Act) -> str:
        return line.format(slot=SLOTS.get(act.fact, ""), value=self.goal.facts.get(act.fact, ""))

    @property
    def _phrasings(self) -> Mapping[str, Any]:
        phrasings: Mapping[str, Any] = load_data("phrasings")[self.split]
        return phrasings


def _meant(offers: tuple[str, ...]) -> tuple[str, ...]:
    """The solution that a message comes down to.

    Money back is part of calling an order off and of sending it back, and "it will be with you
    on Friday" may go with anything.
    """
    if "refund" in offers and ("cancellation" in offers or "send_back" in offers):
        offers = tuple(o for o in offers if o != "refund")
    if len(offers) > 1:
        offers = tuple(o for o in offers if o != "wait")
    return offers
