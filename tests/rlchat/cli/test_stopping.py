"""Ctrl-C ends a command within two seconds, in a real process and whatever an environment does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MODULE = '''
"""Environments that go on for ever in the third episode; two are the probe's."""
import concurrent.futures
import time
from pathlib import Path

import gymnasium as gym


def deaf():
    while True:
        try:
            time.sleep(0.05)
        except BaseException:
            pass


class Sleeps(gym.Env):
    begun = 0
    wait = staticmethod(lambda: time.sleep(1000))

    def reset(self, *, seed=None, options=None):
        Sleeps.begun += 1
        return "hi", {}

    def step(self, action):
        if Sleeps.begun > 2:
            Path("stuck").touch()
            self.wait()
        return "well", 1.0, True, False, {}


class Deaf(Sleeps):
    wait = staticmethod(deaf)

    def close(self):
        if Sleeps.begun > 2:
            deaf()


class LeavesThreads(Sleeps):
    """Python joins the threads of such a pool at its end."""

    def wait(self):
        pool = concurrent.futures.ThreadPoolExecutor()
        pool.submit(time.sleep, 1000).result()


class AtHome(Deaf):
    """Its steps are in the main thread, which Ctrl-C interrupts."""

    metadata = {"single_threaded": True}

    def close(self):
        pass


for kind in (Sleeps, Deaf, LeavesThreads, AtHome):
    gym.register(f"{kind.__name__}-v0", kind)
'''
PROGRAM = "import sys; from rlchat.cli.main import main; sys.exit(main())"
SMALL = [
    *("--policy", "tiny", "--run", "run", "--iterations", "1", "--episodes", "4"),
    *("--evaluation", "0", "--ppo.minibatches", "1", "--adapter.dtype", "float32"),
    *("--rollout.max-new-tokens", "2", "--rollout.max-tokens", "64", "--adapter.device", "cpu"),
]


@pytest.mark.parametrize(
    "name",
    [
        *("Deaf", "LeavesThreads", "AtHome"),
        pytest.param("Sleeps", marks=pytest.mark.long),
    ],
)
def test_ctrl_c_ends_a_training_whatever_a_step_does(name: str, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(MODULE, "utf-8")
    path = os.pathsep.join(p for p in sys.path if p)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "train", "--env", f"endless:{name}-v0", *SMALL],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "stuck").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        printed, complained = process.communicate(timeout=20)
        took = time.monotonic() - begun
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 1, printed + complained
    assert "rlchat: stopped" in complained and "Traceback" not in complained, complained
    others = os.getloadavg()[0] / (os.cpu_count() or 1)  # beside other work all takes longer
    assert took < 2 * max(1.0, others)
