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
    """Repeated calls of one function with tensors of fixed shapes; each overwrites the last result.

    Without a GPU it is called as it is. The function comes with each call and is not kept: it
    belongs to whom this belongs to, and with a cycle between them its memory would stay.
    """

    def __init__(self, *buffers: Tensor):
        """Take a place for each of the function's arguments."""
        self._buffers = buffers
        self._graph: Any = None
        self._out: Any = None

    def __call__(self, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """The function's result; it has to be the same function in every call."""
        for buffer, value in zip(self._buffers, inputs, strict=True):
            buffer.copy_(value)
        if self._buffers[0].device.type != "cuda":
            return function(*self._buffers)
        if self._graph is None:
            self._record(function)
        self._graph.replay()
        return self._out

    def _record(self, function: Callable[..., Any]) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(*self._buffers)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._out = function(*self._buffers)
