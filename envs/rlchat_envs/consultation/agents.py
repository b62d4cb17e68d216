"""Scripted agents of a consultation: the expert, a mediocre one to learn from, and any words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlchat_envs.consultation.spec import ConsultSpec
from rlchat_envs.core.messages import Conversation


class Wording:
    """Words the acts of an agent, kindly or curtly, from its own generator."""

    def __init__(self, spec: ConsultSpec, seed: int):
        """``seed`` chooses among wordings."""
        self.spec, self.rng = spec, np.random.default_rng(seed)

    def pick(self, lines: Sequence[str]) -> str:
        """Choose one of some wordings."""
        return lines[int(self.rng.integers(len(lines)))]

    def ask(self, names: Sequence[str], kind: bool) -> str:
        """Ask for one fact or two."""
        facts = [self.spec.facts[name] for name in names]
        if len(facts) == 1:
            return self.pick(facts[0].ask if kind else facts[0].curt)
        start, end = (self.pick(self.spec.words[word]) for word in ("start", "end"))
        return f"{start} {facts[0].both} and {facts[1].both}{end}"

    def offer(self, name: str, remarks: Sequence[str], kind: bool) -> str:
        """Make an offer, and say what has to be said with it."""
        offer = self.spec.offers[name]
        said = [self.pick(offer.say if kind else offer.curt)]
        said += [self.pick(self.spec.remarks[remark].say) for remark in remarks]
        return " ".join([self.pick(self.spec.words["known"]), *said] if kind else said)

    def manner(self, conversation: Conversation) -> str:
        """How an agent begins a kind message."""
        first = all(m.role != "assistant" for m in conversation)
        return self.pick(self.spec.words["hello" if first else "again"])


class Expert:
    """Asks for what is missing, two facts at once, and offers what follows from the answers."""

    def __init__(self, spec: ConsultSpec, seed: int = 0):
        """``seed`` chooses among wordings only."""
        self._say = Wording(spec, seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what is best."""
        if privileged["evident"] or not privileged["missing"]:
            offers = privileged["evident"] or privileged["right"]
            return self._say.offer(str(offers[0]), privileged["unsaid"], kind=True)
        asked = self._say.ask(privileged["missing"][:2], kind=True)
        return f"{self._say.manner(conversation)} {asked}"


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a mediocre agent does what; fixed before PPO first ran, and not a dial for it."""

    asks_useless_first: float = 0.25
    one_at_a_time: float = 0.5
    curt: float = 0.5
    skips: float = 0.35  # of the facts after the first
    usual: float = 0.25  # offers what such cases usually get, whatever it has heard
    leaves_out: float = 0.4  # what has to be said with an offer
    says_too_much: float = 0.25  # what must not be said


class Demonstrator:
    """Knows the job, and does it with systematic bad habits: skips questions, advises by habit."""

    def __init__(self, spec: ConsultSpec, seed: int = 0, habits: Habits | None = None):
        """Make one; its generator decides when a habit shows."""
        self._say, self.habits = Wording(spec, seed), habits or Habits()
        self._useless: list[str] = []
        self._singly = self._usual = False
        self._skipped: set[str] = set()

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what habit says."""
        if all(m.role != "assistant" for m in conversation):
            self._begin(str(privileged["problem"]))
        habits, say = self.habits, self._say
        kind = say.rng.random() >= habits.curt
        missing = [name for name in privileged["missing"] if name not in self._skipped]
        useless = self._useless
        self._useless = []
        if missing and not privileged["evident"]:
            asked = useless or missing[: 1 if self._singly else 2]
            said = say.ask(asked, kind)
            return f"{say.manner(conversation)} {said}" if kind else said
        return self._offer(privileged, kind)

    def _begin(self, problem: str) -> None:
        habits, rng, spec = self.habits, self._say.rng, self._say.spec
        needs = spec.problems[problem].needs
        other = [n for n, fact in spec.facts.items() if not fact.desk and n not in needs]
        useless = other and rng.random() < habits.asks_useless_first
        self._useless = [self._say.pick(other)] if useless else []
        self._singly = rng.random() < habits.one_at_a_time
        self._skipped = {name for name in needs[1:] if rng.random() < habits.skips}
        self._usual = rng.random() < habits.usual

    def _offer(self, privileged: Mapping[str, Any], kind: bool) -> str:
        habits, say, rng = self.habits, self._say, self._say.rng
        problem = say.spec.problems[str(privileged["problem"])]
        guess = problem.rules[-1].offers  # what is right unless something speaks against it
        offers = privileged["evident"] or guess
        if self._usual:
            offers = guess
        remarks = [name for name in privileged["unsaid"] if rng.random() >= habits.leaves_out]
        remarks += [name for name in say.spec.must_not_say if rng.random() < habits.says_too_much]
        return say.offer(say.pick(offers), remarks, kind)


class RandomAgent:
    """Asks for anything or offers anything."""

    def __init__(self, spec: ConsultSpec, seed: int = 0):
        """``seed`` decides everything it says."""
        self._say = Wording(spec, seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say something that an agent could say."""
        say = self._say
        if say.rng.random() < 0.5:
            facts = [name for name, fact in say.spec.facts.items() if not fact.desk]
            return say.ask([say.pick(facts)], kind=True)
        return say.offer(say.pick(list(say.spec.offers)), (), kind=True)


class Sprayer:
    """Asks for everything, offers everything and remarks everything, in every message."""

    def __init__(self, spec: ConsultSpec):
        """Take the words from ``spec``."""
        self._spec = spec

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say every keyword."""
        spec = self._spec
        facts = ", ".join(fact.called for fact in spec.facts.values() if not fact.desk)
        offers = ", ".join(offer.called for offer in spec.offers.values())
        remarks = " ".join(remark.say[0] for remark in spec.remarks.values())
        return f"Please tell me {facts}. I can offer {offers}. {remarks}"


class OneOffer:
    """Asks like the expert, and then always offers the same thing."""

    def __init__(self, spec: ConsultSpec, offer: str, seed: int = 0):
        """``offer`` is what everybody gets."""
        self._say, self._offer = Wording(spec, seed), offer

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Ask for what is missing, then offer the one thing."""
        if privileged["missing"]:
            return self._say.ask(privileged["missing"][:2], kind=True)
        return self._say.offer(self._offer, privileged["unsaid"], kind=True)
