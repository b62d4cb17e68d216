"""A run of two environments of others, whose estimator compares episodes that share a start."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.cli.config_file import default_options
from rlchat.evaluation.attribution.messages import agent_turns, dependences
from rlchat.models.config import AdapterConfig
from rlchat.rollout.config import RolloutConfig
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.inspection.counterfactuals import what_if
from rlchat.training.inspection.episodes import Episodes, played, recorded
from rlchat.training.inspection.explanation import explain_episode
from rlchat.training.inspection.opened_run import OpenedRun, open_run
from rlchat.training.pipeline import train_agent
from rlchat.training.run_folder import RunFolder

NAMES = ("tests/AskFirst-v0", "tests/Patience-v0")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OpenedRun:
    folder = tmp_path_factory.mktemp("several") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2]))
        train_agent(
            TrainConfig(
                env=f"text_envs:{NAMES[0]},text_envs:{NAMES[1]}",
                policy="tiny",
                run=folder,
                iterations=1,
                episodes=12,
                evaluation=0,
                adapter=AdapterConfig(layers=1.0, rank=4, alpha=8, dtype="float32", device="cpu"),
                warm_start=WarmStartConfig(demonstrations=0),
                rollout=RolloutConfig(rows=4, max_new_tokens=2, max_tokens=256),
                ppo=PPOConfig(estimator="rloo", group_size=3, minibatches=2, learning_rate=1e-2),
                critic=CriticConfig(width=8, epochs=1),
            )
        )
    config = default_options(TrainConfig, "train", [folder])
    return open_run(config, RunFolder(folder))


def check(opened: OpenedRun, episodes: Episodes) -> None:
    explained = explain_episode(opened, episodes)
    assert explained.estimator == "rloo" and len(episodes.trajectories) % 3 == 0
    assert explained.trajectory.env in NAMES
    for turn in explained.turns:
        mean = sum(token.advantage for token in turn.tokens) / len(turn.tokens)
        assert sum(turn.advantage.parts(whitened=True).values()) == pytest.approx(mean, abs=1e-5)
        assert set(turn.advantage.components) == {"reward", "cut_off"}


def test_whole_groups_are_explained(opened: OpenedRun) -> None:
    seen = set()
    for number in range(0, 12, 3):
        episodes = recorded(opened, number, beside=3)
        check(opened, episodes)
        seen.add(episodes.chosen.env)
        first = episodes.number
        group = episodes.trajectories[first : first + 3]
        assert len({trajectory.seed for trajectory in group}) == 1
    assert seen == set(NAMES)
    check(opened, played(opened, 4, "train", 7, beside=4))


def test_what_their_replies_hung_on_and_what_else_might_have_been(opened: OpenedRun) -> None:
    """They say that their seed decides all, so that they are played again."""
    episodes = recorded(opened, 0)
    chosen = episodes.chosen
    turns = agent_turns(chosen)
    found = dependences(opened.policy, chosen.conversation, turns, opened.config.rollout)
    assert [len(one.messages) for one in found] == [1 + 2 * k for k in range(len(turns))]
    assert math.isnan(found[0].agreement[0])
    tried = what_if(opened, episodes, 0, "}", 3)
    assert [outcome.text for outcome in tried.outcomes][1] == "}"
    assert all(outcome.success is None for outcome in tried.outcomes)
    assert tried.recorded_return == pytest.approx(chosen.score)


def test_a_card_of_a_run_without_an_evaluation(opened: OpenedRun) -> None:
    text = (opened.run.folder / "README.md").read_text("utf-8")
    assert "model-index" not in text and "This run was not evaluated" in text
    assert "Start: the base, without a warm start." in text
    assert all(f"text_envs:{name}" in text for name in NAMES)
