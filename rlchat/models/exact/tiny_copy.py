"""A small model of another's kind: same class and settings, few layers, narrow, random weights.

What an architecture computes shows in a model of two layers as in one of sixty. The copy keeps what
decides it (kinds of layers, rotary settings, scales, caps, norms) and scales down what costs:
widths, heads, experts, words, and with them windows and contexts, so that short rows exceed them.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from rlchat.models.exact.tiny_settings import shrunk

MOST_WEIGHTS = 20_000_000  # of a copy: more would be no copy, but another model


def tiny_copy(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """A random model of few and narrow layers, on the CPU in float32, of the class of ``model``."""
    config = shrunk(model.config)
    with torch.device("meta"):
        size = sum(p.numel() for p in type(model)(config).parameters())
    if size > MOST_WEIGHTS:
        raise NotImplementedError(f"its settings shrink to {size} weights")
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        torch.manual_seed(seed)
        tiny: PreTrainedModel = type(model)(config).float().eval()
        randomize(tiny)
    return tiny


@torch.no_grad()
def randomize(model: PreTrainedModel) -> None:
    """Draw weights that are large enough for attention to matter, and no two norms or biases alike.

    A fresh model's are so small that what it attends to hardly shows.
    """
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.dim() > 1:
            parameter.copy_(noise * 1.5 * parameter.shape[-1] ** -0.5)
        else:
            parameter.add_(noise * 0.1)
