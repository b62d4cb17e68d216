"""Environments live in one thread each, and every one that is made is closed."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
import pytest

from rlchat.inference.scripted_agent import ObjectAgent
from rlchat.models.policy import Policy
from rlchat.rollout import episodes
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.episodes import play_episodes
from rlchat.rollout.trajectory import Ending

NOTES: dict[int, list[tuple[str, int]]] = {}
SMALL = RolloutConfig(rows=3, max_new_tokens=2, max_tokens=64)
KEYS = [(i, (i,), (i,)) for i in range(6)]
release = threading.Event()


class Noted(gym.Env[str, str]):
    """Two turns; notes in which thread it is made, stepped and closed."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, int]] = []
        NOTES[id(self)] = self.notes
        self.keep = self.notes  # an id may come back once its environment is gone
        self.note("made")

    def note(self, what: str) -> None:
        self.notes.append((what, threading.get_ident()))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        self.note("reset")
        self.turn = 0
        return "hi", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.note("step")
        self.turn += 1
        return "well", 1.0, self.turn == 2, False, {}

    def close(self) -> None:
        self.note("closed")
        raise RuntimeError("closing costs nobody anything")


class AtHome(Noted):
    metadata: ClassVar = {"single_threaded": True}


class Deaf(Noted):
    """Its steps end when the test lets them."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.note("step")
        while not release.wait(0.05):
            pass
        return super().step(action)


class Endless(Noted):
    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "well", 0.5, False, False, {}


for kind in (Noted, AtHome, Deaf, Endless):
    gym.register(f"tests/{kind.__name__}-v0", kind)


@pytest.fixture(autouse=True)
def notes() -> Iterator[None]:
    NOTES.clear()
    release.clear()
    yield
    release.set()


def played(policy: Policy, pool: EnvPool, workers: int) -> list[float]:
    config = RolloutConfig(rows=3, max_new_tokens=2, max_tokens=64, workers=workers)
    trajectories = collect(policy.generation_model(), policy.template, pool, KEYS, config)
    return [len(t.parts) for t in trajectories]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_environment_lives_in_one_thread(workers: int, policy: Policy) -> None:
    """In every iteration the same, which is not that of the others."""
    with EnvPool(EnvConfig("tests/Noted-v0")) as pool:
        for _ in range(2):
            assert played(policy, pool, workers) == [2] * 6
    assert len(NOTES) == 3
    threads = [{thread for _, thread in notes} for notes in NOTES.values()]
    assert [len(own) for own in threads] == [1, 1, 1]
    assert len(set.union(*threads)) == 3 and threading.get_ident() not in set.union(*threads)
    assert all([what for what, _ in own].count("closed") == 1 for own in NOTES.values())
    assert all(own[-1][0] == "closed" for own in NOTES.values())


def test_one_that_bears_the_main_thread_only_stays_there(policy: Policy) -> None:
    with EnvPool(EnvConfig("tests/AtHome-v0")) as pool:
        assert played(policy, pool, 0) == [2] * 6
    stepped = [own for own in NOTES.values() if len(own) > 2]
    assert {t for own in stepped for _, t in own} == {threading.get_ident()}
    assert all(own[-1][0] == "closed" for own in NOTES.values())


def test_who_is_forgotten_is_closed(policy: Policy) -> None:
    pool = EnvPool(EnvConfig("tests/Noted-v0"))
    assert played(policy, pool, 0) == [2] * 6
    env = TextEnv(EnvConfig("tests/Noted-v0"))
    env.reset(0)
    del pool, env
    gc.collect()
    assert len(NOTES) == 4
    assert all(own[-1][0] == "closed" for own in NOTES.values())


def test_ctrl_c_ends_a_rollout_whatever_a_step_does(policy: Policy) -> None:
    generation = policy.generation_model()
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), EnvPool(EnvConfig("tests/Deaf-v0")) as pool:
        try:
            collect(generation, policy.template, pool, KEYS, SMALL)
        finally:
            stopped = time.monotonic()
    assert time.monotonic() - stopped < 1.5
    assert any(("step", thread) in own for own in NOTES.values() for _, thread in own)


def test_an_agent_of_rules_has_a_bound_of_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment ends no episode; a language model has its budget of tokens."""
    monkeypatch.setattr(episodes, "MOST_TURNS", 5)

    class Says:
        def reply(self, conversation: object, privileged: object) -> str:
            return "go on"

    with EnvPool(EnvConfig("tests/Endless-v0")) as pool:
        (episode,) = play_episodes(ObjectAgent(Says()), pool, [0], 0, 0.0, SMALL)
    assert (len(episode.parts), episode.truncated) == (5, True)
    assert episode.ending is Ending.TURN_LIMIT
