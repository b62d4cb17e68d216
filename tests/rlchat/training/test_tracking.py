"""What trackers are told can be read back from their own files, and trouble is told early."""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate import tracking as accelerates
from rich.console import Console

from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.cli.train import run_training
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.models.config import AdapterConfig
from rlchat.rollout.config import RolloutConfig
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.run_folder import RunFolder, read_metrics
from rlchat.training.tracking.trackers import as_markdown, environment
from rlchat.training.tracking.tracking import Tracking, chosen, flat, transcripts

WORKER = Path(__file__).parents[1] / "workers" / "tracked.py"
CONFIG = TrainConfig(
    env="tests/AskFirst-v0",
    policy="tiny",
    iterations=2,
    episodes=4,
    seed=3,
    evaluation=0,
    track="tensorboard",
    adapter=AdapterConfig(rank=4, alpha=8, dtype="float32", device="cpu"),
    warm_start=WarmStartConfig(demonstrations=0),
    rollout=RolloutConfig(rows=4, max_new_tokens=2, max_tokens=256),
    ppo=PPOConfig(learning_rate=1e-2, minibatches=2),
    critic=CriticConfig(width=8),
)
EPISODE = {
    "index": 3,
    "seed": [1, 2],
    "messages": [{"role": "user", "content": "hi\nyou"}, {"role": "assistant", "content": "yes"}],
    "parts": [{"reward": 0.5}],
    "score": 0.5,
    "success": True,
}


@pytest.fixture(scope="module", autouse=True)
def text_envs() -> None:
    folder = str(Path(__file__).parents[1])
    sys.path.insert(0, folder)
    importlib.import_module("text_envs")
    sys.path.remove(folder)


def go(folder: Path, **changed: Any) -> tuple[RunFolder, str]:
    """Train, and give the run and what was printed."""
    screen = io.StringIO()
    run_training(replace(CONFIG, run=folder, **changed), Console(file=screen, width=200))
    return RunFolder(folder), screen.getvalue()


def measured(run: RunFolder) -> list[dict[str, float]]:
    """The metrics that have a value."""
    rows = read_metrics(run.metrics)
    return [{k: v for k, v in row.items() if v is not None} for row in rows]


def events(folder: Path) -> Any:
    """What TensorBoard makes of a folder."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return accumulators.EventAccumulator(
        str(folder), {accumulators.TENSORS: 0, accumulators.SCALARS: 0}
    ).Reload()


def scalars(run: RunFolder) -> list[dict[str, float]]:
    """The metrics that TensorBoard shows, by step."""
    found = events(run.folder / "tracking" / "tensorboard")
    rows: dict[int, dict[str, float]] = {}
    for name in found.Tags()["scalars"]:
        for point in found.Scalars(name):
            assert name not in rows.setdefault(point.step, {}), "told twice"
            rows[point.step][name] = point.value
    assert list(rows) == sorted(rows)
    return list(rows.values())


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, text_envs: None) -> RunFolder:
    pytest.importorskip("tensorboard")
    return go(tmp_path_factory.mktemp("tracked") / "run")[0]


def test_trackers_are_named_once() -> None:
    pytest.importorskip("tensorboard")
    assert chosen("") == ()
    assert chosen(" tensorboard,tensorboard") == ("tensorboard",)


def test_an_unknown_tracker_is_told_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        go(tmp_path / "run", track="wandbb")
    assert str(error.value) == (
        "expected trackers out of tensorboard, wandb, trackio, mlflow, comma-separated; got "
        "'wandbb'; correct --track or leave it out"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name, remedy",
    [
        ("tensorboard", '"rlchat[track]"'),
        ("trackio", '"rlchat[track]"'),
        ("wandb", "wandb"),
        ("mlflow", "mlflow"),
    ],
)
def test_a_tracker_that_is_not_installed_is_told(
    name: str, remedy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(accelerates, "_available_trackers", [])
    with pytest.raises(UserError) as error:
        go(tmp_path / "run", track=name)
    assert str(error.value) == (
        f"expected an installed tracker; {name} is not installed; pip install {remedy} brings it"
    )
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_does_not_start_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "tracking").mkdir()
    (tmp_path / "tracking" / "tensorboard").write_text("in the way")
    opened = Tracking(("tensorboard",), RunFolder(tmp_path), Distributed(cpu=True))
    with pytest.raises(UserError, match=r"expected tensorboard to start; it says: .*exists"):
        opened.__enter__()
    assert "TRACKIO_DIR" not in os.environ


def test_settings_have_their_names_on_the_command_line() -> None:
    settings = {"seed": 3, "ppo": {"learning_rate": 0.1, "x": {"y_z": None}}, "shape": [1, "a"]}
    assert flat(settings) == {
        "seed": 3,
        "ppo.learning-rate": 0.1,
        "ppo.x.y-z": None,
        "shape": '[1, "a"]',
    }


def test_transcripts_become_rows_and_text(tmp_path: Path) -> None:
    path = tmp_path / "0000.jsonl"
    path.write_text(json.dumps(EPISODE) + "\n" + json.dumps(EPISODE | {"index": 4}) + "\n", "utf-8")
    said = "user: hi\nyou\nassistant: yes"
    assert transcripts(path) == [[3, 0.5, True, 1, said], [4, 0.5, True, 1, said]]
    assert as_markdown(transcripts(path)) == (
        "### episode 3: score +0.50, success True, turns 1\n\n"
        "    user: hi\n    you\n    assistant: yes\n\n"
        "### episode 4: score +0.50, success True, turns 1\n\n"
        "    user: hi\n    you\n    assistant: yes"
    )


def test_a_users_own_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    with environment({"WANDB_MODE": "offline", "WANDB_DIR": "here"}):
        assert (os.environ["WANDB_MODE"], os.environ["WANDB_DIR"]) == ("online", "here")
    assert os.environ["WANDB_MODE"] == "online"
    assert "WANDB_DIR" not in os.environ


def test_only_the_main_rank_has_trackers(tmp_path: Path) -> None:
    other: Any = SimpleNamespace(main=False)
    with Tracking(("tensorboard",), RunFolder(tmp_path), other) as tracking:
        assert tracking.trackers == []
    assert list(tmp_path.iterdir()) == []


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    run, _ = go(tmp_path / "run", track="", iterations=1)
    assert not (run.folder / "tracking").exists()


def test_tensorboard_has_the_metrics_of_every_iteration(tracked: RunFolder) -> None:
    rows = measured(tracked)
    assert [row["iteration"] for row in rows] == [0, 1]
    assert "success" not in rows[0]  # this world knows none
    for row, shown in zip(rows, scalars(tracked), strict=True):
        assert shown == pytest.approx(row, rel=1e-6)


def test_tensorboard_has_the_settings(tracked: RunFolder) -> None:
    plugin = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    found: dict[str, Any] = {}
    for folder in (tracked.folder / "tracking" / "tensorboard").iterdir():
        if folder.is_dir():
            data = events(folder).summary_metadata.get("_hparams_/session_start_info")
            if data is not None:
                parsed = plugin.HParamsPluginData.FromString(data.plugin_data.content)
                found |= dict(parsed.session_start_info.hparams.items())
    assert found["ppo.learning-rate"].number_value == 0.01
    assert found["rollout.max-new-tokens"].number_value == 2
    assert found["env"].string_value == "tests/AskFirst-v0"
    assert found["resolved.dtype"].string_value == "float32"
    known = {k for k, v in flat(tracked.read_config()).items() if v is not None}
    assert set(found) == known


def test_tensorboard_has_the_transcripts(tracked: RunFolder) -> None:
    found = events(tracked.folder / "tracking" / "tensorboard")
    shown = found.Tensors("transcripts/text_summary")
    assert [point.step for point in shown] == [0, 1]
    for point in shown:
        table = transcripts(tracked.transcripts / f"{point.step:04d}.jsonl")
        assert len(table) == 4
        assert point.tensor_proto.string_val[0].decode() == as_markdown(table)


def test_a_resumed_run_goes_on_where_it_was(tracked: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tracked.folder, folder)
    run, _ = go(folder, resume=True, iterations=3)
    assert [row["iteration"] for row in scalars(run)] == [0, 1, 2]


def test_iterations_that_come_again_replace_what_was_logged(
    tracked: RunFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tracked.folder, folder)
    shutil.rmtree(RunFolder(folder).checkpoint)  # then it starts again
    run, _ = go(folder, resume=True, iterations=1)
    (shown,) = scalars(run)
    assert shown == pytest.approx(measured(run)[0], rel=1e-6)
    assert shown["seconds"] != pytest.approx(measured(tracked)[0]["seconds"], rel=1e-6)


def test_trackers_can_be_added_and_left_out_later(tracked: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    go(folder, track="", iterations=1)
    run, _ = go(folder, resume=True)
    assert [row["iteration"] for row in scalars(run)] == [1]
    go(folder, resume=True, track="", iterations=3)
    assert [row["iteration"] for row in scalars(run)] == [1]


def test_trackers_are_finished_when_training_is_stopped(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tracking = Tracking(("tensorboard",), RunFolder(tmp_path), Distributed(cpu=True))
    with pytest.raises(KeyboardInterrupt), tracking:
        assert tracking.trackers[0].writer.all_writers
        raise KeyboardInterrupt
    assert tracking.trackers[0].writer.all_writers is None


def test_a_tracker_in_trouble_does_not_stop_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(accelerates.TensorBoardTracker, "log", full)
    run, screen = go(tmp_path / "run", iterations=1)
    assert "tensorboard did not take iteration 0: no room\n" in screen
    assert len(measured(run)) == 1


def told(tracker: str, folder: Path) -> dict[str, Any]:
    """What a tracker has of a run that was resumed once."""
    pytest.importorskip(tracker)
    own = ("TRACKIO_", "WANDB_", "MLFLOW_")
    done = subprocess.run(
        [sys.executable, str(WORKER), tracker, str(folder)],
        env={name: value for name, value in os.environ.items() if not name.startswith(own)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, "a tracker printed"
    answer: dict[str, Any] = json.loads(lines[0])
    return answer


@pytest.mark.long
@pytest.mark.parametrize("tracker", ["trackio", "mlflow"])
def test_a_tracker_has_metrics_settings_and_transcripts(tracker: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    found = told(tracker, folder)
    assert found["names"] == ["run"]
    config = found["config"]
    assert (config["env"], float(config["ppo.learning-rate"])) == ("tests/AskFirst-v0", 0.01)
    assert config["resolved.dtype"] == "float32"
    rows = measured(RunFolder(folder))
    assert len(rows) == 3
    for step, (row, log) in enumerate(zip(rows, found["logs"], strict=True)):
        table = log.pop("transcripts")["_value"]
        log.pop("timestamp", None)
        assert log == row | {"step": step}
        names = ("episode", "score", "success", "turns", "conversation")
        said = transcripts(RunFolder(folder).transcripts / f"{step:04d}.jsonl")
        shown = [dict(zip(names, episode, strict=True)) for episode in said]
        scores = [pytest.approx(episode["score"]) for episode in shown]  # mlflow keeps ten digits
        assert table == [e | {"score": s} for e, s in zip(shown, scores, strict=True)]


@pytest.mark.long
def test_wandb_keeps_a_run_offline_under_one_name(tmp_path: Path) -> None:
    found = told("wandb", tmp_path / "run")
    assert found["files"] == [f"run-{found['ids']['wandb']}.wandb"] * 2
    for name in ("ppo.learning-rate", "explained_variance", "transcripts"):
        assert name in found["text"]
