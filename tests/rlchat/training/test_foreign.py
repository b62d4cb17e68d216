"""An environment that knows nothing of rlchat is trained on from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlchat.training.run_folder import read_metrics

MODULE = '''
"""A user who likes the first half of the alphabet. Imports Gymnasium and nothing else of ours."""
import gymnasium as gym
from gymnasium import spaces


class Plain(gym.Env):
    """Has no spaces at all."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.turn = 0
        return "Say a letter, please.", {}

    def step(self, action):
        assert isinstance(action, str)
        self.turn += 1
        good = action[:1] != "" and action[0] in "abcdefghijklmABCDEFGHIJKLM"
        return ("good" if good else "bad"), float(good), self.turn == 2, False, {}


class Lower(Plain):
    """Knows small letters only."""

    observation_space = spaces.Text(40, charset="abcdefghijklmnopqrstuvwxyzSy .,")
    action_space = spaces.Text(3, charset="abcdefghijklmnopqrstuvwxyz ")

    def step(self, action):
        assert action in self.action_space, action
        return super().step(action)


gym.register("Plain-v0", Plain)
gym.register("Lower-v0", Lower)
'''
SMALL = [
    *("--iterations", "14", "--episodes", "32", "--evaluation", "0", "--seed", "1"),
    *("--ppo.minibatches", "2", "--ppo.epochs", "3", "--ppo.beta", "0"),
    *("--ppo.learning-rate", "1e-2", "--ppo.token-budget", "10000"),
    *("--rollout.max-new-tokens", "2", "--rollout.max-tokens", "256"),
    *("--rollout.cut-off-penalty", "0", "--critic.width", "32", "--critic.epochs", "10"),
    *("--adapter.dtype", "float32", "--adapter.device", "cpu"),
]
FRESH = ["--adapter.rank", "8", "--adapter.alpha", "16"]


def rlchat(*words: str, cwd: Path) -> str:
    """Run the installed command in a folder; give what it printed."""
    command = Path(sys.executable).with_name("rlchat")
    assert command.is_file(), "install the package: pip install -e ."
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    environment.pop("PYTHONPATH", None)  # the working folder is found without it
    done = subprocess.run(
        [str(command), *words], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def returns(run: Path) -> list[float]:
    return [row["return"] for row in read_metrics(run / "metrics.jsonl")]


def mean(x: list[float]) -> float:
    return sum(x) / len(x)


@pytest.mark.long
@pytest.mark.parametrize("name", ["Plain", "Lower"])
def test_a_foreign_environment_is_learned(name: str, tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(MODULE, encoding="utf-8")
    env = f"my_module:{name}-v0"
    printed = rlchat(
        *("train", "--env", env, "--policy", "tiny", "--run", "first", *SMALL, *FRESH),
        cwd=tmp_path,
    )
    first = returns(tmp_path / "first")
    assert len(first) == 14
    # Two turns, each worth 1 at best; a random letter is a good one rarely.
    assert mean(first[:2]) < 0.8, first
    assert mean(first[-3:]) > mean(first[:2]) + 0.6, first

    rows = read_metrics(tmp_path / "first" / "metrics.jsonl")
    assert all(row["success"] is None for row in rows)
    dropped = [row["dropped_characters"] for row in rows]
    if name == "Plain":
        assert not any(dropped)
        assert "dropped" not in printed
    else:
        assert dropped[0] > 0
        assert f"dropped_characters {dropped[0]:.4g}: " in printed
        # The run's own environment needs no naming to go on.
        assert "train --config first --run first --resume" in printed
    lines = (tmp_path / "first" / "transcripts" / "0000.jsonl").read_text("utf-8").splitlines()
    episode = json.loads(lines[0])
    assert [m["role"] for m in episode["messages"]] == [
        *("user", "assistant", "user", "assistant", "user")
    ]
    assert set(episode["parts"][0]) - {"cut_off"} == {"reward"}

    # Another training goes on from where this one ended.
    going_on = rlchat(
        *("train", "--env", env, "--policy", "first", "--run", "second", *SMALL),
        cwd=tmp_path,
    )
    assert "chat second --env ''" in going_on  # a person has no place in such an environment
    second = returns(tmp_path / "second")
    assert mean(second[:2]) > mean(first[:2]) + 0.4, (first, second)
    assert mean(second[-3:]) > mean(first[:2]) + 0.6, (first, second)

    printed = rlchat(
        *("eval", "second", "--env", env, "--episodes", "16", "--json", "result.json"),
        *("--rollout.max-new-tokens", "2", "--rollout.max-tokens", "256"),
        *("--rollout.cut-off-penalty", "0"),
        cwd=tmp_path,
    )
    assert "success" not in printed
    assert "score" in printed
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert set(result["metrics"]) == {"score", "turns"}
    assert result["metrics"]["turns"]["mean"] == 2
    assert result["metrics"]["score"]["mean"] > mean(first[:2])
    assert all(e["success"] is None for e in result["per_episode"])
