"""Logs of Inspect, as Inspect's own reader reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rlchat.cli.main import main
from rlchat.errors import UserError
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult, evaluate
from rlchat.evaluation.inspect_log import inspect_log, read_results, write_logs
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Episode
from rlchat_envs import Message

MADE = datetime(2026, 5, 17, 12, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def measured() -> EvaluationResult:
    return evaluate(ScenarioAgent("demonstrator"), EnvConfig(), EvalConfig(episodes=12))


def test_inspect_reads_it(measured: EvaluationResult, tmp_path: Path) -> None:
    log_module = pytest.importorskip("inspect_ai.log")
    (path,) = write_logs([measured], tmp_path / "logs", MADE)
    log = log_module.read_eval_log(str(path))
    assert (log.version, log.status) == (2, "success")
    assert (log.eval.task, log.eval.model) == ("rlchat/Support-v0", "rlchat/demonstrator")
    assert log.eval.task_args["split"] == "dev"
    assert log.results.total_samples == log.results.completed_samples == 12
    scores = {score.name: score for score in log.results.scores}
    success, known = scores["success"].metrics, measured.metrics["success"]
    assert success["accuracy"].value == known.mean
    assert (success["low_95"].value, success["high_95"].value) == (known.low, known.high)
    assert success["accuracy"].metadata["low"] == known.low
    assert scores["score"].metrics["mean"].value == measured.metrics["score"].mean
    assert scores["score"].metrics["turns"].value == measured.metrics["turns"].mean
    for sample, episode in zip(log.samples, measured.episodes, strict=True):
        assert sample.id == episode.index
        said = [(m.role, m.content) for m in sample.messages]
        assert said == [(m.role, m.content) for m in episode.conversation]
        assert [m.content for m in sample.input] == [m.content for m in episode.conversation[:2]]
        assert sample.scores["success"].value == ("C" if episode.success else "I")
        assert sample.scores["score"].value == pytest.approx(episode.score)
        last = [m.content for m in episode.conversation if m.role == "assistant"][-1]
        assert sample.output.completion == last
        assert len(sample.metadata["parts"]) == len(episode.parts)


def test_inspect_lists_and_filters_the_folder(measured: EvaluationResult, tmp_path: Path) -> None:
    log_module = pytest.importorskip("inspect_ai.log")
    other = EvaluationResult("a b/c", EnvConfig(), "test", 1, 0.0, measured.episodes)
    assert len(set(write_logs([measured, other], tmp_path, MADE))) == 2
    found = [
        log_module.read_eval_log(info, header_only=True)
        for info in log_module.list_eval_logs(str(tmp_path))
    ]
    assert {log.eval.model for log in found} == {"rlchat/demonstrator", "rlchat/a b/c"}
    assert len({log.eval.task_id for log in found}) == 2


def test_without_success_there_is_a_score_alone() -> None:
    said = (Message("user", "</script>\N{RIGHT-TO-LEFT OVERRIDE}\N{GRINNING FACE}"),)
    episode = Episode(0, 7, conversation=said, parts=[{"reward": 0.5}])
    log = inspect_log(EvaluationResult("x", EnvConfig(), "dev", 0, 0.0, [episode]), MADE)
    assert [score["name"] for score in log["results"]["scores"]] == ["score"]
    (sample,) = log["samples"]
    assert list(sample["scores"]) == ["score"] and sample["output"]["choices"] == []
    try:
        from inspect_ai.log import EvalLog
    except ImportError:
        return
    read = EvalLog.model_validate(json.loads(json.dumps(log)))
    assert read.samples[0].messages[0].content == said[0].content


def test_files_of_evaluations_and_of_runs(
    measured: EvaluationResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = measured.to_json()
    shapes = {
        "alone": (one, 1),
        "against": ({**one, "against": one}, 2),
        "several": ({"environments": [{**one, "against": one}, one]}, 3),
        "run": ({"iterations": 3, "results": [one, one]}, 2),
    }
    for name, (kept, count) in shapes.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(kept))
        assert len(read_results(path)) == count
    out = tmp_path / "logs"
    assert main(["eval", "inspect", str(tmp_path / "alone.json"), "--out", str(out)]) == 0
    assert len(list(out.iterdir())) == 1
    assert f"inspect view --log-dir {out}" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"results": [{}]}', "{", "3"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UserError, match="expected the JSON file of an evaluation"):
        read_results(path)
    with pytest.raises(UserError, match="which is none"):
        read_results(tmp_path / "missing.json")
