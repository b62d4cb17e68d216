"""Exercise books: where the exercises of a lesson come from."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Protocol

import numpy as np

from rlchat_envs.integrations.game_env import import_package
from rlchat_envs.scenarios.tutoring.arithmetic import SIMPLIFYING, Exercise, pool
from rlchat_envs.scenarios.tutoring.reading import read_exercises, tidy

_SIDES = ("train", "train", "train", "dev", "test")  # of five exercises
_ITEMS = 50_000  # of a generator, at most, looked through for one lesson


class ExerciseBook(Protocol):
    """Gives exercises with checked answers."""

    def exercises(
        self, skill: str, count: int, split: str, rng: np.random.Generator
    ) -> tuple[Exercise, ...]:
        """Draw ``count`` different, telling exercises of one side of the split."""
        ...


def side_of(exercise: Exercise) -> str:
    """The one side of the split that an exercise stands on, whichever book it comes from."""
    return _SIDES[zlib.crc32(exercise.text.encode()) % len(_SIDES)]


@cache
def _own_side(skill: str, split: str) -> tuple[Exercise, ...]:
    return tuple(exercise for exercise in pool(skill) if side_of(exercise) == split)


class OwnBook(ExerciseBook):
    """Small numbers, made by `arithmetic`; covers every skill."""

    def exercises(
        self, skill: str, count: int, split: str, rng: np.random.Generator
    ) -> tuple[Exercise, ...]:
        """See `ExerciseBook`."""
        side = _own_side(skill, split)
        return tuple(side[i] for i in rng.choice(len(side), count, replace=False))


_GENERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    SIMPLIFYING: (
        "fraction_simplification",
        {"min_value": 2, "max_value": 12, "min_factor": 2, "max_factor": 9, "styles": ("plain",)},
    ),
    "subtracting negatives": (
        "chain_sum",
        {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2, "allow_negation": True},
    ),
    "multiplying negatives": (
        "products",
        {"min_digits": 1, "max_digits": 2, "allow_negation": True},
    ),
    "order of operations": (
        "basic_arithmetic",
        {"min_terms": 3, "max_terms": 3, "max_digits": 1, "operators": ("+", "*")},
    ),
    "one-step equations": (
        "simple_equations",
        {"max_terms": 2, "max_value": 20, "operators": ("+", "-"), "operators_weights": [0.5, 0.5]},
    ),
    "two-step equations": (
        "simple_equations",
        {"max_terms": 2, "max_value": 12, "operators_weights": [0.5, 0.5, 0.0]},
    ),
}


class ReasoningGymBook(ExerciseBook):
    """Exercises of reasoning-gym (version 0.1.23 or later), our own for the skills it has none of.

    An item is taken if it reads as an exercise on the skill and both books give the same answer:
    some of that package's lines that mix plus and times are solved there from left to right.
    """

    def __init__(self) -> None:
        """Load the package.

        Raises:
            ImportError: it is not installed.
        """
        self._package = import_package("reasoning_gym", "pip install 'rlchat[exercises]'")
        self._own = OwnBook()

    def exercises(
        self, skill: str, count: int, split: str, rng: np.random.Generator
    ) -> tuple[Exercise, ...]:
        """See `ExerciseBook`."""
        if skill not in _GENERATORS:
            return self._own.exercises(skill, count, split, rng)
        found: dict[str, Exercise] = {}
        for exercise in self._read(skill, int(rng.integers(2**31))):
            if side_of(exercise) == split:
                found[exercise.text] = exercise
            if len(found) == count:
                return tuple(found.values())
        raise RuntimeError(
            f"expected {count} exercises on {skill}; reasoning_gym gave {len(found)}"
        )

    def _read(self, skill: str, seed: int) -> Iterator[Exercise]:
        name, options = _GENERATORS[skill]
        for item in self._package.create_dataset(name, seed=seed, size=_ITEMS, **options):
            task = _task(item["metadata"])
            for start, stop, exercise in read_exercises(tidy(task)):
                fits = (start, stop) == (0, len(task)) and exercise.skill == skill
                if fits and exercise.telling and exercise.accepts(item["answer"]):
                    yield exercise


def _task(metadata: Mapping[str, Any]) -> str:
    """The task alone, without the sentence around it."""
    if "numerator" in metadata:
        return f"simplify {metadata['numerator']}/{metadata['denominator']}"
    return str(metadata.get("equation") or metadata["expression"]).strip()
