"""Results of evaluations."""

from __future__ import annotations

import pytest

from rlchat.evaluation import evaluate
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import Interval, bootstrap


def test_intervals_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, lines and files ask for them again and again."""
    drawn: list[int] = []

    def counted(values: list[float]) -> Interval:
        drawn.append(len(values))
        return bootstrap(values)

    monkeypatch.setattr(evaluate, "bootstrap", counted)
    played = [Trajectory(i, i, [], parts=[{"a": 0.5}], success=True) for i in range(3)]
    result = EvaluationResult("somebody", EnvConfig(), "dev", 0, 0.0, played)
    assert set(result.metrics) == {"success", "score", "turns", "cost"}
    assert result.metrics == result.metrics
    assert set(result.to_json()["metrics"]) == set(result.metrics)
    assert drawn == [3, 3, 3]
