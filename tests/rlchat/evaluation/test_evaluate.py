"""Results of evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from rlchat.errors import UserError
from rlchat.evaluation import evaluate
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.inference.agents import AgentConversation, ConversationSettings
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.trajectory import Episode, Trajectory
from rlchat.statistics import Interval, mean_interval, wilson


def test_intervals_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, lines and files ask for them again and again."""
    drawn: list[int] = []

    def counted(values: list[float], *bounds: float) -> Interval:
        drawn.append(len(values))
        return mean_interval(values, *bounds)

    monkeypatch.setattr(evaluate, "mean_interval", counted)
    played = [Trajectory(i, i, [], parts=[{"a": 0.5}], success=True) for i in range(3)]
    result = EvaluationResult("somebody", EnvConfig(), "dev", 0, 0.0, played)
    assert set(result.metrics) == {"success", "score", "turns", "cost"}
    assert result.metrics == result.metrics
    assert set(result.to_json()["metrics"]) == set(result.metrics)
    assert drawn == [3, 3, 3]


def result_of(played: list[Episode], optimum: float | None = None) -> EvaluationResult:
    return EvaluationResult("somebody", EnvConfig(), "dev", 0, 0.0, played, optimum)


def episode(seed: int, success: bool | None, cost: float = 0.0, turns: int = 1) -> Episode:
    """An episode that scores .5 a turn, and is as unsafe as it is told to be."""
    costs = [{"advice": cost}] + [{}] * (turns - 1)
    return Episode(seed, seed, parts=[{"a": 0.5}] * turns, costs=costs, success=success)


def test_each_metric_by_hand() -> None:
    """Success of three known ones out of four, by Wilson's interval; regret above an optimum."""
    played = [
        episode(0, True, 1.0, 2),
        episode(1, True, 0.0, 4),
        episode(2, False, 0.0, 3),
        episode(3, None, 0.0, 3),
    ]
    metrics = result_of(played, optimum=2.0).metrics
    assert metrics["success"] == wilson(2, 3)
    assert metrics["cost"].mean == 0.25
    assert metrics["score"].mean == 1.5
    assert metrics["turns"].mean == 3.0
    assert metrics["regret"].mean == 1.0


def test_who_looked_nothing_up_has_no_hit_rate() -> None:
    """Nothing sought is not nothing found."""
    sought, idle = episode(0, True), episode(1, True)
    sought.knowledge = {"sought": 4, "hits": 1}
    idle.knowledge = {"sought": 0, "hits": 0}
    assert result_of([sought, idle]).metrics["hit rate"].mean == 0.25
    assert "hit rate" not in result_of([idle]).metrics


def test_differences_are_of_pairs_and_have_a_sign() -> None:
    better = result_of([episode(0, True, 0.0, 2), episode(1, True, 1.0, 2)])
    worse = result_of([episode(0, False, 1.0, 3), episode(1, True, 2.0, 3)])
    found = better.minus(worse)
    assert found["success"].mean == 0.5
    assert found["cost"].mean == -1.0
    assert found["turns"].mean == -1.0
    assert found["score"].mean == -0.5


def test_other_users_are_not_compared() -> None:
    with pytest.raises(UserError, match=r"expected results of the same users"):
        result_of([episode(0, True)]).minus(result_of([episode(1, True)]))


@dataclass(frozen=True)
class Told:
    """An agent that notes with which settings its conversations start."""

    heard: list[ConversationSettings]
    name: str = "told"
    version: str = ""
    batched: None = None

    def start(self, seed: int, settings: ConversationSettings) -> AgentConversation:
        self.heard.append(settings)
        return ScenarioAgent("expert").start(seed, settings)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_the_split_and_the_temperature_reach_the_conversation(
    split: Literal["dev", "test"],
) -> None:
    agent = Told([])
    config = EvalConfig(split, 2, seed=3, temperature=0.7, rollout=RolloutConfig(max_tokens=300))
    found = evaluate.evaluate(agent, EnvConfig(), config)
    assert [(s.temperature, s.max_tokens) for s in agent.heard] == [(0.7, 300)] * 2
    env = TextEnv(EnvConfig(), split)
    for played in found.episodes:
        opening = env.reset(played.seed)
        assert played.conversation[: len(opening)] == opening
    assert (found.agent, found.split, found.seed, found.temperature) == ("told", split, 3, 0.7)


def test_a_difference_is_of_the_same_users() -> None:
    with pytest.raises(AssertionError):
        evaluate.difference(result_of([episode(0, True)]), result_of([episode(1, True)]))


def test_trials_of_a_goal_are_one_observation() -> None:
    """Two goals, each three times: 3 of 3 and 1 of 3 succeed; pass^2 is (1 + 0) / 2."""
    won = [True, True, True, False, True, False]
    played = [episode(i // 3, success) for i, success in enumerate(won)]
    several = EvaluationResult("somebody", EnvConfig(), "dev", 0, 1.0, played, trials=3)
    assert several.metrics["success"].mean == pytest.approx(2 / 3)
    assert [several.metrics[f"pass^{k}"].mean for k in (2, 3)] == [0.5, 0.5]
    assert EvaluationResult.from_json(several.to_json()).trials == 3
    width = several.metrics["success"].high - several.metrics["success"].low
    alone = wilson(4, 6)
    assert width > alone.high - alone.low


def test_files_of_before_are_read() -> None:
    kept = result_of([episode(0, True), episode(1, False)]).to_json()
    del kept["trials"], kept["user_max_new_tokens"]
    assert EvaluationResult.from_json(kept).trials == 1


def test_trials_share_the_user_and_differ_in_the_agents_seed() -> None:
    agent = Told([])
    found = evaluate.evaluate(agent, EnvConfig(), EvalConfig(episodes=2, seed=3, trials=3))
    plain = evaluate.evaluate(agent, EnvConfig(), EvalConfig(episodes=2, seed=3))
    seeds = [e.seed for e in found.episodes]
    assert seeds == [e.seed for e in plain.episodes for _ in range(3)]
    assert found.episodes[0].conversation == plain.episodes[0].conversation


def test_a_p_value_is_mcnemars_or_a_permutations() -> None:
    better = result_of([episode(i, True) for i in range(6)])
    worse = result_of([episode(i, False) for i in range(6)])
    assert evaluate.p_value(better, worse) == pytest.approx(1 / 64)
    unknown = [result_of([episode(i, None, turns=t) for i in range(6)]) for t in (2, 1)]
    assert evaluate.p_value(*unknown) == pytest.approx(1 / 64)
    assert evaluate.discordance(better, worse) == 1.0


def test_users_who_were_met_several_times_are_permuted_as_users() -> None:
    """Five users, thrice each: of 32 signs the two that are as far, and not 15 pairs."""
    better, worse = (
        EvaluationResult(
            "somebody",
            EnvConfig(),
            "dev",
            0,
            1.0,
            [episode(i // 3, won or i % 3 == 0) for i in range(15)],
            trials=3,
        )
        for won in (True, False)
    )
    assert evaluate.p_value(better, worse) == pytest.approx(2 / 32 / 2)
    mixed = [
        result_of([episode(i, won) for i, won in enumerate(w)]) for w in ([1, 0, 1], [0, 1, 1])
    ]
    assert evaluate.discordance(*mixed) == pytest.approx(2 / 3)


def test_bounds_allow_for_what_was_not_seen() -> None:
    """Alike in all that was seen: their intervals are of what might have been."""
    found = result_of([episode(i, True, turns=2) for i in range(20)], optimum=2.0).metrics
    turns, cost = found["turns"], found["cost"]
    assert turns.low == pytest.approx(2 - 0.1211, abs=2e-3)  # of 20 zeros and a one, weighed half
    assert turns.high == pytest.approx(2 + 0.1211, abs=2e-3)
    assert (cost.mean, cost.low) == (0.0, 0.0)
    assert cost.high == pytest.approx(1.5 * 0.1211, abs=3e-3)
    assert found["score"].high == 1.0 and found["score"].low < 0.9
    assert found["regret"].high == pytest.approx(0.1211, abs=2e-3)
    acts = result_of([episode(i, True, cost=2.0) for i in range(20)]).metrics["cost"]
    assert acts.high == pytest.approx(2 + 0.5 * 0.1211, abs=2e-3)
    one, other = (result_of([episode(i, True) for i in range(20)]) for _ in range(2))
    gain = one.minus(other)
    assert gain["success"].high == pytest.approx(0.1211, abs=2e-3)
    assert gain["score"].high == pytest.approx(2 * 0.1211, abs=4e-3)
    assert gain["turns"].low == pytest.approx(-0.1211, abs=2e-3)
