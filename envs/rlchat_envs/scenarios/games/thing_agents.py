"""Scripted agents that find out what a user is thinking of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlchat_envs.core.messages import Conversation
from rlchat_envs.scenarios.games.thing_questions import ThingQuestion, read_reply, understand
from rlchat_envs.scenarios.games.things import load_things
from rlchat_envs.scenarios.games.tree import Node, best_tree

MISREAD = 0.02  # how often a reply is taken to tell the opposite
ASKED_OFTEN = 2  # times; who does not answer by then will not
_KINDS = (
    "animal",
    "person",
    "food",
    "plant",
    "place",
    "vehicle",
    "instrument",
    "worn",
    "household",
    "toolbox",
    "toy",
)
_IDLE = (
    "Hello there!",
    "That is interesting.",
    "Is it nice?",
    "Do you like it?",
    "Let me think.",
    "What is its name?",
    "It could be anything.",
)


def ask(attribute: str) -> str:
    """Put a question as all of these agents do."""
    return load_things().attributes[attribute].ask


def guess(thing: str) -> str:
    """Put a guess as all of these agents do."""
    return f"Is it {load_things().called(thing)}?"


class Expert:
    """Follows the tree that needs the fewest questions on average."""

    def __init__(self, seed: int = 0):
        """``seed`` changes nothing: there is one wording."""

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what is best."""
        tree, told = best_tree(), privileged["told"]
        while isinstance(tree, Node):
            if tree.attribute not in told:
                return ask(tree.attribute)
            tree = tree.yes if told[tree.attribute] else tree.no
        left = [thing for thing in tree.things if thing not in privileged["rejected"]]
        return guess((left or tree.things)[0])


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a mediocre agent does what; fixed before PPO first ran, and not a dial for it."""

    guesses_early: float = 0.4  # anything that is possible
    wastes: float = 0.25  # a question on one whose answer is clear
    few: int = 6  # things possible; from then on it only guesses


class Demonstrator:
    """Goes through kinds of things, then asks whatever still divides them, and guesses early."""

    def __init__(self, seed: int | np.random.Generator = 0, habits: Habits | None = None):
        """Make one; its generator decides everything it says."""
        self._rng, self.habits = np.random.default_rng(seed), habits or Habits()
        self._kinds: list[str] = []

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what habit says."""
        if all(m.role != "assistant" for m in conversation):
            self._kinds = [str(kind) for kind in self._rng.permutation(_KINDS)]
        told, attributes = privileged["told"], load_things().attributes
        possible = _possible(told, privileged["rejected"])
        chance = self._rng.random
        if chance() < self.habits.wastes:
            return ask(self._pick(list(attributes)))
        dividing = [
            name for name, a in attributes.items() if 0 < len(a.things & possible) < len(possible)
        ]
        kinds = [kind for kind in self._kinds if kind in dividing]
        if kinds and not any(told.get(kind) for kind in _KINDS):
            return ask(kinds[0])
        early = chance() < self.habits.guesses_early
        if early or len(possible) <= self.habits.few or not dividing:
            return guess(self._pick(sorted(possible) or list(load_things().names)))
        return ask(self._pick(dividing))

    def _pick(self, names: list[str]) -> str:
        return names[int(self._rng.integers(len(names)))]


class RandomAgent:
    """Asks for anything, guesses anything, or says something that is neither."""

    def __init__(self, seed: int = 0):
        """``seed`` decides everything it says."""
        self._rng = np.random.default_rng(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say anything."""
        things, kind = load_things(), self._rng.random()
        if kind < 0.5:
            return ask(str(self._rng.choice(list(things.attributes))))
        if kind < 0.8:
            return guess(str(self._rng.choice(list(things.names))))
        return str(self._rng.choice(_IDLE))


class KnowledgeGraphAgent:
    """Asks what tells most, by the graph and the conversation alone.

    It keeps a probability for each thing, as replies may be wrong or misread, and takes the
    attribute whose answer it is least sure of (Shannon entropy), or guesses where a guess tells
    more. It never reads privileged information.
    """

    def __init__(self, seed: int = 0):
        """``seed`` changes nothing: there is one wording."""
        things = load_things()
        self._names, self._attributes = list(things.names), list(things.attributes)
        self._rows = {name: row for row, name in enumerate(self._attributes)}
        self._columns = {name: column for column, name in enumerate(self._names)}
        self._true = np.array(
            [[name in a.things for name in self._names] for a in things.attributes.values()]
        )

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Ask or guess."""
        told, asked = _understood(conversation)
        chances = self._chances(told)
        known = {question.name for question in told if not question.is_guess}
        done = [a in known or asked[a] >= ASKED_OFTEN for a in self._attributes]
        telling = np.where(done, 0.0, _entropy(self._true @ chances))
        best, likeliest = int(np.argmax(telling)), int(np.argmax(chances))
        if _entropy(chances[likeliest : likeliest + 1])[0] >= telling[best] - 1e-9:
            return guess(self._names[likeliest])
        return ask(self._attributes[best])

    def _chances(self, told: Mapping[ThingQuestion, bool]) -> NDArray[np.float64]:
        """The probability of each thing, given attributes and rejected guesses."""
        chances = np.ones(len(self._names))
        for question, holds in told.items():
            if question.is_guess:
                chances[self._columns[question.name]] *= MISREAD
            else:
                fits = self._true[self._rows[question.name]] == holds
                chances *= np.where(fits, 1 - MISREAD, MISREAD)
        return np.asarray(chances / chances.sum())


def _possible(told: Mapping[str, bool], rejected: tuple[str, ...]) -> frozenset[str]:
    """The things that fit what was told."""
    things = load_things()
    left = frozenset(things.names).difference(rejected)
    for name, holds in told.items():
        true = things.attributes[name].things
        left = left & true if holds else left - true
    return left


def _understood(conversation: Conversation) -> tuple[dict[ThingQuestion, bool], Counter[str]]:
    """What was told, later replies before earlier ones, and how often what was asked."""
    told: dict[ThingQuestion, bool] = {}
    asked: Counter[str] = Counter()
    latest: ThingQuestion | None = None
    for message in conversation[2:]:
        if message.role == "assistant":
            heard = understand(message.content).questions
            latest = heard[0] if len(heard) == 1 and isinstance(heard[0], ThingQuestion) else None
            asked.update([latest.name] if latest else [])
        elif message.role == "user":
            for one in read_reply(latest, message.content):
                assert isinstance(one.question, ThingQuestion)
                told[one.question] = one.answer == "yes"
    return told, asked


def _entropy(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """The entropy of yes-or-no answers, in bits, by the probability of a yes."""
    p = np.clip(chances, 1e-12, 1 - 1e-12)
    return np.asarray(-p * np.log2(p) - (1 - p) * np.log2(1 - p))
