"""`rlchat explain`: what it shows, that its parts add up, and what it refuses."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rlchat.cli.explain.episode import run_explain
from rlchat.cli.explain.options import ExplainOptions
from rlchat.cli.main import main


def explain(run: Path, tmp_path: Path, **options: Any) -> tuple[str, dict[str, Any]]:
    """What is printed, without color at 80 columns, and the numbers."""
    out, place = io.StringIO(), tmp_path / "numbers.json"
    run_explain(
        ExplainOptions(run=run, json=place, **options),
        Console(file=out, width=80, color_system=None),
    )
    return out.getvalue(), json.loads(place.read_text("utf-8"))


def check_sums(told: dict[str, Any]) -> None:
    for turn in told["turns"]:
        raw, whitened = turn["advantage_parts"], turn["whitened_parts"]
        mean, std = turn["advantage"]["mean"], turn["advantage"]["std"]
        tokens = [token["advantage"] for token in turn["tokens"]]
        trained = sum(tokens) / len(tokens)
        assert (sum(raw.values()) - mean) / std == pytest.approx(trained, abs=1e-5)
        assert sum(whitened.values()) == pytest.approx(trained, abs=1e-5)
        assert turn["kl"] == pytest.approx(sum(token["kl"] for token in turn["tokens"]))


def test_an_episode_of_the_transcripts(finished_run: Path, tmp_path: Path) -> None:
    shown, told = explain(finished_run, tmp_path, episode=2)
    lines = (finished_run / "transcripts" / "0001.jsonl").read_text("utf-8").splitlines()
    row = json.loads(lines[2])
    assert told["messages"] == row["messages"] and told["seed"] == row["seed"]
    assert [turn["parts"] for turn in told["turns"]] == row["parts"]
    check_sums(told)
    assert told["beside"] == 5
    for i, turn in enumerate(told["turns"]):
        assert f"turn {i}: score" in shown
        earlier = [effect["place"] for effect in turn["hung_on"]["messages"]]
        assert earlier == list(range(turn["place"]))
        assert any(abs(e["occlusion"]) > 0 for e in turn["hung_on"]["messages"])
    assert "advantage, by what gave it" in shown and "less what the critic expected" in shown
    assert "what the reply hung on" in shown and "rank correlation" in shown
    headings = [line for line in shown.splitlines() if line.startswith("what the reply hung on")]
    assert headings and all(len(h) <= 80 and h.endswith("of values") for h in headings)
    first, _ = explain(finished_run, tmp_path, iteration=0, messages=False)
    assert "what the reply hung on" not in first


def test_an_episode_that_is_played(finished_run: Path, tmp_path: Path) -> None:
    """The same user as in an evaluation; two calls see the same."""
    shown, told = explain(finished_run, tmp_path, split="dev", seed=0, episode=1, beside=3)
    kept = json.loads((finished_run / "evaluation.json").read_text())["results"][0]
    assert told["seed"] == kept["per_episode"][1]["seed"]
    assert told["messages"][:2] == kept["per_episode"][1]["messages"][:2]
    check_sums(told)
    assert explain(finished_run, tmp_path, split="dev", seed=0, episode=1, beside=3)[0] == shown


@pytest.mark.parametrize("shade", ["value", "kl", "probability"])
def test_tokens_are_shaded(finished_run: Path, tmp_path: Path, shade: str) -> None:
    shown, _ = explain(finished_run, tmp_path, shade=shade, messages=False)
    assert f"shaded by {shade}: ▁" in shown
    out = io.StringIO()
    options = ExplainOptions(run=finished_run, shade=shade, messages=False)  # type: ignore[arg-type]
    run_explain(options, Console(file=out, width=80, color_system="truecolor", force_terminal=True))
    assert "\x1b[" in out.getvalue() and "█" not in out.getvalue()


def test_another_message_and_what_becomes_of_it(finished_run: Path, tmp_path: Path) -> None:
    shown, told = explain(finished_run, tmp_path, turn=1, say="[b]Your order?[/b]", times=3)
    original, other = told["counterfactuals"]["outcomes"]
    said = [m["content"] for m in told["messages"] if m["role"] == "assistant"]
    assert (original["text"], other["text"]) == (said[1], "[b]Your order?[/b]")
    assert original["difference"] is None and other["difference"] is not None
    assert other["times"] == 3 and 0 <= other["success"]["low"] <= other["success"]["high"] <= 1
    assert [turn["turn"] for turn in told["turns"]] == [1]
    assert "B: [b]Your order?[/b]" in shown and "turn 0: score" not in shown


def test_what_the_agent_might_have_said(finished_run: Path, tmp_path: Path) -> None:
    _, told = explain(finished_run, tmp_path, turn=0, times=2, alternatives=2, messages=False)
    tried = told["counterfactuals"]
    assert sum(tried["sampled"].values()) == tried["samples"] == 8
    assert {o["text"] for o in tried["outcomes"][1:]} <= set(tried["sampled"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--episode 6", "expected an episode from 0 to 5; the transcripts have no episode 6"),
        ("--iteration 7", "expected an iteration from 0 to 1;"),
        ("--turn 40", "the episode has no turn 40"),
        ("--say Hello", "expected --turn with --say"),
        ("--split dev --iteration 1", "expected --iteration, which reads transcripts, or --split"),
        ("--times 1", "expected times of at least 2"),
        ("--json nowhere/numbers.json", "expected a file in a folder that exists"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(
    finished_run: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(finished_run), *words.split()]) == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told and told.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("all", "expected a run folder with a config.json"),
        ("checkpoint", "expected a run with a finished iteration"),
        ("adapter", "expected a run with a finished iteration"),
        ("transcripts", "expected transcripts of a training"),
        ("half", "expected one whole episode a line"),
        ("state", "expected a whole checkpoint"),
        ("other talk", "to play episode"),
    ],
)
def test_a_half_written_run_is_one_sentence(
    finished_run: Path, tmp_path: Path, spoil: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "other"
    if spoil != "all":
        shutil.copytree(finished_run, run)
    if spoil in ("checkpoint", "adapter", "transcripts"):
        shutil.rmtree(run / spoil)
    last = run / "transcripts" / "0001.jsonl"
    if spoil == "half":
        last.write_text(last.read_text("utf-8")[:-40], "utf-8")
    if spoil == "state":
        (run / "checkpoint" / "state.json").write_text("{")
    if spoil == "other talk":
        rows = [json.loads(line) for line in last.read_text("utf-8").splitlines()]
        rows[0]["messages"][1]["content"] = "Something else."
        last.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert main(["explain", str(run)]) == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told
