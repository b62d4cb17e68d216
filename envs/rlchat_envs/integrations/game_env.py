"""What games of other packages share as environments of text."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from rlchat_envs.core.spaces import Utterance

MAX_TURNS = 1000
"""Truncation; for the games that have no end of their own."""

# What the games raise over a message that they cannot read (a number of 5,000 digits) or a board
# that they cannot deal. Anything else is a bug that we want to see.
FAILURES = (RuntimeError, RuntimeWarning, ValueError, ZeroDivisionError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a game says to a message."""

    observation: str
    reward: float = 0.0
    terminated: bool = False
    success: bool = False


class Game(Protocol):
    """A game for one player, one episode at a time. It may draw from global random states."""

    failure: Answer
    """What a message is worth that the game's own code fails on."""

    def begin(self, seed: int) -> str:
        """Start an episode; give the rules and what there is to see."""
        ...

    def hear(self, message: str) -> Answer:
        """Play one message of the player."""
        ...


class Randomness:
    """A random state of its own for code that draws from Python's and NumPy's global ones.

    Within ``with randomness:`` the global states are these; afterwards they are what they were.
    There is one of each in a process, so two threads must not play at once.
    """

    def __init__(self, seed: int):
        """Make both states from a seed below 2**32."""
        self._own: tuple[Any, Any] = (
            random.Random(seed).getstate(),
            np.random.RandomState(seed).get_state(),
        )
        self._others: tuple[Any, Any] = self._own

    def __enter__(self) -> None:
        self._others = _swap(self._own)

    def __exit__(self, *_: object) -> None:
        self._own = _swap(self._others)


class GameEnv(gym.Env[str, str]):
    """A game of another package, one message of the player a step.

    ``reset`` gives the rules, ``step`` what is new since the last message. The reward is the
    game's own; ``info["success"]`` says whether the game is won.
    """

    def __init__(self, make_game: Callable[[], Game]):
        """Make the environment; ``make_game`` may draw and print without anybody noticing."""
        self.observation_space = Utterance()
        self.action_space = Utterance()
        # Games draw from the random states of the process: one thread at a time.
        self.metadata = self.metadata | {"single_threaded": True}
        self._over = True
        self._randomness = Randomness(0)
        with self._alone():
            self._game = make_game()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode; the seed alone decides all that the game draws."""
        super().reset(seed=seed)
        observation = self._begin(attempts=8)
        self._over = False
        return observation, {"success": False}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play one message, any string at all."""
        if self._over:
            raise gym.error.ResetNeeded("step() came before reset(), or after the episode's end")
        try:
            with self._alone():
                answer = self._game.hear(action)
        except FAILURES:
            answer = self._game.failure
        self._over = answer.terminated
        info = {"success": answer.success}
        return answer.observation, answer.reward, answer.terminated, False, info

    def _begin(self, attempts: int) -> str:
        """Deal a board; deal again where the game fails on what it has drawn."""
        seed = int(self.np_random.integers(2**31))
        self._randomness = Randomness(seed)
        try:
            with self._alone():
                return self._game.begin(seed)
        except FAILURES:
            if attempts == 1:
                raise
        return self._begin(attempts - 1)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Give the game its own random state, and let nobody see what it prints."""
        with self._randomness, contextlib.redirect_stdout(io.StringIO()):
            yield


def import_package(name: str, remedy: str = "pip install 'rlchat[games]'") -> ModuleType:
    """Import a package of games; leave random states and logging as they were.

    Raises:
        ImportError: it is not installed, or not whole.
    """
    try:
        with Randomness(0), _same_logging():
            return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"expected the package {name}; got: {error}; {remedy}") from error


@contextlib.contextmanager
def _same_logging() -> Iterator[None]:
    """Undo a ``logging.basicConfig``, which is for applications to call."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _swap(states: tuple[Any, Any]) -> tuple[Any, Any]:
    """Set Python's and NumPy's global random states; give those that were."""
    before = random.getstate(), np.random.get_state()
    random.setstate(states[0])
    np.random.set_state(states[1])
    return before
