"""A world with a fixed number of turns, so that engines can be compared on equal work."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rlchat.warmstart import demonstrate
from rlchat.worlds import WorldConfig
from rlchat_envs import Utterance

ID = "rlchat-bench/Turns"


class Turns(gym.Env[str, str]):
    """Users who say what Support-v0's users said to its demonstrator, for ``turns`` turns."""

    def __init__(self, turns: int):
        """Take ``turns`` turns an episode."""
        self.turns = turns
        self.observation_space = self.action_space = Utterance()
        self.said = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Open with an opening."""
        super().reset(seed=seed)
        self.said = 0
        return str(self.np_random.choice(openings())), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Say something that somebody once said."""
        self.said += 1
        reply = str(self.np_random.choice(replies()))
        return reply, float(len(action) % 2), self.said >= self.turns, False, {}


def world(turns: int) -> WorldConfig:
    """Whom to talk to for so many turns."""
    name = f"{ID}{turns}-v0"
    if name not in gym.registry:
        gym.register(name, entry_point=lambda: Turns(turns))
    return WorldConfig(name)


def openings() -> np.ndarray[Any, Any]:
    """System message and opening as one text, as a foreign world has no system message."""
    return _lines()[0]


def replies() -> np.ndarray[Any, Any]:
    """What users and the desk say later, a turn each."""
    return _lines()[1]


_KEPT: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []


def _lines() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    if not _KEPT:
        first, later = [], []
        for conversation in demonstrate(WorldConfig(), 50, seed=0):
            heard: list[str] = []
            opening = True
            for message in conversation:
                if message.role == "assistant":
                    (first if opening else later).append("\n".join(heard))
                    heard, opening = [], False
                else:
                    heard.append(message.content)
        _KEPT.append((np.array(first), np.array(later)))
    return _KEPT[0]
