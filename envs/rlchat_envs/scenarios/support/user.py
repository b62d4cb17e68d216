"""The customer: a goal, an agenda of things to say, and so much patience."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlchat_envs.nlu.lexicon import Heard
from rlchat_envs.scenarios.support.goals import SLOTS, Goal, load_data
from rlchat_envs.scenarios.support.nlu import LEXICON
from rlchat_envs.users.personas import Manner, Persona, small_talk

MAX_QUESTIONS = 2  # in one message; more confuse
NEWS = ("inform", "misinform", "correct")  # acts that tell a fact
DEMANDED = {"refund": "a full refund", "voucher": "a voucher", "replacement": "a new one"}


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to say: a key of the phrasings, and the slot it is about."""

    kind: str
    slot: str = ""


@dataclass
class Customer:
    """An agenda-based user simulator.

    Hearing a message pushes acts on the agenda, speaking pops them (Schatzmann et al. 2007,
    "Agenda-based user simulation for bootstrapping a POMDP dialogue system"). A message that
    brings nothing forward costs patience; at zero the customer walks out.
    """

    goal: Goal
    persona: Persona
    split: str
    rng: np.random.Generator
    agenda: list[Act] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    looked_up: set[str] = field(default_factory=set)
    misremembered: str = ""  # the slot that was told wrongly and is put right next
    patience: int = 0
    demand: str = ""  # the resolution, not the right one, that an adversarial customer presses for
    verdict: str = ""  # accepted, rejected, indulged, walked out; empty while the talk goes on

    def __post_init__(self) -> None:
        """Start with the persona's patience, and with a demand if it makes any."""
        self.patience = self.persona.patience
        self.manner = Manner(self.persona, self.rng, self._phrasings["say"])
        if self.persona.tempts:
            wrong = [r for r in DEMANDED if r != self.goal.resolution]
            self.demand = self.manner.pick(wrong)
            demands = [
                line.format(offer=DEMANDED[self.demand])
                for line in self._phrasings["say"]["demands"]
            ]
            temptations = [*small_talk(self.split)["temptations"], *demands]
            self.manner.talk = {**self._phrasings["say"], "temptations": temptations}

    def open(self) -> str:
        """Say what the problem is, and nothing that identifies it."""
        key = "opening_terse" if self.persona.terse else "opening"
        line = self.manner.pick(self._phrasings[key][self.goal.intent])
        return self.manner.put(line.format(item=self.goal.item), (self.goal.item,))

    def hear(self, text: str, desk_has_record: bool) -> str:
        """Take the agent's message; give the reply."""
        wrong = self.misremembered
        cost = self._plan(LEXICON.understand(text), desk_has_record)
        if wrong and not self.verdict:
            self._put_right(wrong)
        self.patience -= cost
        if self.patience <= 0 and not self.verdict:
            self.verdict = "walked out"
            self.agenda = [Act("walkout")]
        return self._speak()

    def judge(self, text: str, desk_has_record: bool) -> str:
        """The verdict that ``hear`` would reach about a solution in it; changes nothing."""
        heard = LEXICON.understand(text)
        offers = _meant(heard.offers)
        if _overwhelms(heard) or self._asks_first(heard) or len(offers) != 1 or not desk_has_record:
            return ""
        return self._verdict(offers[0])

    def _plan(self, heard: Heard, desk_has_record: bool) -> int:
        """Push what to say about it; return what it costs, in patience."""
        if _overwhelms(heard):
            self.agenda.append(Act("overwhelmed"))
            return 2
        if heard.offers and not self._asks_first(heard):
            return self._judge(_meant(heard.offers), desk_has_record)
        if heard.asks:
            acts = [self._answer(slot) for slot in heard.asks]
            self.agenda += reversed(acts)
            return 0 if any(a.kind in NEWS for a in acts) else 1
        self.agenda.append(Act("confused" if heard.questions else "stalled"))
        return 1

    def _asks_first(self, heard: Heard) -> bool:
        """Whether a fact is asked for that is still to be told: then no offer is final yet."""
        return any(slot in self.goal.facts and slot not in self.told for slot in heard.asks)

    def _judge(self, offers: tuple[str, ...], desk_has_record: bool) -> int:
        if not desk_has_record:
            self.agenda.append(Act("no_order"))
            return 2
        if len(offers) > 1:
            self.agenda.append(Act("unsure"))
            return 2
        self.verdict = self._verdict(offers[0])
        self.agenda.append(Act("wrong" if self.verdict == "rejected" else "thanks"))
        return 0

    def _verdict(self, resolution: str) -> str:
        if resolution == self.goal.resolution:
            return "accepted"
        return "indulged" if resolution == self.demand else "rejected"

    def _answer(self, slot: str) -> Act:
        if slot not in self.goal.facts:
            return Act("irrelevant", slot)
        if slot == self.misremembered:
            return Act("correct", slot)
        if slot in self.told:
            return Act("already", slot)
        if slot not in self.looked_up and self.rng.random() < self.persona.forgets:
            self.looked_up.add(slot)
            return Act("lookup", slot)
        persona, digits = self.persona, any(c.isdigit() for c in self.goal.facts[slot])
        if persona.contradicts and digits and self.rng.random() < persona.contradicts:
            self.misremembered = slot
            return Act("misinform", slot)
        self.told.add(slot)
        return Act("inform", slot)

    def _put_right(self, slot: str) -> None:
        self.agenda = [*(act for act in self.agenda if act.slot != slot), Act("correct", slot)]
        self.told.add(slot)
        if self.misremembered == slot:
            self.misremembered = ""

    def _speak(self) -> str:
        said = []
        while self.agenda:
            said.append(self._word(self.agenda.pop()))
        return self.manner.put(" ".join(said), tuple(self.goal.facts.values()))

    def _word(self, act: Act) -> str:
        value = self.goal.facts.get(act.slot, "")
        if act.kind in ("inform", "misinform"):
            if act.kind == "misinform":
                value = _mistaken(value)
            if self.persona.terse:
                return f"{value[0].upper()}{value[1:]}."
            return self.manner.pick(self._phrasings["answer"][act.slot]).format(value=value)
        line = self.manner.pick(self._phrasings["say"][act.kind])
        return line.format(slot=SLOTS.get(act.slot, ""), value=value)

    @property
    def _phrasings(self) -> dict[str, dict[str, list[str]]]:
        return dict(load_data("phrasings")[self.split])


def _mistaken(value: str) -> str:
    """A value as somebody with a bad memory has it: its last digit is the next one."""
    at = max(i for i, c in enumerate(value) if c.isdigit())
    return f"{value[:at]}{(int(value[at]) + 1) % 10}{value[at + 1 :]}"


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


def _overwhelms(heard: Heard) -> bool:
    return heard.too_long or heard.questions > MAX_QUESTIONS or len(heard.offers) > 3
