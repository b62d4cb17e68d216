"""What training carries on: whether the sampler's logprobs can stand for a forward's."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from rlchat.algorithms.config import CriticConfig
from rlchat.distributed import Distributed
from rlchat.models.policy import Policy
from rlchat.statistics import RunningStd
from rlchat.training.config import TrainConfig
from rlchat.training.reward_monitor import Checkup, Measured
from rlchat.training.run_folder import RunFolder
from rlchat.training.state import State


@pytest.mark.parametrize(
    ("dtype", "gap", "iteration", "exact"),
    [
        (torch.float32, 2e-6, 3, True),
        (torch.float32, 2e-6, 8, False),  # every eighth is compared again
        (torch.float32, 2e-6, 0, False),
        (torch.float32, 2e-3, 3, False),
        (torch.float32, math.inf, 3, False),  # never compared
        (torch.float32, math.nan, 3, False),
        (torch.bfloat16, 2e-6, 3, False),
    ],
)
def test_the_sampler_is_exact_if_it_was_when_last_compared(
    dtype: torch.dtype, gap: float, iteration: int, exact: bool
) -> None:
    learner = cast(Any, SimpleNamespace(policy=SimpleNamespace(dtype=dtype)))
    other = cast(Any, None)
    state = State(learner, other, other, other, 0.03, gap)
    assert state.sampler_is_exact(iteration) == exact


def test_all_that_is_saved_is_restored(make_policy: Callable[..., Policy], tmp_path: Path) -> None:
    """Each number is one that no beginning has; the critic's optimizer has taken a step."""
    config, run = TrainConfig(critic=CriticConfig(width=4)), RunFolder(tmp_path)
    old, new = (State.begin(config, make_policy(), Distributed(cpu=True)) for _ in range(2))
    old.beta, old.gap, old.scale = 0.125, 0.25, RunningStd(3.0, 0.5, 2.0)
    old.reward.multiplier = 0.75
    old.monitor.best = Checkup(2, Measured(0.1, 0.2), {"success": Measured(0.3, 0.4)})
    for parameter in old.learner.critic.parameters():
        parameter.grad = torch.ones_like(parameter)
    old.learner.critic_optimizer.step()
    old.save(run, 6)
    assert new.restore(run) == 7
    assert (new.beta, new.gap, new.scale) == (0.125, 0.25, old.scale)
    assert new.reward.multiplier == 0.75
    assert new.monitor.best == old.monitor.best
    for name in ("critic", "critic_optimizer"):
        there, here = (getattr(s.learner, name).state_dict() for s in (old, new))
        torch.testing.assert_close(here, there)
