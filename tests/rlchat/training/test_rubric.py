"""Training paid by a judge: resumed to the bit, and not lost when the judge's server fails."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.errors import RunError, UserError
from rlchat.inference.openai_client import Endpoint, EndpointError
from rlchat.models.config import AdapterConfig
from rlchat.rewards.config import RewardConfig
from rlchat.rewards.rubric.config import JudgeConfig
from rlchat.rewards.rubric.endpoint_judge import EndpointJudge
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat.training.config import RewardMonitorConfig, TrainConfig, WarmStartConfig
from rlchat.training.metrics import without_tokens
from rlchat.training.pipeline import train_agent
from rlchat.training.run_folder import RunFolder, read_metrics
from rlchat_envs import Conversation

RUBRIC = """
questions:
  short:
    ask: Was the agent brief?
    good: yes
  rude:
    ask: Was the agent rude?
    good: no
"""


@pytest.fixture(scope="module", autouse=True)
def text_envs() -> None:
    folder = str(Path(__file__).parents[1])
    sys.path.insert(0, folder)
    importlib.import_module("text_envs")
    sys.path.remove(folder)


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    (tmp_path / "rubric.yaml").write_text(RUBRIC)
    judging = JudgeConfig(dtype="float32", device="cpu")
    return TrainConfig(
        env="tests/AskFirst-v0",
        policy="tiny",
        run=tmp_path / "run",
        iterations=3,
        episodes=4,
        seed=3,
        evaluation=0,
        adapter=AdapterConfig(layers=1.0, rank=4, alpha=8, dtype="float32", device="cpu"),
        warm_start=WarmStartConfig(demonstrations=0),
        rollout=RolloutConfig(rows=4, max_new_tokens=2, max_tokens=256),
        ppo=PPOConfig(learning_rate=1e-2, minibatches=2, critic_warmup=0),
        critic=CriticConfig(width=8, epochs=2),
        reward=RewardConfig(
            weights="world=1,rubric=0.5",
            rubric=str(tmp_path / "rubric.yaml"),
            judge="tiny",
            judging=judging,
        ),
        watch=RewardMonitorConfig(every=0),
    )


def timeless(run: RunFolder) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if "second" not in k and k != "peak_memory"}
        for row in read_metrics(run.metrics)
    ]


def test_a_resumed_run_is_the_uninterrupted_one(config: TrainConfig, tmp_path: Path) -> None:
    whole = train_agent(config).run
    rows = timeless(whole)
    assert all(0 < row["rubric/short"] < 1 and row["rubric/unanswered"] == 0 for row in rows)
    assert all(abs(row["parts/rubric"]) <= 0.5 for row in rows)
    part = train_agent(replace(config, run=tmp_path / "part", iterations=1)).run
    train_agent(replace(config, run=tmp_path / "part", resume=True))
    assert timeless(part) == rows
    for name in ("adapter/adapter_model.safetensors", "transcripts/0002.jsonl"):
        assert (part.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    lines = (whole.transcripts / "0000.jsonl").read_text("utf-8").splitlines()
    for line in map(json.loads, lines):
        ((identity, answers),) = line["answers"].items()
        assert identity.startswith("tiny (") and len(answers) == 2
        assert all("rubric" in parts for parts in line["parts"])
        assert not any(parts["rubric"] for parts in line["parts"][:-1])


class Failing(Endpoint):
    """Says yes, but for some of its calls."""

    def __init__(self, broken: set[int]):
        self.broken, self.calls = broken, 0

    def ask(
        self,
        conversation: Conversation,
        seed: int,
        temperature: float = 0.7,
        max_tokens: int | None = None,
    ) -> str:
        self.calls += 1
        if self.calls in self.broken:
            raise EndpointError("503")
        return "yes"


def test_a_server_that_fails_does_not_lose_the_run(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight calls an iteration: two of the first fail, and all from the second on."""

    def serve(*broken: int) -> None:
        judge = EndpointJudge("openai:m@u", Failing(set(broken)), JudgeConfig(workers=1))
        monkeypatch.setattr("rlchat.rewards.rubric.reward.load_judge", lambda *_: judge)

    serve(2, 3, *range(9, 100))
    with pytest.raises(RunError, match=r"the judge failed 8 times in a row: 503"):
        train_agent(config)
    (row,) = timeless(RunFolder(config.run))
    assert row["rubric/unanswered"] == 0.25
    serve()
    run = train_agent(replace(config, resume=True)).run
    assert [row["rubric/unanswered"] for row in timeless(run)] == [0.25, 0.0, 0.0]
    # "yes" to both questions: one good and one bad answer, which is neutral.
    assert timeless(run)[2]["parts/rubric"] == 0.0


def test_a_judge_that_is_not_there_is_told_before_anything_else(config: TrainConfig) -> None:
    for reward, told in (
        (replace(config.reward, judge="smollm-135m"), "did you mean"),
        (replace(config.reward, rubric="nowhere.yaml"), "got nowhere.yaml"),
    ):
        with pytest.raises(UserError, match=told):
            train_agent(replace(config, reward=reward))
        assert not config.run.exists()


def test_a_judge_s_reward_is_watched(config: TrainConfig) -> None:
    with pytest.raises(UserError, match=r"tells success.*--watch\.every 0"):
        train_agent(replace(config, watch=RewardMonitorConfig(every=1)))


def test_other_ranks_see_the_answers() -> None:
    trajectory = Trajectory(0, 0, [1], answers={"judge": {"Was it?": 1.0}})
    assert without_tokens(trajectory).answers == trajectory.answers
