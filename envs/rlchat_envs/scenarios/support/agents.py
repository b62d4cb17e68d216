"""Scripted desks: the expert, a mediocre one to learn from, and baselines that must fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlchat_envs.core.messages import Conversation
from rlchat_envs.scenarios.support.goals import INTENTS, RESOLUTIONS, SLOTS, load_data


class Speaker:
    """Words the acts of a desk, kindly or curtly, from its own generator."""

    def __init__(self, seed: int | np.random.Generator):
        """``seed`` chooses among wordings."""
        self.rng = np.random.default_rng(seed)
        self.words = load_data("wording")

    def pick(self, lines: Sequence[str]) -> str:
        """Choose one of some wordings."""
        return lines[int(self.rng.integers(len(lines)))]

    def ask(self, slots: Sequence[str], kind: bool) -> str:
        """Ask for one fact or two."""
        if len(slots) == 1 or not kind:
            return self.pick(self.words["ask"]["kind" if kind else "curt"][slots[0]])
        both = self.words["both"]
        start, end = self.pick(both["start"]), self.pick(both["end"])
        return f"{start} {both[slots[0]]} and {both[slots[1]]}{end}"

    def offer(self, resolution: str, status: str, kind: bool) -> str:
        """Make an offer; the kind say what it is based on."""
        line = self.pick(self.words["offer"]["kind" if kind else "curt"][resolution])
        if not kind:
            return line
        return f"{self.pick(self.words['say']['status']).format(status=status)} {line}"

    def manner(self, conversation: Conversation) -> str:
        """How a kind question begins."""
        first = all(m.role != "assistant" for m in conversation)
        return self.pick(self.words["say"]["sorry" if first else "again"])


def missing_facts(privileged: Mapping[str, Any]) -> list[str]:
    """Facts that are not on the table yet, in the order in which a good desk asks for them."""
    missing = [] if privileged["has_record"] else ["order_number"]
    return missing if privileged["has_policy"] else [*missing, str(privileged["slot"])]


class Expert:
    """Asks for what is missing, both facts at once, reads, and offers the right thing kindly."""

    def __init__(self, seed: int | np.random.Generator = 0):
        """``seed`` chooses among wordings only."""
        self._speaker = Speaker(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what is best."""
        speaker, missing = self._speaker, missing_facts(privileged)
        if not missing:
            return speaker.offer(
                str(privileged["resolution"]), str(privileged["status"]), kind=True
            )
        return f"{speaker.manner(conversation)} {speaker.ask(missing, kind=True)}"


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a mediocre desk does what; fixed before PPO first ran, and not a dial for it."""

    asks_useless_first: float = 0.35
    one_at_a_time: float = 0.5
    curt: float = 0.5
    skips_policy: float = 0.7  # for the intents below
    skips_policy_elsewhere: float = 0.2
    reads_first_rule: float = 0.3  # of the policy, whatever the record says
    resolves_blind: float = 0.1  # before it knows the order


@dataclass(frozen=True, slots=True)
class Move:
    """What a desk means to say: facts it asks for, or a resolution."""

    asks: tuple[str, ...] = ()
    offer: str = ""
    kind: bool = True


_CARELESS_INTENTS = ("tracking", "cancel", "address", "damaged")


class MediocreDesk:
    """The demonstrator: knows the job, and does it with systematic bad habits.

    It asks for useless things first, skips the policy for some intents, is curt, reads only the
    first rule, and offers the usual thing before it knows the case.
    """

    def __init__(self, seed: int | np.random.Generator = 0, habits: Habits | None = None):
        """Make a desk; its generator decides when a habit shows."""
        self._speaker = Speaker(seed)
        self.habits = habits or Habits()
        self._begin("")

    def _begin(self, intent: str) -> None:
        chance, habits = self._speaker.rng.random, self.habits
        careless = intent in _CARELESS_INTENTS
        self._useless = chance() < habits.asks_useless_first
        self._singly = chance() < habits.one_at_a_time
        self._skips = chance() < (
            habits.skips_policy if careless else habits.skips_policy_elsewhere
        )
        self._first_rule = chance() < habits.reads_first_rule
        self._blind = chance() < habits.resolves_blind

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what habit says."""
        move = self.plan(conversation, privileged)
        if move.asks:
            return self._speaker.ask(move.asks, move.kind)
        return self._speaker.offer(move.offer, str(privileged["status"]), move.kind)

    def plan(self, conversation: Conversation, privileged: Mapping[str, Any]) -> Move:
        """Decide what to say."""
        if all(m.role != "assistant" for m in conversation):
            self._begin(str(privileged["intent"]))
        rng = self._speaker.rng
        kind = bool(rng.random() >= self.habits.curt)
        if self._useless:
            self._useless = False
            return Move((str(rng.choice(["email", "phone", "name"])),), kind=kind)
        if self._blind and not privileged["has_record"]:
            self._blind = False
            return Move(offer=self._usual(privileged), kind=False)
        missing = missing_facts(privileged)
        if missing and not (self._skips and privileged["has_record"]):
            if self._singly or self._skips or not kind:
                missing = missing[:1]
            return Move(tuple(missing), kind=kind)
        return Move(offer=self._choose(privileged), kind=kind)

    def _choose(self, privileged: Mapping[str, Any]) -> str:
        if not privileged["has_policy"]:
            return self._usual(privileged)
        return str(privileged["policy"][0][1] if self._first_rule else privileged["resolution"])

    @staticmethod
    def _usual(privileged: Mapping[str, Any]) -> str:
        """What such cases usually get: the first resolution of the first status."""
        return next(iter(INTENTS[str(privileged["intent"])].outcomes.values()))[0]


class RandomDesk:
    """Asks for anything or offers anything."""

    def __init__(self, seed: int = 0):
        """``seed`` decides everything it says."""
        self._speaker = Speaker(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say something that a desk could say."""
        rng = self._speaker.rng
        if rng.random() < 0.5:
            return self._speaker.ask([str(rng.choice(list(SLOTS)))], kind=True)
        return self._speaker.offer(str(rng.choice(list(RESOLUTIONS))), "all clear", kind=True)


class OneResolution:
    """Asks like the expert, and then always offers the same thing."""

    def __init__(self, resolution: str, seed: int = 0):
        """``resolution`` is what everybody gets."""
        self.resolution, self._speaker = resolution, Speaker(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Ask for what is missing, then offer the one thing."""
        missing = missing_facts(privileged)
        if missing:
            return self._speaker.ask(missing, kind=True)
        return self._speaker.offer(self.resolution, str(privileged["status"]), kind=True)


class Sprayer:
    """Asks for everything and offers everything, in every message."""

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say every keyword."""
        facts = ", ".join(SLOTS.values())
        return f"Please tell me {facts}. I can offer {', '.join(RESOLUTIONS.values())}."
