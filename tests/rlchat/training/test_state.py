"""What training carries on: whether the sampler's logprobs can stand for a forward's."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

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
