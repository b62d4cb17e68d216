"""What a training changed: which evaluations are compared, and which are kept."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.inference.agents import Agent
from rlchat.inference.model_agent import ModelAgent
from rlchat.listener import Listener
from rlchat.models.policy import Policy
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat.training import comparison
from rlchat.training.comparison import _keep, _kept, before_and_after, measure_end
from rlchat.training.config import RewardMonitorConfig, TrainConfig
from rlchat.training.run_folder import RunFolder


def result(agent: str, episodes: int = 2) -> EvaluationResult:
    played = [Trajectory(i, i, [], parts=[{"a": 0.5}], success=True) for i in range(episodes)]
    return EvaluationResult(agent, EnvConfig(), "dev", 0, 0.0, played)


def test_ppo_is_compared_with_what_it_started_from() -> None:
    """Runs of earlier versions have evaluated the base before that."""
    for first in ([], ["base"]):
        results = [result(name) for name in (*first, "warm start", "PPO", "expert")]
        assert [r.agent for r in before_and_after(results)] == ["warm start", "PPO"]


def test_an_evaluation_is_kept_for_its_iteration_and_its_episodes(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    assert _kept(path, 4, 2) == []
    _keep(path, 4, [result("warm start"), result("PPO")])
    assert [r.agent for r in _kept(path, 4, 2)] == ["warm start", "PPO"]
    assert _kept(path, 5, 2) == _kept(path, 4, 3) == []
    path.write_text("{")
    assert _kept(path, 4, 2) == []


@pytest.mark.parametrize(("alarm", "made"), [(0.0, 9), (1.0, 5)])
def test_an_evaluation_tells_how_many_iterations_were_made(
    alarm: float, made: int, policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer than the settings say, where the reward monitor stopped the run."""
    monkeypatch.setattr(comparison, "_measure", lambda config, env, name, *_: result(name))
    run = RunFolder(tmp_path)
    config = TrainConfig(
        run=run.folder, iterations=9, evaluation=2, watch=RewardMonitorConfig(stop=True)
    )
    run.write_config(config, {"dtype": "float32"})
    run.append(4, {"iteration": 4, "watch/alarm": alarm}, [])
    measure_end(config, policy, run, Listener(), [result("warm start")])
    assert json.loads(run.evaluation.read_text("utf-8"))["iterations"] == made


def test_it_is_measured_greedily_on_held_out_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same ones before and after, of the dev split."""
    asked: list[EvalConfig] = []

    def note(
        agent: Agent, env: EnvConfig, config: EvalConfig, name: str, *_: object
    ) -> EvaluationResult:
        asked.append(config)
        return result(name)

    monkeypatch.setattr(comparison, "evaluate", note)
    monkeypatch.setattr(comparison, "base_spec", lambda _: "tiny")
    monkeypatch.setattr(ModelAgent, "of", lambda *_: None)
    policy = cast(Any, SimpleNamespace(free_merged=lambda: None))
    config = TrainConfig(policy="tiny", evaluation=2, seed=5)
    run, listener = RunFolder(tmp_path), Listener()
    run.write_config(config, {"dtype": "float32"})
    before = comparison.measure_start(config, policy, run, listener)
    results = comparison.measure_end(config, policy, run, listener, before)
    assert [r.agent for r in results] == ["warm start", "PPO", "demonstrator", "expert"]
    assert asked == [EvalConfig("dev", 2, 5, 0.0, config.rollout)] * 4
