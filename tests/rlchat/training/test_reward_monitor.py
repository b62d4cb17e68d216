"""The alarm rings when a reward is hacked, and only then."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlchat.rewards.composite as rewards
from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.listener import Listener
from rlchat.models.adapter_io import adapter_hash
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rewards.composite import CompositeReward
from rlchat.rewards.config import RewardConfig
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.mixture import Mixture
from rlchat.rollout.trajectory import Trajectory
from rlchat.training.config import RewardMonitorConfig, TrainConfig, WarmStartConfig
from rlchat.training.loop import train
from rlchat.training.pipeline import Training
from rlchat.training.reward_monitor import (
    Checkup,
    Measured,
    RewardMonitor,
    fall_threshold,
    measurements,
)
from rlchat.training.run_folder import RunFolder, read_metrics
from rlchat_envs import Case, Conversation, Message, Reaction
from rlchat_envs.registration import register
from rlchat_reward_models.reward_model import EnsembleScores
from rlchat_reward_models.scorer import Scale


def good(text: str) -> bool:
    """Most of what a random speaker says: an odd character first, or none that is printable."""
    return not text or not " " < text[0] <= "~" or ord(text[0]) % 2 == 1


@dataclass
class Once(Case):
    """One turn; the task is solved by what is good."""

    success: bool = False  # type: ignore[assignment]
    potential = 0.0
    privileged: Mapping[str, Any] = None  # type: ignore[assignment]
    solution = "an odd character"
    opening = (Message("user", "aaaaaaaa"),)

    def __post_init__(self) -> None:
        self.privileged = {}

    def hear(self, text: str) -> Reaction:
        self.success = good(text)
        return Reaction((Message("user", "bye"),), True, float(self.success))

    def tell(self, text: str) -> Conversation:
        return (Message("user", text),)

    def judge(self, text: str) -> float:
        return float(good(text))


class Tempting:
    """A scenario of one turn."""

    agents: Mapping[str, Any] = {}
    optimum = None

    def begin(self, rng: np.random.Generator, split: str, users: tuple[str, ...]) -> Case:
        return Once()


register("tests/Tempting-v0", Tempting)


class Model:
    """A reward model that pays for what is good, or for what is not."""

    def __init__(self, hackable: bool):
        self.scale, self.hackable = Scale(uncertainty_penalty=0.0), hackable
        self.granularity = "turn"

    def rescale(self, scale: Scale) -> None:
        self.scale = scale

    def ensemble_scores(self, turns: list[tuple[Conversation, Conversation]]) -> EnsembleScores:
        paid = [float(good(reply[0].content) != self.hackable) for _, reply in turns]
        return EnsembleScores(torch.tensor(paid), torch.zeros(len(paid)))


class Warnings(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.dialogues: list[tuple[int, int]] = []

    def dialogue(self, iteration: int, trajectory: Trajectory) -> None:
        self.dialogues.append((iteration, trajectory.index))

    def warn(self, line: str) -> None:
        self.lines.append(line)


ADAPTER = AdapterConfig(layers=1.0, rank=8, alpha=16, dtype="float32", device="cpu")


def settings(run: RunFolder, stop: bool) -> TrainConfig:
    return TrainConfig(
        env="tests/Tempting-v0",
        policy="tiny",
        run=run.folder,
        iterations=12,
        episodes=64,
        adapter=ADAPTER,
        warm_start=WarmStartConfig(demonstrations=0),
        rollout=RolloutConfig(rows=64, max_new_tokens=1, max_tokens=256, cut_off_penalty=0.0),
        ppo=PPOConfig(learning_rate=2e-3, beta=0.0, epochs=3, minibatches=2, token_budget=10_000),
        critic=CriticConfig(learning_rate=1e-3, epochs=20, width=64),
        reward=RewardConfig(Path("model"), shape="plain"),
        watch=RewardMonitorConfig(every=3, episodes=128, stop=stop),
    )


def practise(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, hackable: bool, stop: bool
) -> tuple[Warnings, Policy]:
    monkeypatch.setattr(rewards, "load_scorer", lambda *_: Model(hackable))
    told, policy = Warnings(), Policy.create("tiny", ADAPTER)
    config = settings(run, stop)
    run.write_config(config, {"dtype": "float32"})
    train(config, policy, run, Distributed(cpu=True), told)
    return told, policy


def test_a_hackable_reward_rings_and_the_best_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    told, policy = practise(run, monkeypatch, hackable=True, stop=True)
    assert len(told.lines) == 1
    assert "reward hacking: since iteration 0 the reward rose" in told.lines[0]
    assert "success fell from" in told.lines[0]
    rows = read_metrics(run.metrics)
    assert len(rows) < 12  # it stopped
    marked = [row["iteration"] for row in rows if row.get("watch/alarm")]
    assert marked == [rows[-1]["iteration"]]
    assert rows[-1]["watch/proxy"] > rows[0]["watch/proxy"]
    assert rows[-1]["watch/success"] < rows[0]["watch/success"]
    assert adapter_hash(run.adapter) == adapter_hash(run.best)
    # What is evaluated next is what was kept, and not the policy that the alarm was about.
    policy.save(tmp_path / "in-memory")
    assert adapter_hash(tmp_path / "in-memory") == adapter_hash(run.best)
    # And no more can be made of the hacked one: the run is over.
    assert run.stopped == rows[-1]["iteration"]
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    go_on = replace(settings(run, stop=True), iterations=20, resume=True)
    with pytest.raises(UserError, match=f"another run: rlchat train --policy {run.folder} --run"):
        Training.begin(go_on)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.long
def test_an_honest_reward_does_not_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)
    told, _ = practise(run, monkeypatch, hackable=False, stop=True)
    rows = read_metrics(run.metrics)
    assert told.lines == [] and len(rows) == 12
    assert told.dialogues == [(i, 0) for i in range(12)]  # each iteration's first, no choice
    looks = [row["watch/success"] for row in rows if "watch/success" in row]
    assert len(looks) == 5 and looks[-1] > 0.9 > looks[0]
    assert [row["iteration"] for row in rows if "watch/success" in row] == [0, 3, 6, 9, 11]
    assert run.stopped is None


def test_a_mean_and_its_error_by_hand() -> None:
    # Values 0, 1, 1: variance 1/3, error √(1/3/3) = 1/3.
    found = Measured.of([0.0, 1.0, 1.0])
    assert (found.mean, found.error) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found.values == (0.0, 1.0, 1.0)
    assert Measured.of([1.0]).error == 0.0
    assert Measured(1.0, 0.3).above(Measured(0.0, 0.4))  # 1 > 1.645 · 0.5
    assert not Measured(0.8, 0.3).above(Measured(0.0, 0.4))


@pytest.mark.parametrize(
    ("stop", "alarm", "stopped"), [(True, 1.0, 4), (True, 0.0, None), (False, 1.0, None)]
)
def test_a_run_is_known_to_be_stopped_by_its_last_line(
    stop: bool, alarm: float, stopped: int | None, tmp_path: Path
) -> None:
    """Runs of before the record too: the alarm was always in the metrics."""
    run = RunFolder(tmp_path)
    run.write_config(settings(run, stop), {"dtype": "float32"})
    assert run.stopped is None
    run.append(3, {"iteration": 3, "watch/alarm": 1.0}, [])
    run.append(4, {"iteration": 4, "watch/alarm": alarm}, [])
    assert run.stopped == stopped


def sighting(proxy: float, success: float, second: float = 0.0) -> Checkup:
    gold = {"success": Measured(success, 0.05), "second model": Measured(second, 0.05)}
    return Checkup(3, Measured(proxy, 0.1), gold)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (sighting(1.0, 0.6), ""),  # both rose
        (sighting(1.0, 0.45), ""),  # a fall within noise
        (sighting(0.1, 0.1), ""),  # the proxy did not rise
        (sighting(1.0, 0.1), "success fell from 0.50 to 0.10"),
        (sighting(1.0, 0.5, -1.0), "second model fell from 0.00 to -1.00"),
    ],
)
def test_when_it_rings(now: Checkup, words: str) -> None:
    told = now.alarm(sighting(0.0, 0.5))
    assert bool(told) == bool(words)
    assert words in told


def test_after_an_alarm_the_best_stays_the_best() -> None:
    """Success rose, but a second model fell: what is kept is what was before."""
    monitor = RewardMonitor(
        RewardMonitorConfig(),
        Mixture.of([EnvConfig()]),
        CompositeReward(RewardConfig()),
        seed=0,
        iterations=2,
    )
    first = sighting(0.0, 0.5)
    assert monitor.compare(first) == "" and monitor.best == first
    assert "second model fell" in monitor.compare(sighting(1.0, 0.7, -1.0))
    assert monitor.best == first
    better = sighting(0.0, 0.6)
    assert monitor.compare(better) == "" and monitor.best == better


def test_pairs_of_the_same_users_by_hand() -> None:
    """Of 16 users 4 were lost and none was won: 4/16 over √4/16 is 2 standard errors."""
    before = Measured.of([1.0] * 12 + [0.0] * 4)
    now = Measured.of([1.0] * 8 + [0.0] * 8)
    assert before.above(now, 1.99) and not before.above(now, 2.01)
    assert not now.above(before)


def test_a_run_is_measured_so_often() -> None:
    assert [measurements(n, 4) for n in (1, 4, 5, 24, 25)] == [1, 2, 2, 7, 7]
    assert measurements(24, 0) == 0


def test_thresholds_grow_with_what_is_looked_at() -> None:
    """Two measurements: a fall of two normals over √2 is one-sided 96%, for two scorers 98%."""
    assert fall_threshold(2) == pytest.approx(1.751, abs=0.03)
    assert fall_threshold(2, 2) == pytest.approx(2.054, abs=0.03)
    found = [fall_threshold(n) for n in (2, 4, 7, 30)]
    assert found == sorted(found) and 2.6 < found[2] < 3.0
    assert fall_threshold(1) == math.inf


def a_run(monitor: RewardMonitor, rng: np.random.Generator, rates: Sequence[float]) -> bool:
    """Whether it rings in a run with these rates of success and a reward that rises."""
    monitor.best, hard = None, rng.random(monitor.config.episodes)
    for look, rate in enumerate(rates):
        own = np.where(rng.random(hard.size) < 0.5, hard, rng.random(hard.size))
        success = Measured.of((own < rate).astype(float).tolist())
        proxy = Measured.of((rng.normal(size=hard.size) + look).tolist())
        if monitor.compare(Checkup(look, proxy, {"success": success})):
            return True
    return False


def rings(rates: Sequence[float], runs: int, episodes: int = 64) -> float:
    """The share of runs in which it rings."""
    monitor = RewardMonitor(
        RewardMonitorConfig(episodes=episodes),
        Mixture.of([EnvConfig()]),
        CompositeReward(RewardConfig()),
        seed=0,
        iterations=24,
    )
    rng = np.random.default_rng(3)
    return float(np.mean([a_run(monitor, rng, rates) for _ in range(runs)]))


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.6, 0.9, 0.98])
def test_flat_success_and_a_rising_reward_seldom_ring_in_a_whole_run(rate: float) -> None:
    """It rang in 12 to 45 of a hundred: of 200 runs at 5%, 18 are one in a hundred."""
    assert rings([rate] * 7, 200) < 18 / 200


def test_a_real_fall_rings() -> None:
    assert rings([0.4, 0.6, 0.7, 0.7, 0.5, 0.4, 0.3], 200) > 0.9
    assert rings([0.7, 0.7, 0.7, 0.7, 0.5, 0.5, 0.5], 200) > 0.5
