"""A report of a sweep: aggregates from its record, beside its runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rlchat.errors import UserError
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import evaluate
from rlchat.evaluation.report.page import report
from rlchat.evaluation.report.sweeps import read_with_sweeps, sections, title_of
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.rollout.environment import EnvConfig
from tests.rlchat.evaluation.conftest import write_run

HARM = "<script>window.harmed = 1</script>"


def interval(mean: float | None, width: float | None = 0.1) -> dict[str, float | None]:
    if mean is None or width is None:
        return {"mean": mean, "low": None, "high": None}
    return {"mean": mean, "low": mean - width, "high": mean + width}


def write_record(folder: Path, settings: list[str]) -> dict[str, Any]:
    runs = [
        {"name": f"{s}, seed 0", "setting": s, "seed": 0, "folder": f"run{i}", "agent": f"old/{i}"}
        for i, s in enumerate(settings)
    ]
    record = {
        "env": ["rlchat/Support-v0"],
        "split": "dev",
        "users": 12,
        "runs": [run | {"state": "finished"} for run in runs],
        "aggregates": {
            "metric": "success",
            "levels": [
                {
                    "setting": s,
                    "runs": 3,
                    "iqm": interval(0.7),
                    "mean": interval(0.6),
                    "optimality_gap": interval(0.3, None),
                }
                for s in settings
            ],
            "comparisons": [
                {
                    "setting": settings[1],
                    "against": settings[0],
                    "difference": interval(0.2),
                    "improvement": interval(0.8),
                }
            ],
            "bands": [
                {
                    "setting": s,
                    "metric": "success",
                    "iterations": [0, 1],
                    "values": [interval(0.2), interval(0.5)],
                }
                for s in settings
            ],
        },
    }
    (folder / "sweep.json").write_text(json.dumps(record))
    return record


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two runs, of which the first has been measured."""
    folder = tmp_path_factory.mktemp("made") / "sweep"
    for i in range(2):
        write_run(folder, f"run{i}", 0.1 * i)
        (folder / f"run{i}" / "evaluation.json").unlink()
    result = evaluate(ScenarioAgent("expert"), EnvConfig(), EvalConfig("dev", 12), "old/0")
    (folder / "evaluations").mkdir()
    (folder / "evaluations/some.json").write_text(json.dumps(result.to_json()))
    (folder / "evaluations/broken.json").write_text("{")
    return folder


@pytest.fixture
def sweep(made: Path, tmp_path: Path) -> Path:
    """A copy of it, with its record."""
    folder = tmp_path / "sweep"
    shutil.copytree(made, folder)
    write_record(folder, ["b=1", HARM])
    return folder


def test_a_sweep_is_its_runs_with_what_was_measured_of_them(sweep: Path) -> None:
    sources = read_with_sweeps([sweep])
    assert [s.name for s in sources] == ["run0", "run1"]
    assert [len(s.results) for s in sources] == [1, 0]
    (result,) = sources[0].results
    assert result.agent == "PPO" and result.metrics["success"].mean == 1.0
    assert sum(d.played.label == "PPO" for d in sources[0].dialogues) == 12
    assert title_of([sweep]) == "sweep" and title_of([sweep / "run0"]) == ""
    # Named again beside its sweep, a run is there once.
    assert len(read_with_sweeps([sweep, sweep / "run0"])) == 2


def test_its_section_has_tables_and_curves(sweep: Path) -> None:
    (found,) = sections([sweep])
    levels, compared = found.tables
    assert levels.caption == "Success, rlchat/Support-v0, dev side, 12 users"
    assert levels.rows[0] == ["b=1", "3", "70% (60% … 80%)", "60% (50% … 70%)", "30%"]
    assert compared.rows == [[HARM, "+20% (+10% … +30%)", "80% (70% … 90%)"]]
    (curve,) = found.figures
    assert curve.table.rows[1] == ["1", *["50% (40% … 60%)"] * 2]
    assert "too narrow" in found.about
    assert sections([sweep / "run0"]) == []


def test_the_page_shows_it_before_all_else_and_runs_nothing(sweep: Path, tmp_path: Path) -> None:
    page = report([sweep], tmp_path / "report.html")
    assert page.html.index('id="sweep"') < page.html.index('id="results"')
    assert "<title>sweep · rlchat report</title>" in page.html
    assert HARM not in page.html and "&lt;script&gt;window.harmed" in page.html


def test_two_sweeps_have_a_section_each(sweep: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(sweep, other)
    found = sections([sweep, other])
    assert [(s.name, s.title) for s in found] == [
        ("sweep", "Sweep sweep"),
        ("sweep1", "Sweep other"),
    ]
    assert found[0].figures[0].title == found[1].figures[0].title
    html = report([sweep, other], tmp_path / "report.html").html
    assert html.count('id="sweep-title"') == html.count('id="sweep1-title"') == 1


def test_what_is_not_finished_is_said(sweep: Path) -> None:
    record = write_record(sweep, ["a", "b"])
    record["runs"][1]["state"] = "failed"
    record["aggregates"]["comparisons"] = []
    (sweep / "sweep.json").write_text(json.dumps(record))
    (found,) = sections([sweep])
    assert found.notes == ["b, seed 0: failed."] and len(found.tables) == 1
    record["aggregates"] = None
    (sweep / "sweep.json").write_text(json.dumps(record))
    assert sections([sweep])[0].notes == ["No run of it is finished and measured yet."]
    record["aggregates"] = {"metric": "success", "levels": [{"runs": "x"}]}
    (sweep / "sweep.json").write_text(json.dumps(record))
    assert "cannot be read" in sections([sweep])[0].notes[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "expected the record of a sweep"),
        ('{"runs": [{}]}', "expected the record of a sweep"),
        ('{"runs": []}', "expected a sweep with a run that has begun"),
        ('{"runs": [{"folder": "../../run0"}]}', "expected a sweep with a run that has begun"),
        ('{"runs": [{"folder": "/etc"}]}', "expected a sweep with a run that has begun"),
    ],
)
def test_a_record_that_is_none_is_a_sentence(sweep: Path, content: str, said: str) -> None:
    (sweep / "sweep.json").write_text(content)
    with pytest.raises(UserError, match=said):
        read_with_sweeps([sweep])
