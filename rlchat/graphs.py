"""Forwards whose shapes never change, recorded once and replayed on a GPU.

A small model's step is hundreds of kernels; starting them costs a GPU's host more than the kernels
take. A recorded graph is one start (CUDA Graphs, Gray 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # runs before a recording, in which libraries set themselves up


class Replayed:
    """A function of tensors of fixed shapes; what it gives is overwritten by the next call.

    Without a GPU it is called as it is.
    """

    def __init__(self, function: Callable[..., Any], *buffers: Tensor):
        """Take a function, and a place for each of its arguments."""
        self._function, self._buffers = function, buffers
        self._graph: Any = None
        self._out: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Give what the function gives."""
        for buffer, value in zip(self._buffers, inputs, strict=True):
            buffer.copy_(value)
        if self._buffers[0].device.type != "cuda":
            return self._function(*self._buffers)
        if self._graph is None:
            self._record()
        self._graph.replay()
        return self._out

    def _record(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._function(*self._buffers)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._out = self._function(*self._buffers)
