"""A world with a fixed number of turns, so that engines can be compared on equal work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from rlchat.models.chat_template import ChatTemplate
from rlchat.models.generation_model import GenerationModel
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig
from rlchat_envs import Utterance

ID = "rlchat-bench/Turns"
REPLY = 24  # most tokens of a turn
LONG = 4096  # tokens that an episode may have


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


def world(turns: int) -> EnvConfig:
    """Whom to talk to for so many turns."""
    name = f"{ID}{turns}-v0"
    if name not in gym.registry:
        gym.register(name, entry_point=lambda **_: Turns(turns))
    return EnvConfig(name)


def openings() -> np.ndarray[Any, Any]:
    """System message and opening as one text, as a foreign world has no system message."""
    return _lines()[0]


def replies() -> np.ndarray[Any, Any]:
    """What users and the desk say later, a turn each."""
    return _lines()[1]


_KEPT: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []


def _lines() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    if not _KEPT:
        first: list[str] = []
        later: list[str] = []
        for conversation in demonstrate(EnvConfig(), 50, seed=0):
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


def play(
    speaker: GenerationModel, template: ChatTemplate, episodes: int, turns: int, seed: int
) -> int:
    """Play episodes with our engine; give the tokens it said."""
    config = RolloutConfig(rows=episodes, max_new_tokens=REPLY, max_tokens=LONG)
    played = collect(
        speaker,
        template,
        EnvPool(world(turns)),
        [(i, (seed, 1, i), (seed, 2, i)) for i in range(episodes)],
        config,
    )
    return sum(sum(t.action_mask) for t in played)


def timed(action: Callable[[int], Any], repeats: int) -> tuple[float, list[Any]]:
    """The median seconds of some runs, each with its number, and what they gave."""
    seconds, results = [], []
    for run in range(repeats):
        begun = time.perf_counter()
        results.append(action(run))
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds), results
