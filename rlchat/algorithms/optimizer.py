"""AdamW on full-precision copies of parameters that compute in half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class MasterAdamW(torch.optim.AdamW):
    """AdamW whose own copies of the weights are float32.

    bfloat16 keeps 8 bits: an update below 1/256 of a weight would be rounded away. The steps go
    into float32 copies, and the parameters are those, rounded.
    """

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float):
        """Start with copies of the parameters as they are."""
        self.parameters = parameters
        self.masters = [p.detach().float().clone() for p in parameters]
        super().__init__(self.masters, lr=learning_rate, weight_decay=0.0)

    def clip_(self, norm: float) -> float:
        """Scale gradients down to this total norm; give the norm they had."""
        return float(nn.utils.clip_grad_norm_(self.parameters, norm))

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take a step with the parameters' gradients, and drop them."""
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
        super().step(closure)
        self.zero_grad()
        self._round()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, the parameters' own too."""
        super().zero_grad(set_to_none)
        for parameter in self.parameters:
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """The optimizer's state as tensors, by name."""
        out = {f"master.{i}": m for i, m in enumerate(self.masters)}
        for i, entry in self.state_dict()["state"].items():
            out |= {f"{key}.{i}": torch.as_tensor(value) for key, value in entry.items()}
        return out

    @torch.no_grad()
    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            key, _, i = name.rpartition(".")
            if key == "master":
                self.masters[int(i)].copy_(value)
            else:
                state.setdefault(int(i), {})[key] = value.clone()
        self.load_state_dict({"state": state, "param_groups": self.state_dict()["param_groups"]})
        self._round()

    @torch.no_grad()
    def _round(self) -> None:
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            parameter.copy_(master)
