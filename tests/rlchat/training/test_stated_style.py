"""A policy that learns to be brief where it is asked to be brief, and detailed where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.distributed import Distributed
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import evaluate
from rlchat.evaluation.stated_style import share_on_side
from rlchat.inference.load_agent import load_agent
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.models.tiny import random_llama
from rlchat.rewards.config import RewardConfig
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.loop import train
from rlchat.training.run_folder import RunFolder, read_metrics
from rlchat_reward_models.stated_style import SIDES
from rlchat_reward_models.stated_style.wording import REQUESTS

ADAPTER = AdapterConfig(layers=1.0, rank=8, alpha=16, dtype="float32", device="cpu")
PHRASES = (
    "Red apples grow there. ",
    "Old bridges cross rivers. ",
    "Candles light the room. ",
    "Drums wake sleeping children. ",
    "Engines burn much coal. ",
    "Forests hide wild deer. ",
    "Gardens smell of roses. ",
    "Hammers drive long nails. ",
    "Islands lie far away. ",
    "Kettles boil cold water. ",
)  # each a token, as a reply of some hundred tokens would take long to learn
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)


class Listens(gym.Env[str, str]):
    """One turn that earns nothing, whatever is said."""

    metadata = {"deterministic": True}  # noqa: RUF012  # as Gymnasium has it

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return "apple", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "bye", 0.0, True, False, {}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that reads words and says phrases, at random: mostly it goes on and on."""
    words = ["?", *SIDES]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split(" ", "removed")  # type: ignore[assignment]
    made.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="?",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
    )
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in PHRASES])
    folder = tmp_path_factory.mktemp("style")
    tokenizer.save_pretrained(folder)
    random_llama(tokenizer, 0).save_pretrained(folder)
    return folder


@pytest.mark.long
def test_a_tiny_policy_learns_to_be_brief_only_where_it_is_asked_to_be(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REQUESTS, "train", {side: (side,) for side in SIDES})
    gym.register("tests/Listens-v0", Listens)
    config = TrainConfig(
        policy=str(base),
        env="tests/Listens-v0",
        stated_style="any",
        iterations=24,
        episodes=64,
        adapter=ADAPTER,
        warm_start=WarmStartConfig(demonstrations=0),
        rollout=RolloutConfig(rows=64, max_new_tokens=6, max_tokens=96, cut_off_penalty=0.0),
        ppo=PPOConfig(
            learning_rate=5e-3,
            beta=0.0,
            epochs=3,
            minibatches=2,
            critic_warmup=1,
            token_budget=10_000,
        ),
        critic=CriticConfig(learning_rate=1e-3, epochs=8, width=64),
        reward=RewardConfig(weights="world=1,stated_tone=0,stated_language=0,stated_length=3"),
    )
    run = RunFolder(tmp_path / "run")
    policy = Policy.create(str(base), ADAPTER)
    train(config, policy, run, Distributed(cpu=True))
    paid = [row["parts/stated_length"] for row in read_metrics(run.metrics)]
    assert float(np.mean(paid[-3:])) > 0.7 * float(np.mean(paid[:3])), paid

    def brief(*stated: str) -> float:
        """The share of replies that are brief, where something is stated."""
        env = EnvConfig("tests/Listens-v0", stated_style=stated)
        measured = EvalConfig("train", 64, temperature=1.0, rollout=config.rollout)
        agent = load_agent(run.adapter, adapter=AdapterConfig(dtype="float32", device="cpu"))
        played = evaluate(agent, env, measured).episodes
        return float(np.mean([share_on_side("brief", episode) or 0.0 for episode in played]))

    asked, otherwise = brief("brief"), brief("detailed")
    assert asked > otherwise + 0.3, (asked, otherwise, paid)
