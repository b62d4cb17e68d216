"""Scripted agents of FinanceFacts: some know, some read what the desk finds, some make it up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from rlchat_envs.core.messages import Conversation
from rlchat_envs.knowledge import Graph, Triple
from rlchat_envs.knowledge.triples import ALSO_CALLED
from rlchat_envs.nlu.words import fold
from rlchat_envs.scenarios.finance.products import draw_value, load_facts

_KNOWN = re.compile(r"Known: (.+?)(?: \([^()]*\))?")


class Wording:
    """Words answers, kindly or curtly, from its own generator."""

    def __init__(self, seed: int):
        """``seed`` chooses among wordings."""
        self.rng = np.random.default_rng(seed)
        self._data = load_facts()

    def pick(self, lines: Sequence[str]) -> str:
        """Choose one of some wordings."""
        return lines[int(self.rng.integers(len(lines)))]

    def answer(self, relation: str, product: str, value: str, kind: bool = True) -> str:
        """Say what is so."""
        if not kind:
            return f"{value}."
        line = self.pick(self._data["relations"][relation]["say"])
        manner = self.pick(self._data["agent"]["kind"])
        return f"{manner} {line.format(product=product, value=value)}"

    def unsure(self) -> str:
        """Say that one does not know."""
        return self.pick(self._data["agent"]["unsure"])

    def made_up(self, relation: str) -> str:
        """A value that could be so; names are those of the training side."""
        return draw_value(relation, "train", self.rng)


class Expert:
    """Knows all answers."""

    def __init__(self, seed: int = 0):
        """``seed`` chooses among wordings only."""
        self._say = Wording(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what is so."""
        relation, product = str(privileged["relation"]), str(privileged["product"])
        return self._say.answer(relation, product, str(privileged["answer"]))


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a mediocre agent does what; fixed before PPO first ran, and not a dial for it."""

    reads: float = 0.6  # what the desk has found
    makes_up: float = 0.5  # an answer, where it does not read or nothing was found
    curt: float = 0.5


class Demonstrator:
    """Answers from what the desk has found, if it cares to read; else it makes up, or hesitates."""

    def __init__(self, seed: int = 0, habits: Habits | None = None):
        """Make one; its generator decides when a habit shows."""
        self._say, self.habits = Wording(seed), habits or Habits()

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what habit says."""
        habits, say = self.habits, self._say
        relation, product = str(privileged["relation"]), str(privileged["product"])
        kind = say.rng.random() >= habits.curt
        if _holds(conversation, privileged["sought"]) and say.rng.random() < habits.reads:
            return say.answer(relation, product, str(privileged["answer"]), kind)
        if say.rng.random() < habits.makes_up:
            return say.answer(relation, product, say.made_up(relation), kind)
        return say.unsure()


class GraphReader:
    """Answers from the paths that the desk shows, and asks for patience where none answers."""

    def __init__(self, seed: int = 0):
        """``seed`` chooses among wordings only."""
        self._say = Wording(seed)
        relations = load_facts()["relations"].items()
        self._relations = {str(known["label"]): name for name, known in relations}

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what answers the question, as far as the conversation tells."""
        latest, *earlier = (m.content for m in reversed(conversation) if m.role == "user")
        paths = Graph(_known(conversation)).answer(latest, 1, earlier)
        if not paths:
            return self._say.unsure()
        first, last = paths[0].triples[0], paths[0].triples[-1]
        return self._say.answer(self._relations[last.relation], first.subject, last.object)


class RandomAgent:
    """Makes up an answer to any question."""

    def __init__(self, seed: int = 0):
        """``seed`` decides everything it says."""
        self._say = Wording(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say something that could be so."""
        relation = self._say.pick(list(load_facts()["relations"]))
        return self._say.answer(relation, "fund", self._say.made_up(relation))


class Sprayer:
    """States many values at once, right or wrong."""

    def __init__(self, seed: int = 0):
        """``seed`` decides which."""
        self._say = Wording(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Guess as much as fits into a message."""
        relations = load_facts()["relations"]
        return " ".join(
            self._say.answer(relation, "fund", self._say.made_up(relation), kind=False)
            for relation in (*relations, *relations)
        )


def _holds(conversation: Conversation, sought: Sequence[str]) -> bool:
    """Whether the desk has shown a text that answers."""
    shown = [fold(m.content) for m in conversation if m.role == "tool"]
    return any(fold(text) in found for text in sought for found in shown)


def _known(conversation: Conversation) -> list[Triple]:
    """The triples of all paths that the desk has shown; clients call things by their first word."""
    found: dict[Triple, None] = {}
    for message in conversation:
        match = _KNOWN.fullmatch(message.content) if message.role == "tool" else None
        if match:
            parts = match[1].split(" -> ")
            steps = zip(parts[::2], parts[1::2], islice(parts, 2, None, 2), strict=False)
            found |= dict.fromkeys(Triple(*step, "") for step in steps)
    names = dict.fromkeys(t.subject for t in found)
    return [*found, *(Triple(name, ALSO_CALLED, name.split()[0], "") for name in names)]
