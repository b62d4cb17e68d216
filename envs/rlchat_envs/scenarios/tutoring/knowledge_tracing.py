"""What a student knows: Bayesian knowledge tracing, with misconceptions in place of mere ignorance.

The model is that of Corbett and Anderson (1995, "Knowledge tracing: Modeling the acquisition of
procedural knowledge"), played forwards: a skill is mastered or not; a mastered one fails by a
slip, an unmastered one succeeds by a guess, and each opportunity may turn the second into the
first. Here what is mastered but has not been practised yet may also be forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rlchat_envs.scenarios.tutoring.nlu import Lesson

State = Literal["unknown", "fresh", "firm"]  # fresh: learnt, but not practised yet
Outcome = Literal["right", "mistake", "slip"]

# Shares of P(learn) that other opportunities have than an explanation that fits.
OTHER_MISTAKE = 0.5  # an explanation of the right skill that puts another misconception right
HINT = 0.4
PRACTICE = 0.4  # an exercise got wrong after an explanation, and seen corrected
UNASKED = 0.2  # an explanation of what the student still believes to be right

RANGES = {
    "learn": (0.80, 0.95),
    "slip": (0.01, 0.04),
    "guess": (0.02, 0.06),
    "forget": (0.15, 0.30),
}


@dataclass(frozen=True, slots=True)
class Abilities:
    """The four probabilities of the model; ``forget`` is per turn, of what is fresh."""

    learn: float
    slip: float
    guess: float
    forget: float


def draw_abilities(rng: np.random.Generator) -> Abilities:
    """One student's, uniform in `RANGES`."""
    return Abilities(
        **{name: float(rng.uniform(low, high)) for name, (low, high) in RANGES.items()}
    )


@dataclass
class Mind:
    """One student's knowledge of the skills of a lesson.

    ``mistakes`` holds the misconception in each skill that is not mastered at the start. An
    explanation lands once an exercise has shown the gap: before that, somebody with a
    misconception believes to know it already.
    """

    mistakes: Mapping[str, str]
    abilities: Abilities
    rng: np.random.Generator
    states: dict[str, State]
    shown: set[str] = field(default_factory=set)  # gaps seen, and not explained since
    explained: set[str] = field(default_factory=set)
    _touched: set[str] = field(default_factory=set)  # this turn

    def masters(self, skill: str) -> bool:
        """Whether a skill is mastered now."""
        return self.states[skill] != "unknown"

    @property
    def gain(self) -> float:
        """Skills mastered of those that were not at the start; 0 to 1."""
        return sum(map(self.masters, self.mistakes)) / len(self.mistakes)

    def take(self, lesson: Lesson) -> bool:
        """Take in an explanation or a hint; tell whether there was need for it."""
        skill = lesson.skill
        if self.masters(skill):
            return False
        needed = skill in self.shown
        if needed or not lesson.hint:
            self._learn(skill, self._share(lesson))
            self.explained.add(skill)
        self.shown.discard(skill)
        return needed

    def try_one(self, skill: str) -> Outcome:
        """Do an exercise; a wrong answer shows the gap, a right one makes firm what is fresh."""
        abilities = self.abilities
        if self.masters(skill):
            if self.rng.random() < abilities.slip:
                return "slip"
            self.states[skill] = "firm"
            return "right"
        if self.rng.random() < abilities.guess:
            return "right"
        self.shown.add(skill)
        if skill in self.explained:
            self._learn(skill, PRACTICE)
        return "mistake"

    def passes(self, skill: str, luck: float) -> bool:
        """Whether an exercise of the final test is right; ``luck`` is uniform in [0, 1)."""
        if self.masters(skill):
            return luck >= self.abilities.slip
        return luck < self.abilities.guess

    def end_turn(self) -> None:
        """Forget, perhaps, what is fresh and was not worked on in this turn."""
        for skill, state in self.states.items():
            idle = state == "fresh" and skill not in self._touched
            if idle and self.rng.random() < self.abilities.forget:
                self.states[skill] = "unknown"
        self._touched.clear()

    def _share(self, lesson: Lesson) -> float:
        share = UNASKED if lesson.skill not in self.shown else HINT if lesson.hint else 1.0
        fits = lesson.hint or self.mistakes[lesson.skill] in lesson.mistakes
        return share if fits else share * OTHER_MISTAKE

    def _learn(self, skill: str, share: float) -> None:
        if self.rng.random() < share * self.abilities.learn:
            self.states[skill] = "fresh"
            self._touched.add(skill)
