"""rlchat/GuessNumber-v0: the user thinks of a number, and says whether it is higher or lower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from rlchat_envs.core.protocols import ScriptedAgent
from rlchat_envs.scenarios.games.case import GuessCase
from rlchat_envs.scenarios.games.data import load_data
from rlchat_envs.scenarios.games.number_agents import Bisector, Demonstrator, Expert, RandomAgent
from rlchat_envs.scenarios.games.number_questions import NumberQuestion, read_reply, understand
from rlchat_envs.scenarios.games.player import Heard, Player, Question, Told
from rlchat_envs.users.persona_scenario import PersonaScenario
from rlchat_envs.users.personas import Persona

QUESTIONS = 12  # messages that the agent has
LARGEST = 1_000  # numbers in a range


class NumberRules:
    """The game over the whole numbers from ``low`` to ``high``."""

    def __init__(self, low: int, high: int):
        """Lay down the range."""
        self.low, self.high, self.limit = low, high, QUESTIONS
        self.secrets: Sequence[int] = range(low, high + 1)

    @property
    def system(self) -> str:
        """The agent's instructions."""
        return (
            f"Find the user's number from {self.low} to {self.high} with at most {self.limit} "
            "short questions."
        )

    def lines(self, split: str) -> Mapping[str, Sequence[str]]:
        """See `player.Rules`."""
        return _lines(split, self.low, self.high)

    def called(self, secret: int) -> str:
        """See `player.Rules`."""
        return str(secret)

    def card(self, secret: int) -> str:
        """See `player.Rules`."""
        return (
            f"You are thinking of the number {secret}, out of {self.low} to {self.high}. Answer "
            "truthfully; to a wrong guess, say whether your number is higher or lower."
        )

    def show(
        self, secret: int, told: Sequence[Told[int]], possible: Sequence[int]
    ) -> Mapping[str, Any]:
        """See `player.Rules`; ``low`` and ``high`` are the bounds of what is possible."""
        optimum = least_questions(len(self.secrets))
        return {"number": secret, "low": possible[0], "high": possible[-1], "optimum": optimum}

    def understand(self, text: str) -> Heard[int]:
        """See `player.Rules`."""
        return understand(text)

    def read(self, question: Question[int] | None, text: str) -> Sequence[Told[int]]:
        """See `player.Rules`."""
        return read_reply(question if isinstance(question, NumberQuestion) else None, text)

    def state(
        self,
        told: Told[int],
        before: Sequence[int],
        after: Sequence[int],
        pick: Callable[[str], str],
    ) -> str:
        """See `player.Rules`; all bounds that are known are named, the new one first."""
        question = told.question
        assert isinstance(question, NumberQuestion)
        if question.kind in ("multiple", "odd", "ends"):
            return _property(question, told.answer == "yes")
        if told.answer == "neither":
            return pick("neither").format(n=question.low)
        if told.answer == "no" and None not in (question.low, question.high):
            return pick("outside").format(low=question.low, high=question.high)
        higher = pick("higher").format(n=after[0] - 1) if after[0] > self.low else ""
        lower = pick("lower").format(n=after[-1] + 1) if after[-1] < self.high else ""
        new = after[-1] < before[-1] and after[0] == before[0]
        bounds = [bound for bound in ((lower, higher) if new else (higher, lower)) if bound]
        return ", ".join(bounds) or pick("range").format(low=self.low, high=self.high)


class GuessNumberScenario(PersonaScenario[int, GuessCase[int]]):
    """Guessing a number from 1 to 100; sides of the split differ in phrasings and personas."""

    def __init__(self, low: int = 1, high: int = 100):
        """Choose the range, ends included.

        Raises:
            ValueError: a range of fewer than 2 or more than 1,000 numbers.
        """
        if not 2 <= high - low + 1 <= LARGEST:
            raise ValueError(
                f"expected a range of 2 to {LARGEST} numbers; got {low} to {high}; change one of "
                "its ends"
            )
        self.rules = NumberRules(low, high)

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """The expert, the demonstrator, one that says anything, and one that only reads."""
        return {
            "expert": Expert,
            "demonstrator": Demonstrator,
            "random": RandomAgent,
            "knowledge-graph": Bisector,
        }

    @property
    def optimum(self) -> float:
        """Questions that the best strategy takes on average over all numbers."""
        return least_questions(len(self.rules.secrets))

    def draw(self, rng: np.random.Generator, split: str) -> int:
        """Draw a number."""
        return int(rng.choice(self.rules.secrets))

    def open(
        self, goal: int, persona: Persona, split: str, rng: np.random.Generator
    ) -> GuessCase[int]:
        """Open a user's game."""
        return GuessCase(Player(self.rules, goal, persona, split, rng))


@cache
def least_questions(count: int) -> float:
    """The least average number of questions to find one of ``count`` numbers.

    By dynamic programming over ranges, the right guess included. A guess that leaves k numbers
    below it and n-1-k above, or a comparison that splits n in k and n-k, is asked of all n; so for
    the sum over all numbers F(n) = n + min_k min(F(k) + F(n-1-k), F(k) + F(n-k)). As only the
    number of candidates counts, no other question with two answers can do better.
    """
    least = [0]
    for n in range(1, count + 1):
        guess = min(least[k] + least[n - 1 - k] for k in range(n))
        compare = min((least[k] + least[n - k] for k in range(1, n)), default=guess)
        least.append(n + min(guess, compare))
    return least[count] / count


@cache
def _lines(split: str, low: int, high: int) -> Mapping[str, Sequence[str]]:
    def placed(line: str) -> str:
        return line.replace("{from}", str(low)).replace("{to}", str(high))

    lines = load_data("number_words")[split]
    return {kind: [placed(line) for line in wordings] for kind, wordings in lines.items()}


def _property(question: NumberQuestion, holds: bool) -> str:
    terms = load_data("number_words")["terms"]
    if question.kind == "odd" or (question.kind, question.low) == ("multiple", 2):
        return str(terms["odd" if holds == (question.kind == "odd") else "even"])
    term = str(terms[question.kind]).format(n=question.low)
    return term if holds else f"not {term}"
