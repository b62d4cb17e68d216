"""The method on one page gives the library's numbers."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlchat.algorithms.config import PPOConfig
from rlchat.algorithms.critic import CriticConfig
from rlchat.distributed import Distributed
from rlchat.models.adapters import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.training import loop, state
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.run_folder import RunFolder

PAGE = Path(__file__).parents[2] / "recipes" / "ppo_loop.py"
CONFIG = TrainConfig(
    policy="tiny",
    iterations=2,
    episodes=6,
    seed=3,
    evaluation=0,
    adapter=AdapterConfig(layers=1.0, rank=4, alpha=8, dtype="float32", device="cpu"),
    warm_start=WarmStartConfig(demonstrations=0),
    rollout=RolloutConfig(rows=3, max_new_tokens=8, max_tokens=580),
    ppo=PPOConfig(token_budget=10**6),  # the page has one forward for a minibatch
    critic=CriticConfig(privileged=False, width=8),
)


def test_it_fits_on_a_page() -> None:
    assert len(PAGE.read_text("utf-8").splitlines()) <= 180


def test_it_gives_the_library_s_numbers(
    make_policy: Callable[..., Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The library may read old logprobs off the sampler, which differ by rounding.
    monkeypatch.setattr(state, "EXACT", -math.inf)
    by_library, by_page, before = (make_policy(noise=0.3) for _ in range(3))
    loop.train(CONFIG, by_library, RunFolder(tmp_path), Distributed(cpu=True))

    spec = importlib.util.spec_from_file_location("ppo_loop", PAGE)
    assert spec is not None and spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    monkeypatch.setattr(page, "WIDTH", CONFIG.critic.width)
    page.train(by_page, EnvPool(CONFIG.env_config), CONFIG.rollout, 2, CONFIG.episodes, CONFIG.seed)

    for old, want, got in zip(
        *(p.parameters() for p in (before, by_library, by_page)), strict=True
    ):
        assert float((want - old).detach().abs().max()) > 1e-4
        torch.testing.assert_close(got, want, rtol=0, atol=1e-6)
