"""The verb `judge`, and judging in `eval`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rlchat.cli.main import main
from rlchat.errors import RunError
from rlchat.rewards.rubric.judges import Answers, Asked
from rlchat.rewards.rubric.local_judge import LocalJudge

MINE = """
questions:
  fulfilled:
    ask: Did the user get it?
    good: yes
    agrees_with: success
  effort:
    ask: How much was there to do?
    kind: 1-5
    good: 1
  spoken:
    ask: Was it said aloud?
    good: yes
    agrees_with: volume > 3
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many conversations the local judge was asked about, call by call."""
    counts: list[int] = []
    answer = LocalJudge.answer

    def counted(judge: LocalJudge, asked: Sequence[Asked]) -> Iterator[Answers]:
        for one, said in zip(asked, answer(judge, asked), strict=True):
            counts.append(len(one.questions))
            yield said

    monkeypatch.setattr(LocalJudge, "answer", counted)
    return counts


@pytest.fixture
def rubric(tmp_path: Path) -> str:
    (tmp_path / "mine.yaml").write_text(MINE)
    return str(tmp_path / "mine.yaml")


EVAL = ["eval", "demonstrator", "--against", "random", "--episodes", "6"]


def test_eval_judges_every_episode_once(
    tmp_path: Path, rubric: str, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    place, out = tmp_path / "all.json", tmp_path / "kept"
    words = [*EVAL, "--rubric", rubric, "--judge", "tiny", "--out", str(out), "--json", str(place)]
    assert main(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "fulfilled (good: yes)" in shown and "effort (1 to 5, good: 1)" in shown
    assert "demonstrator minus random" in shown and "Cohen's kappa" in shown
    assert "tells nothing called volume, so the judge is not checked there" in shown
    first = json.loads(place.read_text("utf-8"))
    assert asked == [3] * 12
    found = first["rubric"]
    assert [one["agent"] for one in found["agents"]] == ["demonstrator", "random"]
    assert set(found["agents"][0]["metrics"]) == {"fulfilled", "effort", "spoken", "rubric"}
    assert found["agreement"]["fulfilled"]["count"] == 12
    assert found["agreement"]["spoken"] is None and "effort" not in found["agreement"]
    # The same command asks nothing, and two processes give the same numbers.
    assert main(words) == 0
    assert json.loads(place.read_text("utf-8")) == first and len(asked) == 12
    other = [*words[:-3], str(tmp_path / "other"), "--json", str(place), "--processes", "2"]
    assert main(other) == 0
    assert json.loads(place.read_text("utf-8")) == first and len(asked) == 24


def test_judging_goes_on_where_it_was_stopped(
    tmp_path: Path, rubric: str, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, out = tmp_path / "all.json", tmp_path / "kept"
    words = [*EVAL, "--rubric", rubric, "--judge", "tiny", "--out", str(out), "--json", str(place)]
    answer = LocalJudge.answer

    def breaks(judge: LocalJudge, some: Sequence[Asked]) -> Iterator[Answers]:
        for i, said in enumerate(answer(judge, some)):
            if i == 4:
                raise RunError("the judge failed 8 times in a row")
            yield said

    with monkeypatch.context() as patch:
        patch.setattr(LocalJudge, "answer", breaks)
        assert main(words) == 1
    assert not place.exists()
    del asked[:]
    assert main(words) == 0
    assert len(asked) == 8  # four were kept
    first = json.loads(place.read_text("utf-8"))
    shutil.rmtree(out)
    assert main(words) == 0
    assert json.loads(place.read_text("utf-8")) == first


def test_a_file_of_results_is_judged_without_playing(
    tmp_path: Path, rubric: str, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "all.json"
    assert main([*EVAL[:2], "expert", *EVAL[2:], "--json", str(place)]) == 0
    before = json.loads(place.read_text("utf-8"))
    capsys.readouterr()
    words = ["judge", str(place), "--rubric", rubric, "--judge", "tiny"]
    assert main([*words, "--against", "random"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "expert minus random" in shown and asked == [3] * 18
    after = json.loads(place.read_text("utf-8"))
    for name in ("agents", "against"):
        nodes = after[name] if name == "agents" else [after[name]]
        assert all("answers" in e for node in nodes for e in node["per_episode"])
    assert len(after["rubric"]["agents"]) == 3
    del after["rubric"]
    for node in (after, after["against"], *after["agents"]):
        for episode in node["per_episode"]:
            del episode["answers"]
    assert after == before  # nothing else has changed
    assert main([*words, "--json", str(tmp_path / "copy.json")]) == 0
    assert len(asked) == 18


def test_a_run_is_judged(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    assert main(["judge", str(run), "--judge", "tiny"]) == 0
    found = json.loads((run / "evaluation.json").read_text("utf-8"))
    assert len(found["results"][0]["rubric"]["agents"]) == len(found["results"])


BAD = {
    "expected --judge with --rubric": [*EVAL, "--rubric", "default"],
    "expected --rubric with --judge": [*EVAL, "--judge", "tiny"],
    "got nowhere.yaml": [*EVAL, "--judge", "tiny", "--rubric", "nowhere.yaml"],
    "did you mean 'smollm2-135m'": [*EVAL, "--judge", "smollm-135m", "--rubric", "default"],
    "expected MODEL@URL": [*EVAL, "--judge", "openai:m", "--rubric", "default"],
    "expected the JSON file of an evaluation": ["judge", "nowhere.json", "--judge", "tiny"],
    "got README.md, which is none": ["judge", "README.md", "--judge", "tiny"],
}


@pytest.mark.parametrize("told", BAD)
def test_mistakes_are_told_before_anything_is_played(
    told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(BAD[told]) == 2
    captured = capsys.readouterr()
    assert told in captured.err and "evaluating" not in captured.out


def test_an_agent_that_the_file_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "all.json"
    assert main([*EVAL, "--json", str(place)]) == 0
    assert main(["judge", str(place), "--judge", "tiny", "--against", "expert"]) == 2
    assert "expected an agent out of demonstrator, random" in capsys.readouterr().err


def test_columns_of_styles_are_judged_apart(
    tmp_path: Path, rubric: str, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "all.json"
    words = ["eval", "demonstrator", "--episodes", "3", "--each-style", "none", "brief"]
    assert main([*words, "--json", str(place)]) == 0
    capsys.readouterr()
    assert main(["judge", str(place), "--rubric", rubric, "--judge", "tiny"]) == 0
    assert asked == [3] * 6
    assert "style brief, judged by" in " ".join(capsys.readouterr().out.split())
    for node in json.loads(place.read_text("utf-8"))["environments"]:
        assert len(node["rubric"]["agents"]) == 1


def test_a_place_that_cannot_be_written_is_told_first(
    tmp_path: Path, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "all.json"
    assert main(["eval", "random", "--episodes", "2", "--json", str(place)]) == 0
    assert main(["judge", str(place), "--judge", "tiny", "--json", str(tmp_path / "no/a")]) == 2
    assert "expected a file in a folder that exists" in capsys.readouterr().err
    assert not asked
