"""Matrices of agents, environments and users: the same numbers however they are played."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlchat.errors import NotThere, UserError
from rlchat.evaluation import blocks
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult, difference, evaluate
from rlchat.evaluation.matrix import MatrixConfig, evaluate_matrix, with_users
from rlchat.inference.agents import ConversationSettings
from rlchat.inference.load_agent import load_agent
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig

SMALL = EvalConfig("dev", 10, rollout=RolloutConfig(rows=4))
ENVS = with_users([EnvConfig()], [(), ("terse",)])


def told(results: list[list[EvaluationResult | None]]) -> list[list[Any]]:
    return [[None if r is None else r.to_json() for r in row] for row in results]


def test_each_cell_is_an_evaluation_of_its_own() -> None:
    found = evaluate_matrix(["expert", "random"], ENVS, MatrixConfig(SMALL))
    assert [len(row) for row in found] == [2, 2]
    for env, row in zip(ENVS, found, strict=True):
        for name, result in zip(("expert", "random"), row, strict=True):
            assert result is not None
            alone = evaluate(load_agent(name), env, SMALL)
            assert result.to_json() == alone.to_json()


def test_blocks_processes_and_the_folder_change_no_number(tmp_path: Path) -> None:
    plain = told(evaluate_matrix(["demonstrator", "random"], ENVS, MatrixConfig(SMALL)))
    cut = MatrixConfig(SMALL, out=tmp_path / "new")
    assert told(evaluate_matrix(["demonstrator", "random"], ENVS, cut)) == plain
    again = told(evaluate_matrix(["demonstrator", "random"], ENVS, cut))
    assert again == plain
    side_by_side = MatrixConfig(SMALL, processes=2)
    assert told(evaluate_matrix(["demonstrator", "random"], ENVS, side_by_side)) == plain


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_model_says_the_same_in_processes_and_blocks(processes: int, tmp_path: Path) -> None:
    config = EvalConfig(
        "dev", 6, temperature=1.0, trials=2, rollout=RolloutConfig(rows=4, max_new_tokens=6)
    )
    whole = MatrixConfig(config, base="tiny")
    plain = told(evaluate_matrix(["base"], [EnvConfig()], whole))
    cut = replace(whole, processes=processes, out=tmp_path)
    assert told(evaluate_matrix(["base"], [EnvConfig()], cut)) == plain


def counted(monkeypatch: pytest.MonkeyPatch, fail_after: int = 10**9) -> list[tuple[int, int]]:
    """The blocks that are played; Ctrl-C comes after so many."""
    played: list[tuple[int, int]] = []
    play_block = blocks.play_block

    def counting(where: Any, agent: Any, first: int, last: int, on_episode: Any) -> Any:
        if len(played) == fail_after:
            raise KeyboardInterrupt
        played.append((first, last))
        return play_block(where, agent, first, last, on_episode)

    monkeypatch.setattr(blocks, "play_block", counting)
    return played


def test_a_stopped_evaluation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = MatrixConfig(SMALL, out=tmp_path / "made" / "here")
    with monkeypatch.context() as patch:
        first = counted(patch, fail_after=2)
        with pytest.raises(KeyboardInterrupt):
            evaluate_matrix(["demonstrator"], [EnvConfig()], config)
    assert first == [(0, 4), (4, 8)]
    with monkeypatch.context() as patch:
        rest = counted(patch)
        found = told(evaluate_matrix(["demonstrator"], [EnvConfig()], config))
        assert rest == [(8, 10)]
        evaluate_matrix(["demonstrator"], [EnvConfig()], config)
        assert rest == [(8, 10)]  # all is there
        more = replace(config, evaluation=replace(SMALL, episodes=13))
        evaluate_matrix(["demonstrator"], [EnvConfig()], more)
        assert rest == [(8, 10), (8, 12), (12, 13)]  # the last block was smaller
        other = replace(config, evaluation=replace(SMALL, seed=1))
        evaluate_matrix(["demonstrator"], [EnvConfig()], other)
        assert rest[3:] == [(0, 4), (4, 8), (8, 10)]
    assert found == told(evaluate_matrix(["demonstrator"], [EnvConfig()], MatrixConfig(SMALL)))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"about": 1}'])
def test_a_broken_file_is_played_anew(text: str, tmp_path: Path) -> None:
    config = MatrixConfig(SMALL, out=tmp_path)
    found = told(evaluate_matrix(["random"], [EnvConfig()], config))
    (place,) = tmp_path.iterdir()
    kept = json.loads(place.read_text("utf-8"))
    place.write_text(text, "utf-8")
    assert told(evaluate_matrix(["random"], [EnvConfig()], config)) == found
    assert json.loads(place.read_text("utf-8")) == kept


def test_another_version_of_an_agent_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MatrixConfig(SMALL, out=tmp_path)
    evaluate_matrix(["random"], [EnvConfig()], config)
    played = counted(monkeypatch)
    monkeypatch.setattr(ScenarioAgent, "version", "another")
    evaluate_matrix(["random"], [EnvConfig()], config)
    assert played == [(0, 4), (4, 8), (8, 10)]


def test_what_is_kept_is_of_the_same_blocks_and_of_no_other_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MatrixConfig(SMALL, out=tmp_path)
    envs = [EnvConfig(), EnvConfig(knowledge=("bm25",))]
    whole = told(evaluate_matrix(["demonstrator"], envs, config))
    played = counted(monkeypatch)
    assert told(evaluate_matrix(["demonstrator"], envs, config)) == whole
    assert played == []  # each cell has a file of its own
    fewer = replace(config, evaluation=replace(SMALL, episodes=6))
    ((result,),) = evaluate_matrix(["demonstrator"], envs[:1], fewer)
    assert result is not None and len(result.episodes) == 6 and played == []
    assert told(evaluate_matrix(["demonstrator"], envs, config)) == whole and played == []
    # Nor are they lost where fewer are asked for than a block has.
    few = replace(config, evaluation=replace(SMALL, episodes=3))
    ((result,),) = evaluate_matrix(["demonstrator"], envs[:1], few)
    assert result is not None and len(result.episodes) == 3 and played == []
    assert told(evaluate_matrix(["demonstrator"], envs, config)) == whole and played == []
    # A model may reply otherwise beside other rows; what was played so is not mixed.
    rows = replace(SMALL.rollout, rows=5)
    other = replace(config, evaluation=replace(SMALL, rollout=rows))
    evaluate_matrix(["demonstrator"], envs[:1], other)
    assert played == [(0, 5), (5, 10)]


def test_who_is_not_there_leaves_a_gap_in_a_matrix_and_is_refused_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = ScenarioAgent.start

    def missing(self: ScenarioAgent, seed: int, settings: ConversationSettings) -> Any:
        if (self.name, settings.env) == ("random", "rlchat/GuessNumber-v0"):
            raise NotThere("expected an environment with an agent called random")
        return start(self, seed, settings)

    monkeypatch.setattr(ScenarioAgent, "start", missing)
    envs = [EnvConfig(), EnvConfig("rlchat/GuessNumber-v0")]
    found = evaluate_matrix(["expert", "random"], envs, MatrixConfig(SMALL))
    assert [[r is None for r in row] for row in found] == [[False, False], [False, True]]
    with pytest.raises(NotThere, match="an agent called random"):
        evaluate_matrix(["random"], envs[1:], MatrixConfig(SMALL))
    with pytest.raises(UserError, match="expected an agent that rlchat/GuessNumber-v0 has"):
        evaluate_matrix(["random"], envs, MatrixConfig(SMALL))


def test_it_stops_at_the_width_with_as_many_episodes_for_each() -> None:
    config = MatrixConfig(EvalConfig("dev", 400, rollout=RolloutConfig(rows=10)), 0.1)
    (row,) = evaluate_matrix(["expert", "random"], [EnvConfig()], config)
    counts = {len(r.episodes) for r in row if r is not None}
    assert counts == {50}  # both are near an end
    (row,) = evaluate_matrix(
        ["expert", "demonstrator"], [EnvConfig()], replace(config, until_width=0.2)
    )
    (count,) = {len(r.episodes) for r in row if r is not None}
    assert 50 < count < 150
    success = row[1].metrics["success"] if row[1] else None
    assert success is not None and success.high - success.low <= 0.2


def test_with_a_comparison_the_difference_has_to_be_as_narrow() -> None:
    """Two agents that fail on other users: their difference is the wider interval."""
    config = MatrixConfig(EvalConfig("dev", 400, rollout=RolloutConfig(rows=10)), 0.25)
    counts = []
    for against in ("", "retrieval", "expert"):  # the last one plays no part
        (row,) = evaluate_matrix(
            ["demonstrator", "retrieval"], [EnvConfig()], replace(config, against=against)
        )
        a, b = row
        assert a is not None and b is not None
        gain = difference(a, b)["success"]
        counts.append(len(a.episodes))
        assert (gain.high - gain.low <= 0.25) == (against == "retrieval")
    assert counts[0] == counts[2] < counts[1] < 400
