"""The agenda-based user: hears a message, plans what to say about it, and has so much patience."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from rlchat_envs.nlu.lexicon import Heard
from rlchat_envs.users.personas import Manner, Persona, small_talk

MAX_QUESTIONS = 2  # in one message; more confuse
MAX_OFFERS = 3
NEWS = ("inform", "misinform", "correct")  # acts that tell a fact
# What a verdict makes the user say; of another verdict there are lines of its own name.
CLOSING = {"accepted": "thanks", "indulged": "thanks", "rejected": "wrong"}

G = TypeVar("G")  # what the user wants, and what is true of the case
D = TypeVar("D")  # what the desk has shown, as far as the user's verdict depends on it


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to say: a kind of line, and the fact that it is about."""

    kind: str
    fact: str = ""


@dataclass
class AgendaUser(ABC, Generic[G, D]):
    """An agenda-based user simulator.

    Hearing a message pushes acts on the agenda, speaking pops them (Schatzmann et al. 2007,
    "Agenda-based user simulation for bootstrapping a POMDP dialogue system"). A message that
    brings nothing forward costs patience; at zero the user walks out. Forgetful users look a fact
    up first, or tell it wrongly and put that right with the next message.

    What the facts are, what is right and how things are worded is a scenario's to say: it
    implements the methods at the end.
    """

    goal: G
    persona: Persona
    split: str
    rng: np.random.Generator
    agenda: list[Act] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    looked_up: set[str] = field(default_factory=set)
    misremembered: str = ""  # the fact that was told wrongly and is put right next
    patience: int = 0
    demand: str = ""  # the offer, not a right one, that an adversarial user presses for
    verdict: str = ""  # accepted, rejected, indulged, walked out, …; empty while the talk goes on

    def __post_init__(self) -> None:
        """Start with the persona's patience, and with a demand if it makes any."""
        self.patience = self.persona.patience
        self.manner = Manner(self.persona, self.rng, self._talk)
        demands = self._demands
        if self.persona.tempts and demands:
            self.demand = self.manner.pick(list(demands))
            pressing = [line.format(offer=demands[self.demand]) for line in self._lines("demands")]
            temptations = [*small_talk(self.split)["temptations"], *pressing]
            self.manner.talk = {**self._talk, "temptations": temptations}

    def hear(self, heard: Heard, shown: D) -> str:
        """Take the agent's message; give the reply.

        Args:
            heard: what is in the message.
            shown: what the desk has shown.
        """
        wrong = self.misremembered
        cost = self._plan(heard, shown)
        if wrong and not self.verdict:
            self._put_right(wrong)
        self._lose_patience(cost)
        return self._speak()

    def wait(self) -> str:
        """Wait while the agent does something that brings nothing forward.

        Returns:
            The user's last words, if that was too much; nothing otherwise.
        """
        self._lose_patience(1)
        return self._speak() if self.verdict else ""

    def _lose_patience(self, cost: int) -> None:
        """Walk out once there is none left."""
        self.patience -= cost
        if self.patience <= 0 and not self.verdict:
            self.verdict = "walked out"
            self.agenda = [Act("walkout")]

    def judge(self, heard: Heard, shown: D) -> str:
        """The verdict that ``hear`` would reach about an offer in it; changes nothing."""
        if not heard.offers or _overwhelms(heard) or self._asks_first(heard):
            return ""
        return self._decide(heard, shown)

    def _plan(self, heard: Heard, shown: D) -> int:
        """Push what to say about it; return what it costs, in patience."""
        if _overwhelms(heard):
            self.agenda.append(Act("overwhelmed"))
            return 2
        if heard.offers and not self._asks_first(heard):
            return self._weigh(heard, shown)
        if heard.asks:
            acts = [self._answer(fact) for fact in heard.asks]
            self.agenda += reversed(acts)
            return 0 if any(act.kind in NEWS for act in acts) else 1
        self.agenda.append(Act("confused" if heard.questions else "stalled"))
        return 1

    def _asks_first(self, heard: Heard) -> bool:
        """Whether a fact is asked for that is still to be told: then no offer is final yet."""
        return any(fact in self._facts and fact not in self.told for fact in heard.asks)

    def _weigh(self, heard: Heard, shown: D) -> int:
        self.verdict = self._decide(heard, shown)
        if self.verdict:
            self.agenda.append(Act(CLOSING.get(self.verdict, self.verdict)))
            return 0
        self.agenda.append(Act(self._doubt(heard, shown)))
        return 2

    def _answer(self, fact: str) -> Act:
        if fact not in self._facts:
            return Act("irrelevant", fact)
        if fact == self.misremembered:
            return Act("correct", fact)
        if fact in self.told:
            return Act("already", fact)
        if fact not in self.looked_up and self.rng.random() < self.persona.forgets:
            self.looked_up.add(fact)
            return Act("lookup", fact)
        contradicts = self.persona.contradicts if self._mistakes(fact) else 0.0
        if contradicts and self.rng.random() < contradicts:
            self.misremembered = fact
            return Act("misinform", fact)
        self.told.add(fact)
        return Act("inform", fact)

    def _put_right(self, fact: str) -> None:
        self.agenda = [*(act for act in self.agenda if act.fact != fact), Act("correct", fact)]
        self.told.add(fact)
        if self.misremembered == fact:
            self.misremembered = ""

    def _speak(self) -> str:
        said = []
        while self.agenda:
            said.append(self._word(self.agenda.pop()))
        return self.manner.put(" ".join(said), self._kept)

    def _word(self, act: Act) -> str:
        if act.kind in ("inform", "misinform"):
            return self._tell(act.fact, wrongly=act.kind == "misinform")
        line = self.manner.pick(self._lines(act.kind))
        return self._fill(line, act) if "{" in line else line

    @property
    @abstractmethod
    def _facts(self) -> Collection[str]:
        """The facts that the user can tell."""

    @property
    @abstractmethod
    def _demands(self) -> Mapping[str, str]:
        """What an adversarial user may press for, and what it is called; nothing that is right."""

    @property
    @abstractmethod
    def _talk(self) -> Mapping[str, Sequence[str]]:
        """Grumbles, asides and temptations; see `Manner`."""

    @property
    @abstractmethod
    def _kept(self) -> Sequence[str]:
        """Pieces that slips spare, as what they say could be lost."""

    @abstractmethod
    def _lines(self, kind: str) -> Sequence[str]:
        """The wordings of one kind of line."""

    @abstractmethod
    def _decide(self, heard: Heard, shown: D) -> str:
        """The verdict on what is offered; empty if it is too early for one, or unclear."""

    @abstractmethod
    def _doubt(self, heard: Heard, shown: D) -> str:
        """What kind of line says why there is no verdict yet."""

    @abstractmethod
    def _mistakes(self, fact: str) -> bool:
        """Whether the fact is of a sort that a bad memory gets wrong."""

    @abstractmethod
    def _tell(self, fact: str, wrongly: bool) -> str:
        """Put a fact into words, or something else in its place."""

    @abstractmethod
    def _fill(self, line: str, act: Act) -> str:
        """A line with its placeholders filled."""


def mistaken(value: str) -> str:
    """A value as somebody with a bad memory has it: its last digit is the next one."""
    digits = [i for i, c in enumerate(value) if c.isdigit()]
    if not digits:
        return value[::-1]
    at = digits[-1]
    return f"{value[:at]}{(int(value[at]) + 1) % 10}{value[at + 1 :]}"


def _overwhelms(heard: Heard) -> bool:
    return heard.too_long or heard.questions > MAX_QUESTIONS or len(heard.offers) > MAX_OFFERS
