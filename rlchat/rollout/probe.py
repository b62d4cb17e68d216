"""A few turns in an environment before anything long: what is wrong with it is told at once."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig, StepResult, TextEnv
from rlchat.rollout.episodes import Call, caller
from rlchat.rollout.hosting.isolated import kind_of
from rlchat.rollout.hosting.making import WRITTEN
from rlchat_envs import write_call

SAID = "Hello, what can I do for you?"
TURNS = 8  # most of them in an episode


def probe(config: EnvConfig, rollout: RolloutConfig, split: str = "train") -> None:
    """Play the beginning of two episodes, in an environment that is closed again.

    Two, as some environments can be reset but once. What Python and NumPy draw afterwards is what
    they would have drawn, and Ctrl-C does what it did. Where a language model speaks for users
    nothing is played: loading it takes long, and it fails for reasons of its own.

    Raises:
        UserError: the environment cannot be made, fails, hangs or answers what cannot be used.
    """
    if any(name.startswith(WRITTEN) for name in config.users):
        TextEnv(config, split).close()
        return
    with _undisturbed(), EnvPool(config, split, kind_of(rollout)) as pool:
        pool.in_threads(rollout.workers, rollout.timeout)
        call = caller(pool, rollout.timeout)
        for seed in range(2):
            _begin_episode(pool, call, seed)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep what an environment may change for the whole process: random states, and Ctrl-C."""
    states = random.getstate(), np.random.get_state()
    stopping = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        main = threading.current_thread() is threading.main_thread()
        if main and stopping is not None and signal.getsignal(signal.SIGINT) is not stopping:
            signal.signal(signal.SIGINT, stopping)


def _begin_episode(pool: EnvPool, call: Call, seed: int) -> None:
    """Play an episode's first turns, the very first with a call where functions are declared."""
    call(pool.begin, 0, 0, seed)
    for turn in range(TURNS):
        called = [write_call(tool.name, {}) for tool in pool[0].tools[:1] if turn == 0]
        result: StepResult = call(pool[0].step, called[0] if called else SAID)
        if result.terminated or result.truncated:
            return
