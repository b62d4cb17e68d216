"""The verb `eval`: one agent as ever, a matrix, and what is said of differences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlchat.cli.main import main
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.statistics.significance import holm


def test_a_matrix_is_told_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "all.json"
    words = ["eval", "expert", "random", "--each-users", "default", "terse", "--episodes", "8"]
    words += ["--against", "demonstrator", "--json", str(place), "--out", str(tmp_path / "kept")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "expert minus demonstrator" in shown and "random minus demonstrator" in shown
    assert "users terse, dev side" in " ".join(shown.split()) and "(Holm)" in shown
    found = json.loads(place.read_text("utf-8"))["environments"]
    assert [one["users"] for one in found] == [[], ["terse"]]
    for one in found:
        agents = [EvaluationResult.from_json(kept) for kept in one["agents"]]
        assert [a.agent for a in agents] == ["expert", "random", "demonstrator"]
        seeds = [[e.seed for e in a.episodes] for a in agents]
        assert seeds[0] == seeds[1] == seeds[2]
    pairs = [pair for one in found for pair in one["differences"]]
    raw = {str(i): pair["p_value"] for i, pair in enumerate(pairs)}
    assert list(holm(raw).values()) == [pair["p_value_holm"] for pair in pairs]
    assert len(list((tmp_path / "kept").iterdir())) == 6
    assert main(words) == 0
    assert json.loads(place.read_text("utf-8"))["environments"] == found


def test_two_agents_are_written_as_before(tmp_path: Path) -> None:
    place = tmp_path / "two.json"
    words = ["eval", "expert", "--against", "random", "--episodes", "6", "--json", str(place)]
    assert main(words) == 0
    found = json.loads(place.read_text("utf-8"))
    assert found["agent"] == "expert" and found["against"]["agent"] == "random"
    assert set(found["difference"]) == {"success", "score", "turns", "cost"}
    assert found["p_value"] == pytest.approx(1 / 64) and "agents" not in found


def test_it_says_how_many_episodes_a_difference_needs(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "expert", "--episodes", "6", "--power", "0.5"]
    assert main([*words, "--against", "random"]) == 0
    assert "disagreed on 100% of 6 users" in " ".join(capsys.readouterr().out.split())
    assert main(words) == 0
    assert "--against NAME says it" in " ".join(capsys.readouterr().out.split())


def test_trials_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "demonstrator", "--episodes", "5", "--trials", "3"]) == 0
    shown = capsys.readouterr().out
    assert "pass^2" in shown and "pass^3" in shown and "3 trials each" in shown


def test_a_width_that_was_not_reached_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "demonstrator", "--episodes", "5", "--until-width", "0.01"]) == 0
    assert "All 5 users were met" in capsys.readouterr().out


def test_styles_are_told_in_columns_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An agent of rules ignores what is stated: it says the same, with the same success."""
    place = tmp_path / "styles.json"
    words = ["eval", "expert", "--episodes", "8", "--each-style", "none", "brief", "any"]
    assert main([*words, "--json", str(place), "--out", str(tmp_path / "kept")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "How far a stated style is followed" in shown and "style brief, dev side" in shown
    found = json.loads(place.read_text("utf-8"))
    assert [one["stated_style"] for one in found["environments"]] == [[], ["brief"], ["any"]]
    brief, *others = found["styles"]
    assert (brief["side"], brief["episodes"]) == ("brief", 8)
    assert all(row["stated"] == ["any"] for row in others)
    for row in found["styles"]:
        assert row["gained"]["mean"] == 0.0 and row["success"]["mean"] == 0.0
    assert len(list((tmp_path / "kept").iterdir())) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--stated-style", "breif"], "did you mean brief"),
        (["--each-style", "none", "--stated-style", "brief"], "leave one out"),
        (["--each-style", "brief", "brief"], "got 'brief' twice"),
    ],
)
def test_styles_that_cannot_be_measured_are_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "expert", "--episodes", "2", *words]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
