"""A scenario whose users are personas: how a case's goal and user come from a seed."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

import numpy as np

from rlchat_envs.core.protocols import SPLITS, Case, Scenario
from rlchat_envs.users.personas import Persona, choose_personas

G = TypeVar("G")  # what a case is about
C = TypeVar("C", bound=Case)


class PersonaScenario(Scenario, Generic[G, C]):
    """Draws a goal and a persona for each case; a scenario says what a goal is, and what a case."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, split: str) -> G:
        """Draw a goal from one side of the split."""
        ...

    @abstractmethod
    def open(self, goal: G, persona: Persona, split: str, rng: np.random.Generator) -> C:
        """Open the case of a user who has this goal and persona; ``rng`` decides what they do."""
        ...

    def begin(self, rng: np.random.Generator, split: str, users: tuple[str, ...]) -> C:
        """Draw a goal and a persona, equally among those of the families, and open the case."""
        personas = choose_personas(split, users)
        rng = split_rng(rng, split)
        goal = self.draw(rng, split)
        persona = personas[int(rng.integers(len(personas)))]
        return self.open(goal, persona, split, rng)


def split_rng(rng: np.random.Generator, split: str) -> np.random.Generator:
    """A generator for one episode; the same seed must not tell the same story on two sides."""
    return np.random.default_rng([int(rng.integers(2**62)), SPLITS.index(split)])
