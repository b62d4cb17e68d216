"""Environments in processes of their own: what would end this one, or hang it, is an error."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rlchat.errors import UserError
from rlchat.models.policy import Policy
from rlchat.rollout.collect import Failures, collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.hosting.answers import EnvError
from rlchat.rollout.hosting.isolated import ProcessEnv, kind_of
from rlchat.rollout.mixture import Mixture
from rlchat.rollout.probe import probe
from rlchat_envs import Message

MODULE = '''
"""Does what it is told to: in a process of its own it harms nobody else."""
import ctypes
import os
import re
import signal
import threading
import time
from pathlib import Path

import gymnasium as gym


class Wild(gym.Env):
    metadata = {"single_threaded": True}
    action_space = gym.spaces.Text(20, charset="abcdefghijklmnopqrstuvwxyz ")

    def reset(self, *, seed=None, options=None):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # bears the main thread only
        print("this is not for the other end")
        self.seed = seed
        return {"text": f"seed {seed}"}, {}

    def step(self, action):
        if action == "crash":
            ctypes.string_at(0)
        if action == "leave":
            os._exit(7)
        if action == "raise":
            raise KeyError("parcel")
        if action == "hang":
            re.match("(a+)+$", "a" * 60 + "!")  # which holds Python's lock
        if action == "threads":
            threading.Thread(target=time.sleep, args=(1000,)).start()
        return [{"role": "user", "content": f"{os.getpid()} {action}"}], 0.5, True, False, {}

    def close(self):
        Path(f"closed-{os.getpid()}").touch()


class Unmade(Wild):
    def __init__(self):
        os.abort()


class Calm(gym.Env):
    def reset(self, *, seed=None, options=None):
        return f"seed {seed}", {}

    def step(self, action):
        return f"You said: {action}", len(action) / 3, True, False, {}


gym.register("Calm-v0", Calm)
gym.register("Wild-v0", Wild)
gym.register("Unmade-v0", Unmade)
'''
ROLLOUT = RolloutConfig(rows=2, max_new_tokens=2, max_tokens=96, isolate=True, timeout=30.0)
WILD = EnvConfig("wild_module:Wild-v0")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "wild_module.py").write_text(MODULE, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_played_as_ever(folder: Path) -> None:
    env = ProcessEnv(WILD, "train", 30.0)
    assert env.reset(3) == (Message("user", "seed 3"),)
    result = env.step("hello!")
    child, said = result.messages[0].content.split(" ")
    assert (said, result.parts, result.dropped) == ("hello", {"reward": 0.5}, 1)
    assert (result.terminated, result.truncated, result.success) == (True, False, None)
    opening, reply = Message("user", "seed 3"), Message("assistant", "hello!")
    assert env.conversation == (opening, reply, *result.messages)
    assert int(child) != os.getpid() and not env.ours and not env.single_threaded
    env.reset(0)
    assert env.step("threads").terminated
    env.close()
    env.close()
    assert (folder / f"closed-{child}").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(child), 0)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("crash", "its process ended with SIGSEGV; mend the environment"),
        ("leave", "its process ended with exit status 7; mend"),
        ("raise", r"it raised KeyError: 'parcel' \(wild_module\.py, line \d+\); mend"),
        ("hang", r"within 4 seconds; there is none, and its process was killed; allow more"),
    ],
)
def test_what_would_end_a_run_is_an_error(said: str, told: str, folder: Path) -> None:
    env = ProcessEnv(WILD, "train", 4.0 if said == "hang" else 30.0)
    env.reset(0)
    begun = time.monotonic()
    with pytest.raises(EnvError, match=told) as caught:
        env.step(said)
    assert time.monotonic() - begun < 6 and "\n" not in str(caught.value)
    env.close()


def test_one_that_cannot_be_made_is_told(folder: Path) -> None:
    with pytest.raises(EnvError, match="its process ended with SIGABRT"):
        probe(EnvConfig("wild_module:Unmade-v0"), ROLLOUT)
    probe(WILD, ROLLOUT)


def test_rollouts_are_those_of_this_process(policy: Policy, folder: Path) -> None:
    """Alone, beside one of ours, and after a crash, which costs a try."""
    keys = [(i, (i,), (i,)) for i in range(4)]
    generation, template = policy.generation_model(), policy.template
    calm = EnvConfig("wild_module:Calm-v0")
    with EnvPool(calm, "train", kind_of(ROLLOUT)) as pool:
        isolated = collect(generation, template, pool, keys, ROLLOUT)
        assert all(isinstance(env, ProcessEnv) for env in pool.envs.values())
    with EnvPool(calm) as pool:
        plain = collect(generation, template, pool, keys, replace(ROLLOUT, isolate=False))
    assert [t.ids for t in isolated] == [t.ids for t in plain]
    assert [t.conversation for t in isolated] == [t.conversation for t in plain]
    mixture = Mixture.of([WILD, EnvConfig("rlchat/GuessNumber-v0")])
    with mixture.pool("train", kind_of(ROLLOUT)) as pool:
        mixed = collect(generation, template, pool, keys, ROLLOUT)
    assert {t.env for t in mixed} == set(mixture.names)


def test_a_process_that_is_gone_costs_a_try(policy: Policy, folder: Path) -> None:
    keys = [(i, (i,), (i,)) for i in range(4)]
    failures = Failures()
    with EnvPool(WILD, "train", kind_of(ROLLOUT)) as pool:
        env = pool.first(30.0)
        assert isinstance(env, ProcessEnv)
        env._process._process.kill()
        generation, template = policy.generation_model(), policy.template
        played = collect(generation, template, pool, keys, ROLLOUT, failures=failures)
    assert len(played) == 4 and failures.retried == 1 and not failures.left_out


def test_ours_stay_in_this_process() -> None:
    with EnvPool(EnvConfig(), "train", kind_of(ROLLOUT)) as pool:
        assert type(pool[0]) is TextEnv
    assert kind_of(RolloutConfig()) is TextEnv


def test_an_id_that_only_this_process_knows_is_told() -> None:
    with pytest.raises(UserError, match=r"expected an environment such as .*tests/Here-v0"):
        ProcessEnv(EnvConfig("tests/Here-v0"), "train", 30.0)
