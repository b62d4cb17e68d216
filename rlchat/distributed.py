"""The processes that train together; one process is the same code with a count of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import InitProcessGroupKwargs, gather_object
from torch import Tensor

T = TypeVar("T")

_STATES = (PartialState, AcceleratorState, GradientState)
_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


class Distributed:
    """The group of processes that train together, as one of them sees it, through accelerate."""

    def __init__(self, cpu: bool = False):
        """Join the others, as `accelerate launch` or torchrun started them."""
        # The others wait while the first makes a warm start, which may take hours.
        patience = InitProcessGroupKwargs(backend=None, timeout=timedelta(days=1))
        self.accelerator = Accelerator(cpu=cpu, kwargs_handlers=[patience])

    @property
    def index(self) -> int:
        """Index of this process among all."""
        return int(self.accelerator.process_index)

    @property
    def count(self) -> int:
        """Number of processes."""
        return int(self.accelerator.num_processes)

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return bool(self.accelerator.is_main_process)

    def sum(self, x: Tensor) -> Tensor:
        """Sum a tensor over all processes."""
        if self.count == 1:
            return x
        # Accelerators exchange only what lies on them; much of what is summed lies on the CPU.
        total: Any = self.accelerator.reduce(x.to(self.accelerator.device), reduction="sum")
        assert isinstance(total, torch.Tensor)
        return total.to(x.device)

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Sum gradients over all processes, in one message."""
        if self.count == 1:
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self.sum(torch.cat([g.float().flatten() for g in grads]))
        for parameter, part in zip(parameters, flat.split([g.numel() for g in grads]), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def gather(self, items: list[T]) -> list[T]:
        """Put the lists of all processes together."""
        return items if self.count == 1 else list(gather_object(items))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Do something for all the others: libraries see one process inside.

        transformers' Trainer would otherwise wait for processes that do not take part, and its
        waits would meet theirs.
        """
        environment = {name: os.environ.pop(name) for name in _LAUNCHED if name in os.environ}
        states = [vars(kind)["_shared_state"] for kind in _STATES]
        try:
            for kind in _STATES:
                kind._shared_state = {}
            yield
        finally:
            os.environ.update(environment)
            for kind, state in zip(_STATES, states, strict=True):
                kind._shared_state = state

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self.accelerator.wait_for_everyone()

    def end(self) -> None:
        """Leave the group of processes."""
        self.accelerator.end_training()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
