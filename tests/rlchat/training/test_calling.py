"""A policy that learns to call the right function, in an environment that declares some."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.distributed import Distributed
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.models.tiny import random_llama
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.conversations import conversation
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.loop import train
from rlchat.training.run_folder import RunFolder, read_metrics
from rlchat_envs import Message, declared, read_message

ADAPTER = AdapterConfig(layers=1.0, rank=8, alpha=16, dtype="float32", device="cpu")
# Functions by name alone, each call a mark and a token for its function.
TEMPLATE = (
    "{% if tools %}<|im_start|>{% for t in tools %}{{ t.function.name }} {% endfor %}<|im_end|>"
    "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.tool_calls or [] %}"
    "<tool_call>{{ c.function.name }}{% for k, v in c.function.arguments.items() %} {{ k }}={{ v }}"
    "{% endfor %}{% endfor %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module", autouse=True)
def text_envs() -> None:
    """Register the environments, as ``--env module:Id`` does."""
    folder = str(Path(__file__).parents[1])
    sys.path.insert(0, folder)
    importlib.import_module("text_envs")
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with 18 tokens, two of which are calls: at random it makes both."""
    letters = {letter: i for i, letter in enumerate("?\nabcdefghijno")}
    made = Tokenizer(models.WordLevel(letters, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # type: ignore[assignment]
    made.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="?",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
    )
    calls = [f"<tool_call>{name}" for name in ("right", "wrong")]
    tokenizer.add_tokens([AddedToken(call, normalized=False) for call in calls])
    folder = tmp_path_factory.mktemp("calling")
    tokenizer.save_pretrained(folder)
    random_llama(tokenizer, 0).save_pretrained(folder)
    return folder


def test_a_tiny_policy_learns_to_call_the_right_function(base: Path, tmp_path: Path) -> None:
    """It begins at random, and what a call was worth is told a turn later."""
    config = TrainConfig(
        policy=str(base),
        env="tests/Calls-v0",
        iterations=12,
        episodes=64,
        adapter=ADAPTER,
        warm_start=WarmStartConfig(demonstrations=0),
        rollout=RolloutConfig(rows=64, max_new_tokens=1, max_tokens=256, cut_off_penalty=0.0),
        ppo=PPOConfig(
            learning_rate=2e-3,
            beta=0.0,
            epochs=3,
            minibatches=2,
            critic_warmup=1,
            token_budget=10_000,
        ),
        critic=CriticConfig(learning_rate=1e-3, epochs=8, width=64),
    )
    run = RunFolder(tmp_path / "run")
    policy = Policy.create(str(base), ADAPTER)
    train(config, policy, run, Distributed(cpu=True))
    reached = [row["return"] for row in read_metrics(run.metrics)]
    assert reached[0] < 0.3 and float(np.mean(reached[-3:])) > 0.9, reached
    last = sorted(run.transcripts.iterdir())[-1]
    spoken = json.loads(last.read_text("utf-8").splitlines()[-1])
    told = conversation(spoken)
    assert [tool.name for tool in declared(told)] == ["right", "wrong"]
    assert read_message(told[1].content).calls[0].name == "right"
    assert told[2] == Message("tool", "done")
