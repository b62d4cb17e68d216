"""The user of a consultation: a goal, an agenda of things to say, and so much patience."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rlchat_envs.consultation.goals import Goal
from rlchat_envs.consultation.spec import Sided
from rlchat_envs.nlu.lexicon import Heard
from rlchat_envs.users.personas import Manner, Persona, small_talk

MAX_QUESTIONS = 2  # in one message; more confuse
MAX_OFFERS = 3
NEWS = ("inform", "misinform", "correct")  # acts that tell a fact
OVER = ("accepted", "rejected", "unfounded", "incomplete", "indulged", "walked out")


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to say, and the fact it is about."""

    kind: str
    fact: str = ""


@dataclass
class ConsultUser:
    """An agenda-based user simulator (Schatzmann et al. 2007), made of a scenario's file.

    A message that brings nothing forward costs patience; at zero the user walks out. Advice
    is final once the user has told anything that matters: right if it is among the goal's right
    offers *and* follows from what was told, so that a lucky guess is no success.
    """

    goal: Goal
    persona: Persona
    split: str
    rng: np.random.Generator
    told: dict[str, None] = field(default_factory=dict)
    agenda: list[Act] = field(default_factory=list)
    looked_up: set[str] = field(default_factory=set)
    remarks: set[str] = field(default_factory=set)  # that the agent has made
    misremembered: str = ""  # the fact that was told wrongly and is put right next
    patience: int = 0
    demand: str = ""  # what an adversarial user presses for
    verdict: str = ""  # one of OVER; empty while the talk goes on

    def __post_init__(self) -> None:
        """Start with the persona's patience, and with a demand if it makes any."""
        self.patience = self.persona.patience
        talk = small_talk(self.split)
        self.manner = Manner(self.persona, self.rng, talk)
        wrong = [name for name in self.goal.spec.demands if name not in self.goal.right]
        if self.persona.tempts and wrong:
            self.demand = self.manner.pick(wrong)
            spec = self.goal.spec
            named = spec.offers if self.demand in spec.offers else spec.remarks
            called = named[self.demand].called
            demands = [line.format(offer=called) for line in self._lines("demands")]
            self.manner.talk = {**talk, "temptations": [*talk["temptations"], *demands]}

    def open(self) -> str:
        """Say what the problem is, and nothing that decides it."""
        line = self._worded(self.goal.problem.opening)
        return self.manner.put(self.goal.filled(line) if "{" in line else line)

    def hear(self, heard: Heard, on_the_table: frozenset[str]) -> str:
        """Take the agent's message; give the reply.

        Args:
            heard: what is in it.
            on_the_table: facts that the desk has shown.
        """
        wrong = self.misremembered
        cost = self._plan(heard, on_the_table)
        self.remarks |= set(heard.remarks)
        if wrong and not self.verdict:
            self._put_right(wrong)
        self.patience -= cost
        if self.patience <= 0 and not self.verdict:
            self.verdict = "walked out"
            self.agenda = [Act("walkout")]
        return self._speak()

    def judge(self, heard: Heard, on_the_table: frozenset[str]) -> str:
        """The verdict that ``hear`` would reach about an offer in it; changes nothing."""
        if _overwhelms(heard) or self._is_question(heard) or len(heard.offers) != 1:
            return ""
        offer, problem = heard.offers[0], self.goal.problem
        if problem.needs and not any(name in self.told for name in problem.needs):
            return ""
        if offer not in self.goal.right:
            return "indulged" if offer == self.demand else "rejected"
        if offer not in self.goal.evident(frozenset(self.told) | on_the_table):
            return "unfounded"
        spec, said = self.goal.spec, self.remarks | set(heard.remarks)
        if said & spec.must_not_say.keys():
            return "indulged"  # content, and deceived
        return "accepted" if said.issuperset(spec.must_say) else "incomplete"

    def _plan(self, heard: Heard, on_the_table: frozenset[str]) -> int:
        """Push what to say about it; return what it costs, in patience."""
        if _overwhelms(heard):
            self.agenda.append(Act("overwhelmed"))
            return 2
        if heard.offers and not self._is_question(heard):
            return self._weigh(heard, on_the_table)
        if heard.asks:
            acts = [self._answer(name) for name in heard.asks]
            self.agenda += reversed(acts)
            return 0 if any(act.kind in NEWS for act in acts) else 1
        self.agenda.append(Act("confused" if heard.questions else "stalled"))
        return 1

    def _is_question(self, heard: Heard) -> bool:
        """Whether something is asked that is still to be told: then no offer is final yet."""
        needs = self.goal.problem.needs
        return bool(self.misremembered) or any(
            name in needs and name not in self.told for name in heard.asks
        )

    def _weigh(self, heard: Heard, on_the_table: frozenset[str]) -> int:
        self.verdict = self.judge(heard, on_the_table)
        if self.verdict:
            kinds = {"accepted": "thanks", "indulged": "thanks", "rejected": "wrong"}
            self.agenda.append(Act(kinds.get(self.verdict, self.verdict)))
            return 0
        self.agenda.append(Act("unsure" if len(heard.offers) > 1 else "too_early"))
        return 2

    def _answer(self, name: str) -> Act:
        if name not in self.goal.problem.needs:
            return Act("irrelevant", name)
        if name == self.misremembered:
            return Act("correct", name)
        if name in self.told:
            return Act("already", name)
        if name not in self.looked_up and self.rng.random() < self.persona.forgets:
            self.looked_up.add(name)
            return Act("lookup", name)
        if self.persona.contradicts and self.rng.random() < self.persona.contradicts:
            self.misremembered = name
            return Act("misinform", name)
        self.told[name] = None
        return Act("inform", name)

    def _put_right(self, name: str) -> None:
        self.agenda = [*(act for act in self.agenda if act.fact != name), Act("correct", name)]
        self.told[name] = None
        if self.misremembered == name:
            self.misremembered = ""

    def _speak(self) -> str:
        said = []
        while self.agenda:
            said.append(self._word(self.agenda.pop()))
        free = [self.goal.shown[n] for n, f in self.goal.spec.facts.items() if f.like]
        return self.manner.put(" ".join(said), free)

    def _word(self, act: Act) -> str:
        if act.kind in ("inform", "misinform"):
            return self._fact(act.fact, act.kind == "misinform")
        line = self.manner.pick(self._lines(act.kind))
        if "{" not in line:
            return line
        fact = self.goal.spec.facts[act.fact]
        answer = self._fact(act.fact, False) if act.kind == "correct" else ""
        return line.format(fact=fact.called, answer=answer)

    def _fact(self, name: str, wrongly: bool) -> str:
        """Tell a fact, or something else in its place."""
        fact, shown = self.goal.spec.facts[name], self.goal.shown[name]
        if fact.like:
            value = _mistaken(shown) if wrongly else shown
            return self._worded(fact.answer).format(value=value)
        value = self.goal.facts[name]
        others = [v for v in self.goal.problem.possible[name] if v != value]
        if wrongly and others:
            value = self.manner.pick(others)
        return self._worded(fact.values[value].said)

    def _worded(self, said: Sided) -> str:
        """One wording; the terse choose among the shortest third."""
        lines: Sequence[str] = said[self.split]
        if self.persona.terse:
            lines = sorted(lines, key=len)[: -(-len(lines) // 3)]
        return self.manner.pick(lines)

    def _lines(self, kind: str) -> tuple[str, ...]:
        return self.goal.spec.lines[kind][self.split]


def _overwhelms(heard: Heard) -> bool:
    return heard.too_long or heard.questions > MAX_QUESTIONS or len(heard.offers) > MAX_OFFERS


def _mistaken(value: str) -> str:
    """A value as somebody with a bad memory has it: its last digit is the next one."""
    digits = [i for i, c in enumerate(value) if c.isdigit()]
    if not digits:
        return value[::-1]
    at = digits[-1]
    return f"{value[:at]}{(int(value[at]) + 1) % 10}{value[at + 1 :]}"
