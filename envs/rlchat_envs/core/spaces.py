"""A Gymnasium space of things people write."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

_SYLLABLES = ("ka", "lo", "mi", "ren", "tu", "sha", "é", "ör", "ño", "你", "好", "-", "?", "!", ",")


class Utterance(gym.Space[str]):
    """Any Unicode string of at most ``max_length`` characters.

    Gymnasium's ``Text`` space allows only a fixed character set, by default without the space
    and without accents. Samples are pronounceable nonsense from the space's own generator.
    """

    def __init__(self, max_length: int = 200_000, seed: int | np.random.Generator | None = None):
        """Make the space; ``max_length`` is in characters."""
        self.max_length = max_length
        super().__init__(dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Text has no fixed-size array form."""
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Draw one to twelve nonsense words."""
        words = [
            "".join(self.np_random.choice(_SYLLABLES, size=self.np_random.integers(1, 4)))
            for _ in range(self.np_random.integers(1, 13))
        ]
        return " ".join(words)[: self.max_length]

    def contains(self, x: Any) -> bool:
        """Tell whether ``x`` is a string that is short enough."""
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        """Show the length limit."""
        return f"Utterance({self.max_length})"

    def __eq__(self, other: object) -> bool:
        """Spaces with the same limit are the same."""
        return isinstance(other, Utterance) and other.max_length == self.max_length
