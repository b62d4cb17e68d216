"""The user of a consultation: what it knows, which advice it takes, and how it says things."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from rlchat_envs.consultation.goals import Goal
from rlchat_envs.consultation.spec import Sided
from rlchat_envs.nlu.lexicon import Heard
from rlchat_envs.users.agenda import Act, AgendaUser, mistaken
from rlchat_envs.users.personas import small_talk


@dataclass
class ConsultUser(AgendaUser[Goal, frozenset[str]]):
    """A user made of a scenario's file; ``shown`` are facts that the desk has shown.

    Advice is final once the user has told anything that matters: right if it is among the goal's
    right offers *and* follows from what was told, so that a lucky guess is no success. Beside the
    verdicts of every agenda there are ``unfounded`` and ``incomplete``.
    """

    remarks: set[str] = field(default_factory=set)  # that the agent has made

    def open(self) -> str:
        """Say what the problem is, and nothing that decides it."""
        line = self._worded(self.goal.problem.opening)
        return self.manner.put(self.goal.filled(line) if "{" in line else line)

    def hear(self, heard: Heard, shown: frozenset[str]) -> str:
        """Take the agent's message, and remember what it remarks; give the reply."""
        reply = super().hear(heard, shown)
        self.remarks |= set(heard.remarks)
        return reply

    @property
    def _facts(self) -> Collection[str]:
        return self.goal.problem.needs

    @property
    def _demands(self) -> Mapping[str, str]:
        spec = self.goal.spec
        called = {name: remark.called for name, remark in spec.remarks.items()}
        called |= {name: offer.called for name, offer in spec.offers.items()}
        return {name: called[name] for name in spec.demands if name not in self.goal.right}

    @property
    def _talk(self) -> Mapping[str, Sequence[str]]:
        return small_talk(self.split)

    @property
    def _kept(self) -> Sequence[str]:
        return [self.goal.shown[n] for n, f in self.goal.spec.facts.items() if f.like]

    def _lines(self, kind: str) -> Sequence[str]:
        return self.goal.spec.lines[kind][self.split]

    def _asks_first(self, heard: Heard) -> bool:
        """Nor is an offer final while the user still has to put a fact right."""
        return bool(self.misremembered) or super()._asks_first(heard)

    def _decide(self, heard: Heard, shown: frozenset[str]) -> str:
        needs = self.goal.problem.needs
        if len(heard.offers) > 1 or (needs and self.told.isdisjoint(needs)):
            return ""
        offer = heard.offers[0]
        if offer not in self.goal.right:
            return "indulged" if offer == self.demand else "rejected"
        if offer not in self.goal.evident(shown | self.told):
            return "unfounded"
        spec, said = self.goal.spec, self.remarks | set(heard.remarks)
        if said & spec.must_not_say.keys():
            return "indulged"  # content, and deceived
        return "accepted" if said.issuperset(spec.must_say) else "incomplete"

    def _doubt(self, heard: Heard, shown: frozenset[str]) -> str:
        return "unsure" if len(heard.offers) > 1 else "too_early"

    def _mistakes(self, fact: str) -> bool:
        return True

    def _tell(self, fact: str, wrongly: bool) -> str:
        spec, shown = self.goal.spec.facts[fact], self.goal.shown[fact]
        if spec.like:
            return self._worded(spec.answer).format(value=mistaken(shown) if wrongly else shown)
        value = self.goal.facts[fact]
        others = [v for v in self.goal.problem.possible[fact] if v != value]
        if wrongly and others:
            value = self.manner.pick(others)
        return self._worded(spec.values[value].said)

    def _fill(self, line: str, act: Act) -> str:
        answer = self._tell(act.fact, wrongly=False) if act.kind == "correct" else ""
        return line.format(fact=self.goal.spec.facts[act.fact].called, answer=answer)

    def _worded(self, said: Sided) -> str:
        """One wording; the terse choose among the shortest third."""
        lines: Sequence[str] = said[self.split]
        if self.persona.terse:
            lines = sorted(lines, key=len)[: -(-len(lines) // 3)]
        return self.manner.pick(lines)
