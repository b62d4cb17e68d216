"""A few turns in an environment before anything long: what is wrong with it is told at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from rlchat.rollout.answers import EnvError
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, EnvPool, StepResult, TextEnv
from rlchat.rollout.making import WRITTEN
from rlchat.rollout.workers import WorkerPool
from rlchat_envs import Conversation

SAID = "Hello, what can I do for you?"
TURNS = 8  # most of them in an episode


def probe(config: EnvConfig, rollout: RolloutConfig) -> None:
    """Play the beginning of two episodes, in an environment that is closed again.

    Two, as some environments can be reset but once. What Python and NumPy draw afterwards is what
    they would have drawn. Where a language model speaks for users nothing is played: loading it
    takes long, and it fails for reasons of its own.

    Raises:
        UserError: the environment cannot be made, fails, hangs or answers what cannot be used.
    """
    if any(name.startswith(WRITTEN) for name in config.users):
        TextEnv(config).close()
        return
    states = random.getstate(), np.random.get_state()
    try:
        with EnvPool(config) as pool, pool.worker_pool(rollout.workers, rollout.timeout) as workers:
            for seed in range(2):
                _begin_episode(pool, workers, seed)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _begin_episode(pool: EnvPool, workers: WorkerPool[int, Any], seed: int) -> None:
    """Play an episode's first turns."""

    def ask(question: Callable[..., Conversation | StepResult], *about: Any) -> Any:
        workers.ask(0, question, *about)
        ((_, answer),) = workers.answers(block=True)
        if isinstance(answer, EnvError):
            pool.drop(0)
            raise answer
        return answer

    ask(pool.begin, 0, 0, seed)
    for _ in range(TURNS):
        result: StepResult = ask(pool[0].step, SAID)
        if result.terminated or result.truncated:
            return
