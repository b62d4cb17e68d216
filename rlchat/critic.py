"""The critic: a small head that reads the policy's states and says what the rest will be worth."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rlchat.errors import UserError

PRIVILEGED = 64  # hashed features of what the simulator hides


@dataclass(frozen=True)
class CriticConfig:
    """What the critic reads and how it is fitted."""

    states: Literal["detached", "shared"] = "detached"
    """Detached leaves the policy's weights alone; shared sends the value loss into the adapter."""
    privileged: bool = False
    """Also read the simulator's hidden goal; the critic is thrown away after training."""
    learning_rate: float = 5e-4
    """Its own."""
    epochs: int = 10
    """Full-batch steps an iteration, on states computed once (detached only)."""
    width: int = 256
    """Of its one hidden layer."""
    loss_weight: float = 0.1
    """Of the value loss beside the policy's (shared only)."""
    value_clip: float = 0.0
    """Largest step that is credited; 0 is off."""
    lambda_return: float = 1.0
    """GAE decay of the critic's targets across turns; 1 is the plain return."""

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        if self.learning_rate <= 0 or self.epochs < 1 or self.width < 1:
            raise UserError(
                "expected a critic with positive learning_rate, epochs and width; got "
                f"{self.learning_rate}, {self.epochs}, {self.width}"
            )
        if not 0 <= self.lambda_return <= 1:
            raise UserError(f"expected lambda_return in [0, 1]; got {self.lambda_return}")


class Critic(nn.Module):
    """V(state) from the last and a middle layer's states; starts as the constant 0."""

    def __init__(self, size: int, config: CriticConfig, seed: int = 0):
        """Make the head.

        Args:
            size: of one layer's states.
            config: width, and whether the hidden goal is read.
            seed: of the initial weights.
        """
        super().__init__()
        self.config = config
        inputs = 2 * size + (PRIVILEGED if config.privileged else 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.enter = nn.Linear(inputs, config.width)
            self.leave = nn.Linear(config.width, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Give values (N,) for features (N, inputs)."""
        values: Tensor = self.leave(torch.tanh(self.enter(features)))
        return values[..., 0]


def features(last: Tensor, middle: Tensor, hidden: Tensor | None) -> Tensor:
    """Put a critic's input together; both layers are normalised, their scales differ widely.

    Args:
        last: (N, D) states of the last layer.
        middle: (N, D) states two thirds up.
        hidden: (N, PRIVILEGED) or None.
    """
    size = last.shape[-1:]
    parts = [nn.functional.layer_norm(x.float(), size) for x in (last, middle)]
    return torch.cat([*parts, hidden] if hidden is not None else parts, dim=-1)


def hash_hidden(hidden: Mapping[str, Any]) -> Tensor:
    """Turn what the simulator hides into (PRIVILEGED,) numbers, by hashing ``key=value``.

    Weinberger et al. 2009; works for any environment, collisions included.
    """
    out = torch.zeros(PRIVILEGED)
    for key, value in hidden.items():
        out[zlib.crc32(f"{key}={value}".encode()) % PRIVILEGED] += 1.0
    return out
