"""The customer: a goal, an agenda of things to say, and so much patience."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlchat_envs.support.goals import SLOTS, Goal, load_data
from rlchat_envs.support.personas import Persona
from rlchat_envs.support.understanding import Heard, understand

MAX_QUESTIONS = 2  # in one message; more confuse


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
    patience: int = 0
    verdict: str = ""  # "accepted", "rejected", "walked out"; empty while the talk goes on

    def __post_init__(self) -> None:
        """Start with the persona's patience."""
        self.patience = self.persona.patience

    def open(self) -> str:
        """Say what the problem is, and nothing that identifies it."""
        key = "opening_terse" if self.persona.terse else "opening"
        line = self._pick(self._phrasings[key][self.goal.intent])
        return self._flavoured(line.format(item=self.goal.item))

    def hear(self, text: str, desk_has_record: bool) -> str:
        """Take the agent's message; give the reply."""
        cost = self._plan(understand(text), desk_has_record)
        self.patience -= cost
        if self.patience <= 0 and not self.verdict:
            self.verdict = "walked out"
            self.agenda = [Act("walkout")]
        return self._speak()

    def judge(self, text: str, desk_has_record: bool) -> str:
        """The verdict that ``hear`` would reach about a solution in it; changes nothing."""
        heard = understand(text)
        offers = _meant(heard.offers)
        if _overwhelms(heard) or self._asks_first(heard) or len(offers) != 1 or not desk_has_record:
            return ""
        return "accepted" if offers[0] == self.goal.resolution else "rejected"

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
            return 0 if any(a.kind == "inform" for a in acts) else 1
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
        right = offers[0] == self.goal.resolution
        self.verdict = "accepted" if right else "rejected"
        self.agenda.append(Act("thanks" if right else "wrong"))
        return 0

    def _answer(self, slot: str) -> Act:
        if slot not in self.goal.facts:
            return Act("irrelevant", slot)
        if slot in self.told:
            return Act("already", slot)
        if slot not in self.looked_up and self.rng.random() < self.persona.forgets:
            self.looked_up.add(slot)
            return Act("lookup", slot)
        self.told.add(slot)
        return Act("inform", slot)

    def _speak(self) -> str:
        said = []
        while self.agenda:
            said.append(self._word(self.agenda.pop()))
        return self._flavoured(" ".join(said))

    def _word(self, act: Act) -> str:
        if act.kind == "inform":
            value = self.goal.facts[act.slot]
            if self.persona.terse:
                return f"{value[0].upper()}{value[1:]}."
            return self._pick(self._phrasings["answer"][act.slot]).format(value=value)
        line = self._pick(self._phrasings["say"][act.kind])
        return line.format(slot=SLOTS.get(act.slot, ""))

    def _flavoured(self, line: str) -> str:
        say = self._phrasings["say"]
        if self.rng.random() < self.persona.annoyed:
            line = f"{self._pick(say['grumbles'])} {line}"
        if self.rng.random() < self.persona.chatty:
            line = f"{line} {self._pick(say['asides'])}"
        return line

    @property
    def _phrasings(self) -> dict[str, dict[str, list[str]]]:
        return dict(load_data("phrasings")[self.split])

    def _pick(self, lines: object) -> str:
        assert isinstance(lines, list)
        return str(lines[self.rng.integers(len(lines))])


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
