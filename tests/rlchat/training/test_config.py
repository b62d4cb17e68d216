"""Settings of a training that do not go together are refused before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rlchat.algorithms.config import PPOConfig
from rlchat.errors import UserError
from rlchat.models.config import PROMPTED, AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rewards.config import RewardConfig
from rlchat.training.config import TrainConfig
from rlchat.training.pipeline import train_agent

TOP = PPOConfig(layers=0.5)


@pytest.mark.parametrize("method", PROMPTED)
def test_virtual_tokens_have_no_top_layers(method: str) -> None:
    with pytest.raises(UserError, match=r"expected layers of 1, .* got 0.5"):
        TrainConfig(adapter=AdapterConfig(method=method), ppo=TOP)
    TrainConfig(adapter=AdapterConfig(method=method))
    TrainConfig(ppo=TOP)


def test_nor_have_those_of_a_folder(tmp_path: Path) -> None:
    saved = AdapterConfig("prefix", tokens=4, dtype="float32", device="cpu")
    Policy.create("tiny", saved).save(tmp_path / "adapter")
    config = TrainConfig(
        policy=str(tmp_path / "adapter"),
        run=tmp_path / "run",
        ppo=replace(TOP, minibatches=1),
        adapter=AdapterConfig(dtype="float32", device="cpu"),
        evaluation=0,
    )
    with pytest.raises(UserError, match=r"expected --ppo.layers 1 .* got 0.5"):
        train_agent(config)


def test_a_weight_of_a_style_wants_one_that_is_stated() -> None:
    paid = RewardConfig(weights="world=1,stated_tone=2")
    with pytest.raises(UserError, match=r"expected --stated-style with a weight for stated"):
        TrainConfig(reward=paid)
    assert TrainConfig(reward=paid, stated_style="any").env_config.stated_style == ("any",)
