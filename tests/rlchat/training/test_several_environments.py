"""One run in two environments: each with its own scale, told apart, and resumed bit for bit."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from rich.console import Console

from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.cli.main import main
from rlchat.cli.train import run_training
from rlchat.errors import UserError
from rlchat.models.config import AdapterConfig
from rlchat.rollout.config import RolloutConfig
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.run_folder import RunFolder, read_metrics

ENVS = NUMBER, DEAR = "rlchat/GuessNumber-v0", "tests/Dear-v0"


class Dear(gym.Env[str, str]):
    """Two turns, whose scores are a thousand times as large as those of others."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.turn = 0
        return "Say something dear.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.turn += 1
        earned = 1000.0 * (sum(map(ord, action)) % 3) + float(self.np_random.random())
        return "well", earned, self.turn == 2, False, {}


gym.register(DEAR, Dear)
CONFIG = TrainConfig(
    env=f"{NUMBER},{DEAR}",
    env_weights="1,2",
    policy="tiny",
    iterations=3,
    episodes=12,
    seed=3,
    evaluation=0,
    adapter=AdapterConfig(layers=1.0, rank=4, alpha=8, dtype="float32", device="cpu"),
    warm_start=WarmStartConfig(demonstrations=0),
    rollout=RolloutConfig(rows=4, max_new_tokens=2, max_tokens=200),
    ppo=PPOConfig(learning_rate=1e-2, minibatches=2),
    critic=CriticConfig(width=8, epochs=3),
)


def go(folder: Path, **changed: Any) -> tuple[RunFolder, str]:
    printed = Console(file=io.StringIO(), width=200)
    run_training(replace(CONFIG, run=folder, **changed), printed)
    assert isinstance(printed.file, io.StringIO)
    return RunFolder(folder), printed.file.getvalue()


def timeless(run: RunFolder) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if "second" not in k and k != "peak_memory"}
        for row in read_metrics(run.metrics)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, str]:
    return go(tmp_path_factory.mktemp("whole") / "run")


def test_each_is_told_apart(whole: tuple[RunFolder, str]) -> None:
    run, printed = whole
    rows = timeless(run)
    for row in rows:
        assert row[f"episodes/{NUMBER}"] + row[f"episodes/{DEAR}"] == CONFIG.episodes
        assert row[f"success/{NUMBER}"] == row["success"] == 0.0
        assert row[f"success/{DEAR}"] is None  # it tells none
        shares = [(row[f"episodes/{e}"] / CONFIG.episodes, row[f"return/{e}"]) for e in ENVS]
        assert row["return"] == pytest.approx(sum(share * mean for share, mean in shares))
    assert {row[f"episodes/{DEAR}"] for row in rows} != {CONFIG.episodes / 2}
    assert "GuessNumber-v0 success 0.00" in printed and "Dear-v0 return +" in printed
    lines = (run.transcripts / "0000.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["env"] for line in lines} == {NUMBER, DEAR}


def test_each_has_its_own_scale(whole: tuple[RunFolder, str]) -> None:
    """The running std of its turns' scores, which a checkpoint keeps."""
    run, _ = whole
    last = timeless(run)[-1]
    assert last[f"score_std/{DEAR}"] > 300 > 10 > last[f"score_std/{NUMBER}"] > 0
    kept = run.load_checkpoint()[1]
    assert set(kept["scales"]) == {NUMBER, DEAR}
    counts = [scale["count"] for scale in kept["scales"].values()]
    assert sum(counts) == kept["scale"]["count"] and min(counts) > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_is_the_uninterrupted_one(
    workers: int, whole: tuple[RunFolder, str], tmp_path: Path
) -> None:
    rollout = replace(CONFIG.rollout, workers=workers)
    go(tmp_path / "run", iterations=1, rollout=rollout)
    again, _ = go(tmp_path / "run", resume=True, rollout=rollout)
    if workers:  # rows that are sampled together round together
        for row, same in zip(timeless(again), timeless(whole[0]), strict=True):
            for env in ENVS:
                assert row[f"episodes/{env}"] == same[f"episodes/{env}"]
        return
    assert timeless(again) == timeless(whole[0])
    assert again.load_checkpoint()[1] == whole[0].load_checkpoint()[1]
    for name in ("adapter/adapter_model.safetensors", "checkpoint/state.safetensors"):
        assert (again.folder / name).read_bytes() == (whole[0].folder / name).read_bytes()


def test_other_weights_are_another_run(whole: tuple[RunFolder, str]) -> None:
    with pytest.raises(UserError, match=r"--env-weights was '1,2' and is '2,1' now"):
        go(whole[0].folder, resume=True, env_weights="2,1")


def test_each_is_evaluated_before_and_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a training, and by the verb eval, which knows of the run's environments."""
    run, printed = go(tmp_path / "run", iterations=1, evaluation=3)
    kept = json.loads(run.evaluation.read_text("utf-8"))["results"]
    assert [(r["env"], r["agent"]) for r in kept] == [
        *((NUMBER, name) for name in ("base", "PPO", "demonstrator", "expert")),
        *((DEAR, name) for name in ("base", "PPO")),
    ]
    assert [r["env"] for r in json.loads(run.start.read_text("utf-8"))["results"]] == [NUMBER, DEAR]
    for env in ENVS:
        assert f"{env}, dev side, 3 episodes" in printed
    assert f"chat {run.folder} --env {NUMBER}" in printed
    place = tmp_path / "result.json"
    words = ["eval", str(run.folder), "--episodes", "2", "--json", str(place)]
    assert main([*words, "--rollout.max-new-tokens", "2", "--rollout.max-tokens", "200"]) == 0
    found = json.loads(place.read_text("utf-8"))["environments"]
    assert [answer["env"] for answer in found] == [NUMBER, DEAR]
    assert [answer["episodes"] for answer in found] == [2, 2]
    capsys.readouterr()
    assert main(["chat", str(run.folder)]) == 2
    said = capsys.readouterr().err
    assert f"expected one environment; got {NUMBER} and {DEAR}; name one with --env" in said
