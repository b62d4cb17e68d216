"""The critic: a small head that reads the policy's states and says what the rest will be worth."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rlchat.algorithms.config import CriticConfig
from rlchat.algorithms.ppo import Reduce, alone

PRIVILEGED = 1024  # hashed features of what the simulator hides; fewer collide too often
RIDGE = 30.0  # turns that a fact must be seen in before it counts for half


class Critic(nn.Module):
    """V = what the policy's states tell + what the simulator hides tells; starts as the constant 0.

    A small network reads the last and a middle layer's states, and is trained by gradients. What
    is privileged (goal, persona, what is on the table), with the turn's number, is a few facts that
    explain much: ridge regression over the turns of all iterations so far weighs them in closed
    form (Hoerl and Kennard 1970), and leaves to the network what they do not explain. A baseline
    may read the whole state of the environment, which was there before the action (Pinto et al.
    2018, "Asymmetric actor critic").
    """

    gram: Tensor
    moment: Tensor
    facts: Tensor

    def __init__(self, size: int, config: CriticConfig, seed: int = 0):
        """Make a critic, whose values start as the constant 0.

        Args:
            size: of one layer's states.
            config: width, and whether the privileged information is read.
            seed: of the initial weights.
        """
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.enter = nn.Linear(2 * size, config.width)
            self.leave = nn.Linear(config.width, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        privileged = PRIVILEGED if config.privileged else 0
        self.register_buffer("gram", torch.zeros(privileged, privileged))  # sum of x x'
        self.register_buffer("moment", torch.zeros(privileged))  # sum of x times the return
        self.register_buffer("facts", torch.zeros(privileged))  # the weights that follow from these

    def forward(self, features: Tensor) -> Tensor:
        """Give values (N,) for features (N, 2 x size), or (N, 2 x size + PRIVILEGED)."""
        states = features[..., : self.enter.in_features]
        values: Tensor = self.leave(torch.tanh(self.enter(states)))[..., 0]
        return values + features[..., self.enter.in_features :] @ self.facts

    @torch.no_grad()
    def weigh_facts(self, features: Tensor, returns: Tensor, reduce: Reduce = alone) -> None:
        """Let what is privileged learn from some turns: w = (sum x x' + lambda I)^-1 sum x y.

        Args:
            features: (N, 2 x size + PRIVILEGED), a row a turn.
            returns: (N,), what the turns were worth.
            reduce: sums over ranks.
        """
        if not self.config.privileged:
            return
        x = features[:, self.enter.in_features :]
        gram, moment = reduce(x.T @ x), reduce(x.T @ returns)
        if not bool(moment.isfinite().all()):
            return  # one such return would stay in the sums for ever
        self.gram += gram
        self.moment += moment
        penalised = self.gram.double() + RIDGE * torch.eye(PRIVILEGED, dtype=torch.double)
        self.facts.copy_(torch.linalg.solve(penalised, self.moment.double()))


def features(last: Tensor, middle: Tensor) -> Tensor:
    """Normalize and join the two layers' states, (…, 2 x D); their scales differ widely.

    Args:
        last: (…, D) states of the last layer.
        middle: (…, D) states two thirds up.
    """
    size = last.shape[-1:]
    return torch.cat([nn.functional.layer_norm(x.float(), size) for x in (last, middle)], dim=-1)


def hash_privileged(privileged: Mapping[str, Any]) -> Tensor:
    """Turn what the simulator hides into (PRIVILEGED,) numbers, by hashing ``key=value``.

    Weinberger et al. 2009; works for any environment, collisions included. The first is always 1,
    and so tells what turns are worth on the whole.
    """
    out = torch.zeros(PRIVILEGED)
    out[0] = 1.0
    for key, value in privileged.items():
        out[1 + zlib.crc32(f"{key}={value}".encode()) % (PRIVILEGED - 1)] += 1.0
    return out
