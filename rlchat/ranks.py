"""The processes that train together; one process is the same code with a count of one."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

T = TypeVar("T")


class Ranks:
    """What one process knows of the others, through accelerate."""

    def __init__(self, cpu: bool = False):
        """Join the others, as `accelerate launch` or torchrun started them."""
        self.accelerator = Accelerator(cpu=cpu)

    @property
    def index(self) -> int:
        """Of this process."""
        return int(self.accelerator.process_index)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.accelerator.num_processes)

    @property
    def main(self) -> bool:
        """Whether this is the one that writes files and prints."""
        return bool(self.accelerator.is_main_process)

    def sum(self, x: Tensor) -> Tensor:
        """Sum a tensor over all processes."""
        if self.count == 1:
            return x
        total: Any = self.accelerator.reduce(x.clone(), reduction="sum")
        assert isinstance(total, torch.Tensor)
        return total

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

    def wait(self) -> None:
        """Wait for the others."""
        self.accelerator.wait_for_everyone()

    def end(self) -> None:
        """Leave the group."""
        self.accelerator.end_training()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
