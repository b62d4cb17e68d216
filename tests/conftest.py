"""What several rooms' tests share. Torch is imported inside: the text world's tests need none."""

from __future__ import annotations

import gc
import os
import signal

# Tiny networks gain nothing from a second thread, and a loaded machine makes threads wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from rlchat.models.policy import Policy
    from rlchat.rollout.trajectory import Trajectory

MakePolicy = Callable[..., "Policy"]
MakeTrajectories = Callable[..., "list[Trajectory]"]


def pytest_configure() -> None:
    """Let Ctrl-C interrupt, as some tests press it; shells let background jobs ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of garbage collection, which every training asks for."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What tests rate and type never gets among what the person who runs them has kept."""
    folder = tmp_path / "data"
    monkeypatch.setenv("RLCHAT_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def make_policy() -> MakePolicy:
    """Make a tiny policy whose adapter is moved away from its start by seeded noise."""
    import torch

    from rlchat.models.config import AdapterConfig
    from rlchat.models.policy import Policy

    def make(
        method: str = "lora", noise: float = 0.1, dtype: str = "float32", layers: float = 1.0
    ) -> Policy:
        config = AdapterConfig(method, 4, 8, layers, 5, dtype, "cpu")  # type: ignore[arg-type]
        policy = Policy.create("tiny", config)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in policy.parameters():
                step = noise * torch.randn(parameter.shape, generator=generator)
                parameter.add_(step.to(parameter.dtype))
        return policy

    return make


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with random weights, which reads letters, in a folder."""
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = {w: i for i, w in enumerate([*marks, *(chr(c) for c in range(32, 127))])}
    letters = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    split = pre_tokenizers.Split(Regex("."), "isolated")
    letters.pre_tokenizer = split  # type: ignore[assignment]
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), marks, strict=True))
    folder = tmp_path_factory.mktemp("encoder")
    PreTrainedTokenizerFast(tokenizer_object=letters, **special).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(words), intermediate_size=64, **size)).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two iterations in Support-v0, evaluated; tests only read it."""
    from rlchat.algorithms.config import CriticConfig, PPOConfig
    from rlchat.models.config import AdapterConfig
    from rlchat.rollout.config import RolloutConfig
    from rlchat.training.config import TrainConfig, WarmStartConfig
    from rlchat.training.pipeline import train_agent

    folder = tmp_path_factory.mktemp("finished") / "demo"
    config = TrainConfig(
        policy="tiny",
        run=folder,
        iterations=2,
        episodes=6,
        evaluation=4,
        adapter=AdapterConfig(layers=1.0, rank=4, alpha=8, dtype="float32", device="cpu"),
        warm_start=WarmStartConfig(demonstrations=12, epochs=1),
        rollout=RolloutConfig(rows=6, max_new_tokens=8, max_tokens=900),
        ppo=PPOConfig(learning_rate=1e-2, minibatches=2),
        critic=CriticConfig(width=8, epochs=3),
    )
    train_agent(config)
    return folder


@pytest.fixture
def policy(make_policy: MakePolicy) -> Policy:
    """A perturbed tiny policy; its reference is the fresh adapter, which is the base."""
    return make_policy()


@pytest.fixture(scope="session")
def make_trajectories() -> MakeTrajectories:
    """Make ragged episodes of random tokens, as a rollout would leave them."""
    from rlchat.rollout.trajectory import Trajectory

    def make(count: int = 5, seed: int = 0, vocabulary: int = 256) -> list[Trajectory]:
        rng = np.random.default_rng(seed)

        def tokens(low: int, high: int) -> list[int]:
            return [int(i) for i in rng.integers(0, vocabulary, rng.integers(low, high))]

        made = []
        for index in range(count):
            trajectory = Trajectory(index, index, tokens(3, 12))
            turns = int(rng.integers(1, 4))
            for turn in range(turns):
                said = tokens(1, 6)
                trajectory.privileged.append({"goal": index})
                trajectory.act(said, [float(-x) for x in rng.uniform(4, 7, len(said))])
                # A turn in the middle earns nothing: it is a turn all the same.
                score = 0.0 if turn == 1 else float(rng.normal())
                trajectory.parts.append({"resolution": score})
                if turn < turns - 1:
                    trajectory.observe(tokens(2, 7))
            if index % 2:
                trajectory.terminated = True
            else:
                trajectory.truncated = True
                trajectory.observe(tokens(2, 7))
                trajectory.privileged.append({"goal": index, "turns": turns})
            made.append(trajectory)
        return made

    return make
