"""Scripted desks that call functions: an expert, a mediocre one, and one that only reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlchat_envs.core.messages import Conversation
from rlchat_envs.core.tools import write_call, write_message
from rlchat_envs.scenarios.support.agents import Habits, Speaker
from rlchat_envs.scenarios.support.goals import INTENTS, RESOLUTIONS, SLOTS
from rlchat_envs.scenarios.support.graph_agent import Books as Read
from rlchat_envs.scenarios.support.graph_agent import easy_linker, read_books
from rlchat_envs.scenarios.support.tools.functions import ORDER, POLICY, TOPICS

_NUMBER = re.compile(r"\b[A-Z]\d{4}\b")


def call_order(number: str) -> str:
    """A call that looks up an order."""
    return write_call(ORDER, {"order_id": number})


def call_policy(intent: str) -> str:
    """A call that looks up the policy of an intent."""
    return write_call(POLICY, {"topic": INTENTS[intent].subject})


class CallingExpert:
    """Asks for the order number, looks up order and policy at once, and offers the right thing."""

    def __init__(self, seed: int = 0):
        """``seed`` chooses among wordings only."""
        self._speaker = Speaker(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say or call what is best."""
        speaker = self._speaker
        if not privileged["told_number"]:
            asked = speaker.ask(["order_number"], kind=True)
            return f"{speaker.manner(conversation)} {asked}"
        order = [] if privileged["has_record"] else [call_order(str(privileged["order_number"]))]
        policy = [] if privileged["has_policy"] else [call_policy(str(privileged["intent"]))]
        if order or policy:
            return write_message("", [*order, *policy])
        resolution, status = str(privileged["resolution"]), str(privileged["status"])
        return speaker.offer(resolution, status, kind=True)


@dataclass(frozen=True, slots=True)
class CallingHabits:
    """How often a mediocre desk calls badly, beside its easy habits; not a dial for PPO."""

    guesses_number: float = 0.15  # before the customer has told it
    wrong_topic: float = 0.25  # first, and so a needless call
    breaks_call: float = 0.15  # with an argument that there is not


class CallingMediocreDesk:
    """The demonstrator: has the bad habits of the desk without functions, and calls badly."""

    def __init__(self, seed: int = 0, habits: CallingHabits | None = None):
        """Make a desk; its generator decides when a habit shows."""
        self._speaker, self.easy = Speaker(seed), Habits()
        self.habits = habits or CallingHabits()
        self._begin("")

    def _begin(self, intent: str) -> None:
        chance, easy, habits = self._speaker.rng.random, self.easy, self.habits
        careless = intent in ("tracking", "cancel", "address", "damaged")
        self._useless = chance() < easy.asks_useless_first
        self._skips = chance() < (easy.skips_policy if careless else easy.skips_policy_elsewhere)
        self._first_rule = chance() < easy.reads_first_rule
        self._guesses = chance() < habits.guesses_number
        self._wrong = chance() < habits.wrong_topic
        self._breaks = chance() < habits.breaks_call
        self._singly = chance() < easy.one_at_a_time

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say or call what habit says."""
        if all(m.role != "assistant" for m in conversation):
            self._begin(str(privileged["intent"]))
        speaker, rng = self._speaker, self._speaker.rng
        kind = bool(rng.random() >= self.easy.curt)
        if self._useless:
            self._useless = False
            return speaker.ask([str(rng.choice(["email", "phone", "name"]))], kind)
        if self._guesses and not privileged["told_number"]:
            self._guesses = False
            return call_order(f"A{rng.integers(1000, 9999)}")
        if not privileged["told_number"]:
            return speaker.ask(["order_number"], kind)
        if calls := self._calls(privileged):
            return write_message("", calls[:1] if self._singly else calls)
        return speaker.offer(self._choose(privileged), str(privileged["status"]), kind)

    def _calls(self, privileged: Mapping[str, Any]) -> list[str]:
        """What it looks up next."""
        calls = []
        if not privileged["has_record"]:
            number = str(privileged["order_number"])
            calls += [write_call(ORDER, {"number": number})] if self._breaks else []
            self._breaks = False
            calls = calls or [call_order(number)]
        if not privileged["has_policy"] and not self._skips:
            others = [name for name in INTENTS if name != privileged["intent"]]
            wrong = str(self._speaker.rng.choice(others))
            calls.append(call_policy(wrong if self._wrong else str(privileged["intent"])))
            self._wrong = self._wrong and self._singly and len(calls) > 1  # then it was not said
        return calls

    def _choose(self, privileged: Mapping[str, Any]) -> str:
        if not privileged["has_policy"]:
            return next(iter(INTENTS[str(privileged["intent"])].outcomes.values()))[0]
        return str(privileged["policy"][0][1] if self._first_rule else privileged["resolution"])


class CallingRandomDesk:
    """Asks for anything, looks up anything or offers anything."""

    def __init__(self, seed: int = 0):
        """``seed`` decides everything it does."""
        self._speaker = Speaker(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Do something that a desk could do."""
        speaker, rng = self._speaker, self._speaker.rng
        kind = int(rng.integers(4))
        if kind == 0:
            return speaker.ask([str(rng.choice(list(SLOTS)))], kind=True)
        if kind == 1:
            return call_order(f"{rng.choice(list('ABCDEFGH'))}{rng.integers(1000, 9999)}")
        if kind == 2:
            return call_policy(str(rng.choice(list(INTENTS))))
        return speaker.offer(str(rng.choice(list(RESOLUTIONS))), "all clear", kind=True)


class CallingLinker:
    """Links the opening to a policy, looks it up with the order, and offers what the rule says.

    It reads the conversation only, never privileged information.
    """

    def __init__(self, seed: int = 0):
        """``seed`` chooses among wordings only."""
        self._speaker = Speaker(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say or call what the rules say about what has been understood so far."""
        read, speaker = read_books(conversation), self._speaker
        called = {m.content for m in conversation if m.role == "assistant"}
        if not read.status:
            told = [n for m in conversation if m.role == "user" for n in _NUMBER.findall(m.content)]
            tried = " ".join(called)
            if not told or told[-1] in tried:
                asked = speaker.ask(["order_number"], kind=True)
                return f"{speaker.manner(conversation)} {asked}"
            return call_order(told[-1])
        known = [TOPICS[subject] for subject in read.policies]
        fits = [name for name in known if read.rule(name)]
        intent = easy_linker().link(conversation, Read(status=read.status))
        if not fits and intent not in known:
            return call_policy(intent)
        return speaker.offer(read.rule((fits or [intent])[0]), read.status, kind=True)
