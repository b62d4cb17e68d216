"""What a training changed: which evaluations are compared, and which are kept."""

from __future__ import annotations

from pathlib import Path

from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat.training.comparison import _keep, _kept, before_and_after


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
