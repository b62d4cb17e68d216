"""What one lesson is about, and what its student cannot do yet: goals drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlchat_envs.scenarios.tutoring.arithmetic import Exercise
from rlchat_envs.scenarios.tutoring.books import ExerciseBook
from rlchat_envs.scenarios.tutoring.knowledge_tracing import Abilities, draw_abilities
from rlchat_envs.scenarios.tutoring.skills import load_data, skills

PAGE = 3  # skills of a lesson
IN_STOCK = 8  # exercises on each
TEST = 5  # exercises of the final test
TO_PASS = 4  # of them


@dataclass(frozen=True)
class Goal:
    """One lesson.

    ``mistakes`` names the misconception in each skill that is not mastered. The final test has
    one exercise on each skill of the page, and two more on those that were not mastered at the
    start; ``luck`` is drawn with it, so that its result is a function of what is mastered.
    """

    name: str
    page: tuple[str, ...]
    mistakes: Mapping[str, str]
    abilities: Abilities
    exercises: Mapping[str, tuple[Exercise, ...]]
    test: tuple[Exercise, ...]
    luck: tuple[float, ...]

    @property
    def page_text(self) -> str:
        """The lesson as the exercise book announces it."""
        return f"Today's page: {'; '.join(self.page)}."

    @property
    def card(self) -> str:
        """The goal in words, for a person who plays the student."""
        beliefs = [
            f"in {skill}, that {skills()[skill].mistakes[mistake].belief} "
            f"({first.text} gives {first.faults[mistake]})"
            for skill, mistake in self.mistakes.items()
            for first in self.exercises[skill][:1]
        ]
        known = [skill for skill in self.page if skill not in self.mistakes]
        stock = "; ".join(
            f"{skill}: {', '.join(e.text for e in self.exercises[skill][:3])}"
            for skill in self.page
        )
        return (
            f"You are {self.name}, a student. You believe, {' and '.join(beliefs)}; give it up "
            f"only if it is explained. You can do {' and '.join(known)}. Your exercises: {stock}. "
            "Answer them in this order when one is set."
        )


def draw_goal(rng: np.random.Generator, split: str, book: ExerciseBook) -> Goal:
    """Draw a lesson; names and exercises never cross sides."""
    names = load_data("phrasings")[split]["names"]
    page = tuple(str(skill) for skill in rng.choice(list(skills()), PAGE, replace=False))
    gaps = rng.choice(PAGE, int(rng.integers(1, 3)), replace=False)
    mistakes = {
        skill: str(rng.choice(list(skills()[skill].mistakes)))
        for i, skill in enumerate(page)
        if i in gaps
    }
    asked = [*page, *list(mistakes) * 2][:TEST]
    drawn = {
        skill: book.exercises(skill, IN_STOCK + asked.count(skill), split, rng) for skill in page
    }
    spare = {skill: list(found[IN_STOCK:]) for skill, found in drawn.items()}
    return Goal(
        str(rng.choice(names)),
        page,
        mistakes,
        draw_abilities(rng),
        {skill: found[:IN_STOCK] for skill, found in drawn.items()},
        tuple(spare[skill].pop() for skill in asked),
        tuple(float(u) for u in rng.random(TEST)),
    )
