"""What this machine can do at best: memory read, and products of the shapes that a model has."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig

from rlchat.models import kernels

SHAPE = tuple[int, int]  # out, in


def median_seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """The median of some runs, after one that is not counted."""
    action()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def read_bandwidth() -> float:
    """Bytes a second that a sum over 400 MB reads, on all cores."""
    numbers = torch.ones(100_000_000)
    return numbers.nbytes / median_seconds(numbers.sum)


def linear_maps(config: PretrainedConfig) -> list[SHAPE]:
    """(out, in) of the linear maps of one layer of a Llama."""
    width, inner = config.hidden_size, config.intermediate_size
    heads = width // config.num_attention_heads * config.num_key_value_heads
    attention = [(width, width), (heads, width), (heads, width), (width, width)]
    return [*attention, (inner, width), (inner, width), (width, inner)]


@dataclass(frozen=True)
class Products:
    """Weights of some maps, each its own memory, as a model's are."""

    weights: Sequence[Tensor]

    @classmethod
    def of(cls, shapes: Sequence[SHAPE], dtype: torch.dtype) -> Products:
        """Make weights of these shapes."""
        return cls([torch.randn(shape).to(dtype) for shape in shapes])

    @property
    def parameters(self) -> int:
        """How many weights there are."""
        return sum(w.numel() for w in self.weights)

    def seconds(self, tokens: int, repeats: int = 5) -> float:
        """The time of all products with so many tokens: the best of W x', x W' and reordered W.

        Args:
            tokens: rows of x.
            repeats: timed runs of each way, of which the median counts.
        """
        inputs = {w.shape[1]: torch.randn(tokens, w.shape[1]).to(w.dtype) for w in self.weights}

        def plain() -> None:
            for w in self.weights:
                inputs[w.shape[1]] @ w.T

        def turned() -> None:
            for w in self.weights:
                w @ inputs[w.shape[1]].T

        again = [kernels.reorder(w) for w in self.weights]

        def reordered() -> None:
            for w, r in zip(self.weights, again, strict=True):
                kernels.product(inputs[w.shape[1]], r)

        return min(median_seconds(way, repeats) for way in (plain, turned, reordered))
