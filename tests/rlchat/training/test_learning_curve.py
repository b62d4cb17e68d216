"""The learning curve as a picture and in the terminal."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib import image
from matplotlib.figure import Figure
from rich.console import Console

from rlchat.cli.tables import show_curve, terminal_curve
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat.training.config import TrainConfig
from rlchat.training.learning_curve import Curve, draw_png, leave_curve, success_interval
from rlchat.training.run_folder import RunFolder

ROWS: list[dict[str, Any]] = [
    {"iteration": i, "success": s, "return": 2 * s - 1} for i, s in enumerate((0.25, 0.5, 0.75))
]
FOREIGN = [{**row, "success": None} for row in ROWS]


def result(agent: str, solved: int, of: int = 4) -> EvaluationResult:
    episodes = [
        Trajectory(i, i, [], success=i < solved, parts=[{"solved": float(i < solved)}])
        for i in range(of)
    ]
    return EvaluationResult(agent, EnvConfig(), "dev", 0, 0.0, episodes)


RESULTS = [result("base", 0), result("warm start", 1), result("PPO", 4), result("expert", 4)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_iterations_without_a_value_are_left_out() -> None:
    curve = Curve.of([*ROWS[:2], {"iteration": 2, "success": math.nan}], episodes=64)
    assert (curve.name, curve.iterations, curve.values) == ("success", [0, 1], [0.25, 0.5])
    assert [i.mean for i in curve.band] == [0.25, 0.5]
    curve = Curve.of(FOREIGN, episodes=64)
    assert (curve.name, curve.values, curve.band) == ("return", [-0.5, 0.0, 0.5], [])


@pytest.mark.parametrize("rows", [ROWS, FOREIGN, ROWS[:1]])
def test_the_picture_can_be_read(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    draw_png(rows, path, 64, RESULTS[1:3])
    height, width, channels = image.imread(path).shape
    assert (height, width, channels) == (540, 960, 4)
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"]  # nothing half-written beside it


def test_evaluations_stand_where_their_policies_were(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_png(ROWS, tmp_path / "curve.png", 64, RESULTS[1:3], "$5 a_b")
    axes = drawn[0].axes[0]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [
        "training users",
        "95% interval",
        "warm start: 4 dev users, greedy",
        "PPO: 4 dev users, greedy",
    ]
    points = [bars.lines[0] for bars in axes.containers]
    places = [(float(p.get_xdata()[0]), float(p.get_ydata()[0])) for p in points]
    assert places == [(0.0, 0.25), (3.0, 1.0)]
    assert axes.get_title() == "$5 a_b" and axes.get_xlabel() == "iteration"
    assert axes.get_ylim() == (0.0, 1.0)


def test_scores_that_are_all_alike_have_no_error_bar_below_zero(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    """matplotlib refuses a negative one, which a rounded mean would make."""
    alike = [Trajectory(i, i, [], parts=[{"a": 0.1, "b": 0.2}]) for i in range(7)]
    draw_png(FOREIGN, tmp_path / "a.png", 64, [replace(RESULTS[0], episodes=alike)] * 2)
    for bars in drawn[0].axes[0].containers:
        ((below, above),) = bars.lines[2][0].get_segments()
        assert below[1] == pytest.approx(0.3) and above[1] == pytest.approx(0.3)


def test_the_terminal_shows_the_line_between_its_bounds() -> None:
    text = terminal_curve(ROWS, 40, episodes=64)
    lines = text.plain.splitlines()
    assert lines[0].strip() == "success by iteration, 95% intervals"
    assert max(len(line) for line in lines) <= 40
    assert len(lines) == 1 + 14 + 1
    assert any(line.endswith("│ 50%") for line in lines) and lines[-1].split() == ["0", "1", "2"]
    assert terminal_curve(FOREIGN, 40).plain.splitlines()[0].strip() == "return by iteration"


def run_of(folder: Path, rows: list[dict[str, Any]]) -> RunFolder:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RunFolder(folder)


def shown(run: RunFolder, results: list[EvaluationResult], **console: Any) -> str:
    out = io.StringIO()
    leave_curve(run, results, TrainConfig())
    show_curve(run, TrainConfig(), Console(file=out, width=60, **console))
    return out.getvalue()


def test_a_run_gets_its_curve(tmp_path: Path, drawn: list[Figure]) -> None:
    run = run_of(tmp_path / "run", ROWS)
    assert "success by iteration, 95% intervals" in shown(run, RESULTS)
    assert (run.folder / "curve.png").is_file()
    axes = drawn[0].axes[0]
    assert axes.get_title() == "Learning curve, rlchat/Support-v0"
    assert len(axes.containers) == 2  # of the four agents, before and after
    assert shown(run, []) and len(drawn[1].axes[0].containers) == 0


def test_a_run_without_iterations_has_none(tmp_path: Path) -> None:
    run = run_of(tmp_path / "none", [])
    assert shown(run, RESULTS) == "" and not (run.folder / "curve.png").exists()
    run = run_of(tmp_path / "one", ROWS[:1])
    assert shown(run, RESULTS) == "" and (run.folder / "curve.png").exists()


def test_an_interval_is_of_the_episodes_that_tell_success() -> None:
    """Of several environments not all may."""
    row = {"iteration": 0, "success": 0.5, "success/a": 0.5, "success/b": None}
    row |= {"episodes/a": 8.0, "episodes/b": 56.0}
    assert Curve.of([row], 64).band == [success_interval(0.5, 8)]
    assert Curve.of([row | {"success/b": 0.5}], 64).band == [success_interval(0.5, 64)]
