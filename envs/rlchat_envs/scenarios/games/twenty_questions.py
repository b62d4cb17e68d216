"""rlchat/TwentyQuestions-v0: the user thinks of a thing, and says yes or no."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from rlchat_envs.core.protocols import ScriptedAgent
from rlchat_envs.scenarios.games.case import GuessCase
from rlchat_envs.scenarios.games.data import load_data
from rlchat_envs.scenarios.games.player import Heard, Player, Question, Told
from rlchat_envs.scenarios.games.thing_agents import (
    Demonstrator,
    Expert,
    KnowledgeGraphAgent,
    RandomAgent,
)
from rlchat_envs.scenarios.games.thing_questions import ThingQuestion, read_reply, understand
from rlchat_envs.scenarios.games.things import Things, load_things
from rlchat_envs.scenarios.games.tree import best_tree, questions
from rlchat_envs.users.persona_scenario import PersonaScenario
from rlchat_envs.users.personas import Persona

if TYPE_CHECKING:
    from rlchat_envs.knowledge import Triple

QUESTIONS = 20  # messages that the agent has
SOURCE = "the game's list of things"
_DEALT = ("train", "dev", "train", "test", "train")  # how things are dealt to the sides


class ThingRules:
    """The game over our graph of things."""

    def __init__(self, things: Things):
        """Play with ``things``."""
        self.things, self.limit = things, QUESTIONS
        self.secrets: Sequence[str] = things.names

    @property
    def system(self) -> str:
        """The agent's instructions."""
        return (
            f"Find out what the user is thinking of with at most {self.limit} short yes-or-no "
            "questions."
        )

    def lines(self, split: str) -> Mapping[str, Sequence[str]]:
        """See `player.Rules`."""
        lines: Mapping[str, Sequence[str]] = load_data("thing_words")[split]
        return lines

    def called(self, secret: str) -> str:
        """See `player.Rules`."""
        return self.things.called(secret)

    def card(self, secret: str) -> str:
        """See `player.Rules`."""
        return (
            f"You are thinking of this: {self.called(secret)}. Answer the agent's questions "
            "truthfully, with yes or no."
        )

    def show(
        self, secret: str, told: Sequence[Told[str]], possible: Sequence[str]
    ) -> Mapping[str, Any]:
        """See `player.Rules`; ``told`` maps attributes to whether they hold."""
        asked = [(t.question, t.answer) for t in told if isinstance(t.question, ThingQuestion)]
        return {
            "thing": secret,
            "told": {q.name: answer == "yes" for q, answer in asked if not q.is_guess},
            "rejected": tuple(q.name for q, _ in asked if q.is_guess),
            "optimum": least_questions(),
        }

    def understand(self, text: str) -> Heard[str]:
        """See `player.Rules`."""
        return understand(text)

    def read(self, question: Question[str] | None, text: str) -> Sequence[Told[str]]:
        """See `player.Rules`."""
        asked = question if isinstance(question, ThingQuestion) else None
        return read_reply(asked, text)

    def state(
        self,
        told: Told[str],
        before: Sequence[str],
        after: Sequence[str],
        pick: Callable[[str], str],
    ) -> str:
        """See `player.Rules`."""
        question = told.question
        assert isinstance(question, ThingQuestion)
        if question.is_guess:
            return f"it isn't {self.called(question.name)}"
        return self.things.attributes[question.name].states(told.answer == "yes")


class ThingCase(GuessCase[str]):
    """One game about a thing."""

    @property
    def triples(self) -> tuple[Triple, ...]:
        """What is true of every thing, and what else it is called."""
        return _triples()


class TwentyQuestionsScenario(PersonaScenario[str, ThingCase]):
    """Twenty questions; sides of the split differ in things, phrasings and personas."""

    def __init__(self) -> None:
        """Take our graph."""
        self.rules = ThingRules(load_things())

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """The expert, the demonstrator, one that says anything, and one that only reads."""
        return {
            "expert": Expert,
            "demonstrator": Demonstrator,
            "random": RandomAgent,
            "knowledge-graph": KnowledgeGraphAgent,
        }

    @property
    def optimum(self) -> float:
        """Questions that the best strategy takes on average over all things."""
        return least_questions()

    def draw(self, rng: np.random.Generator, split: str) -> str:
        """Draw a thing of the side."""
        mine = side(split)
        return mine[rng.integers(len(mine))]

    def open(self, goal: str, persona: Persona, split: str, rng: np.random.Generator) -> ThingCase:
        """Open a user's game."""
        return ThingCase(Player(self.rules, goal, persona, split, rng))


@cache
def side(split: str) -> tuple[str, ...]:
    """The things that users of a side think of.

    Sorted by the questions they take, and then by name, things are dealt to the sides in fives,
    so that they are as hard on each.
    """
    taken = questions(best_tree())
    dealt = sorted(taken, key=lambda thing: (taken[thing], thing))
    return tuple(thing for i, thing in enumerate(dealt) if _DEALT[i % len(_DEALT)] == split)


@cache
def least_questions() -> float:
    """The least average number of questions, all things being equally likely; see `tree`."""
    taken = questions(best_tree())
    return sum(taken.values()) / len(taken)


@cache
def _triples() -> tuple[Triple, ...]:
    from rlchat_envs.knowledge import Triple
    from rlchat_envs.knowledge.triples import ALSO_CALLED

    things = load_things()
    names = [
        Triple(name, ALSO_CALLED, other, SOURCE)
        for name in things.also
        for other in things.also[name]
    ]
    facts = [
        Triple(name, *attribute.triple, SOURCE)
        for name in things.names
        for attribute in things.attributes.values()
        if name in attribute.things
    ]
    return (*names, *facts)
