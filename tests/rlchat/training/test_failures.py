"""Environments that misbehave: refused before a training, and survived in it."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from rlchat.distributed import Distributed
from rlchat.errors import RunError, UserError
from rlchat.listener import Listener
from rlchat.models.policy import Policy
from rlchat.rollout.config import RolloutConfig
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.loop import train
from rlchat.training.pipeline import Training, resumed
from rlchat.training.run_folder import RunFolder, read_metrics

EPISODES = 8


class Kind(gym.Env[Any, str]):
    """Two turns. Its class says what goes wrong, and in which of the episodes that are begun."""

    wrong: Any = None
    when: Any = ()
    begun = 0
    lock = threading.Lock()
    release = threading.Event()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        with Kind.lock:
            self.number = Kind.begun
            Kind.begun += 1
        self.turn = 0
        return "hi", {}

    def step(self, action: str) -> Any:
        self.turn += 1
        if self.turn == 2 and self.number in self.when:
            return self.wrong()
        return "well", float(len(action) % 3), self.turn == 2, False, {}


class Unseeded(Kind):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


gym.register("tests/Kind-v0", Kind)
gym.register("tests/Unseeded-v0", Unseeded)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Kind, "begun", 0)
    Kind.release.clear()
    yield
    Kind.release.set()


def raises() -> Any:
    raise KeyError("parcel")


def hangs() -> Any:
    Kind.release.wait(60)
    return "late", 0.0, True, False, {}


CONFIG = TrainConfig(
    env="tests/Kind-v0",
    policy="nowhere",
    iterations=1,
    episodes=EPISODES,
    evaluation=0,
    warm_start=WarmStartConfig(demonstrations=0),
    rollout=RolloutConfig(rows=4, max_new_tokens=4, max_tokens=128, timeout=0.5, max_failed=0.25),
)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (raises, r"it raised KeyError: 'parcel' \(test_failures\.py, line \d+\); mend the env"),
        (hangs, r"expected an answer of the environment within 0\.5 seconds; there is none"),
        (lambda: None, r"to return \(observation, reward, .* got None"),
        (lambda: ("a", None, True, False, {}), "a finite number as reward .* got None"),
        (lambda: ("a", math.nan, True, False, {}), "a finite number as reward .* got nan"),
        (lambda: ("a", math.inf, True, False, {}), "a finite number as reward .* got inf"),
        (lambda: ("a", 1.0, True, {}), "got 4 values; .* split in two: terminated, truncated"),
        (lambda: ({"a": "b", "c": "d"}, 1.0, True, False, {}), "expected a string, a list of ch"),
    ],
)
def test_what_is_wrong_is_told_before_a_model_is_loaded(
    wrong: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kind, "wrong", staticmethod(wrong))
    monkeypatch.setattr(Kind, "when", (0,))
    with pytest.raises(UserError, match=said) as caught:
        Training.begin(replace(CONFIG, run=tmp_path / "run"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_reset_without_seed_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"reset\(\) of tests/Unseeded-v0 .* the keywords seed"):
        Training.begin(replace(CONFIG, env="tests/Unseeded-v0", run=tmp_path / "run"))


class Warned(Listener):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, line: str) -> None:
        """Keep a warning."""
        self.warnings.append(line)


def trained(
    run: Path, iterations: int = 1, resume: bool = False, listener: Listener | None = None
) -> list[dict[str, float]]:
    """Train the tiny network from its start; give the metrics without times."""
    config = replace(CONFIG, iterations=iterations, resume=resume)
    policy = Policy.create("tiny", CONFIG.adapter, seed=0)
    train(config, policy, RunFolder(run), Distributed(cpu=True), listener)
    timed = ("seconds", "tokens_per", "peak")
    rows = read_metrics(RunFolder(run).metrics)
    return [{k: v for k, v in row.items() if not k.startswith(timed)} for row in rows]


@pytest.mark.parametrize("wrong", [raises, hangs])
def test_what_fails_once_is_played_again_and_changes_nothing(
    wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kind, "wrong", staticmethod(wrong))
    (sound,) = trained(tmp_path / "sound")
    assert (sound["retried_episodes"], sound["failed_episodes"]) == (0, 0)
    monkeypatch.setattr(Kind, "begun", 0)
    monkeypatch.setattr(Kind, "when", (1, 6))
    (shaken,) = trained(tmp_path / "shaken")
    # Rows that are sampled together round together, and others share the retried one's forwards.
    assert shaken.pop("sampler_gap") == pytest.approx(sound.pop("sampler_gap"), abs=1e-6)
    assert shaken == sound | {"retried_episodes": 2.0}


def test_what_fails_twice_is_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers 0, 1 and 2 are begun first; number 0 is played again as number 4."""
    monkeypatch.setattr(Kind, "wrong", staticmethod(raises))
    monkeypatch.setattr(Kind, "when", (0, 4))
    listener = Warned()
    (row,) = trained(tmp_path, listener=listener)
    assert (row["retried_episodes"], row["failed_episodes"]) == (1, 1)
    assert row["turns"] == 2 and row["gradient_norm"] > 0
    lines = (tmp_path / "transcripts" / "0000.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == EPISODES - 1
    assert all(len(json.loads(line)["parts"]) == 2 for line in lines)
    (warning,) = listener.warnings
    assert "1 of 8 episodes failed twice in tests/Kind-v0 and are left out; the fir" in warning


def test_an_environment_that_fails_too_often_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first episode too many, and what was learned before goes on once it is mended."""
    monkeypatch.setattr(Kind, "wrong", staticmethod(lambda: ("a", math.nan, True, False, {})))
    monkeypatch.setattr(Kind, "when", range(EPISODES, 1000))
    with pytest.raises(RunError, match=r"at most 25% of the episodes .* iteration 1.*--resume on"):
        trained(tmp_path, iterations=2)
    assert Kind.begun <= EPISODES + 2 * 3 + CONFIG.rollout.rows
    monkeypatch.setattr(Kind, "when", ())
    rows = trained(tmp_path, iterations=2, resume=True)
    assert [row["iteration"] for row in rows] == [0, 1]


def test_how_much_may_fail_can_be_changed_in_the_middle(tmp_path: Path) -> None:
    """It decides no number; and runs of before had no such options."""
    run = RunFolder(tmp_path)
    run.write_config(replace(CONFIG, run=tmp_path), {"dtype": "float32"})
    for changed in ({"max_failed": 1.0}, {"timeout": 9.0}):
        config = replace(CONFIG, rollout=replace(CONFIG.rollout, **changed), run=tmp_path)
        assert resumed(config, run).rollout == config.rollout
    with pytest.raises(UserError, match=r"--rollout\.rows was 4 and is 5 now"):
        resumed(replace(CONFIG, rollout=replace(CONFIG.rollout, rows=5), run=tmp_path), run)


def test_a_hang_takes_no_longer_than_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kind, "wrong", staticmethod(hangs))
    monkeypatch.setattr(Kind, "when", range(1000))
    begun = time.monotonic()
    with pytest.raises(RunError, match=r"within 0\.5 seconds"):
        trained(tmp_path)
    assert time.monotonic() - begun < 30
