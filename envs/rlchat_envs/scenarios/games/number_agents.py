"""Scripted agents that look for a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlchat_envs.core.messages import Conversation
from rlchat_envs.scenarios.games.number_questions import NumberQuestion, read_reply, understand
from rlchat_envs.scenarios.games.player import Told

_IDLE = (
    "Hello there!",
    "That is interesting.",
    "Is it a nice number?",
    "I like numbers.",
    "Let me think.",
    "Is it above {n} or is it {n}?",
    "Maybe {n}, maybe not.",
)


def guess(number: int) -> str:
    """Put a guess as all of these agents do."""
    return f"Is it {number}?"


class Expert:
    """Guesses the middle of what is possible, which is optimal."""

    def __init__(self, seed: int = 0):
        """``seed`` changes nothing: there is one wording."""

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what is best."""
        return guess((privileged["low"] + privileged["high"]) // 2)


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a mediocre agent does what; fixed before PPO first ran, and not a dial for it."""

    repeats: float = 0.06  # its last guess
    ignores: float = 0.22  # what it has been told


class Demonstrator:
    """Guesses anywhere in what is possible; repeats itself and ignores replies now and then."""

    def __init__(self, seed: int | np.random.Generator = 0, habits: Habits | None = None):
        """Make one; its generator decides everything it says."""
        self._rng, self.habits = np.random.default_rng(seed), habits or Habits()
        self._last = ""

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what habit says."""
        if all(m.role != "assistant" for m in conversation):
            self._last, self._range = "", (privileged["low"], privileged["high"])
        low, high = privileged["low"], privileged["high"]
        if self._last and self._rng.random() < self.habits.repeats:
            return self._last
        if self._rng.random() < self.habits.ignores:
            low, high = self._range
        self._last = guess(int(self._rng.integers(low, high + 1)))
        return self._last


class RandomAgent:
    """Guesses any number, or says something that is no guess."""

    def __init__(self, seed: int = 0):
        """``seed`` decides everything it says."""
        self._rng = np.random.default_rng(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say anything."""
        n = int(self._rng.integers(1, 101))
        if self._rng.random() < 0.4:
            return guess(n)
        return _IDLE[int(self._rng.integers(len(_IDLE)))].format(n=n)


class Bisector:
    """Halves the range that it reads in the conversation; never reads privileged information."""

    def __init__(self, seed: int = 0):
        """``seed`` changes nothing: there is one wording."""

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Guess the middle of what fits the latest replies."""
        (instructions, *_) = read_reply(None, conversation[0].content)
        bounds = instructions.question
        assert isinstance(bounds, NumberQuestion)
        assert bounds.low is not None and bounds.high is not None
        possible = list(range(bounds.low, bounds.high + 1))
        for told in _told(conversation):
            possible = [n for n in possible if told.fits(n)] or possible
        return guess(possible[(len(possible) - 1) // 2])


def _told(conversation: Conversation) -> list[Told[int]]:
    """What the user has told, the latest first, as that puts earlier things right."""
    found: list[Told[int]] = []
    asked: NumberQuestion | None = None
    for message in conversation[2:]:
        if message.role == "assistant":
            questions = understand(message.content).questions
            one = questions[0] if len(questions) == 1 else None
            asked = one if isinstance(one, NumberQuestion) else None
        elif message.role == "user":
            found += read_reply(asked, message.content)
    return found[::-1]
