"""Functions of logits: draw a token, and give the logprobs of tokens that were drawn.

A vocabulary's logits are large, and each pass over them in fresh memory costs a CPU as much as the
product that made them: passes go over a few rows at a time, in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 256  # tokens whose logits are held at a time
FEW = 4  # rows of logits that a CPU's cache holds


def _few(logits: Tensor) -> int:
    return FEW if logits.device.type == "cpu" else max(1, len(logits))


def sample(
    logits: Tensor, uniform: Sequence[float], temperature: float, top_p: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Draw one token a row, by inverting the cumulative distribution at the row's number.

    Args:
        logits: (n, V).
        uniform: n numbers in [0, 1).
        temperature: divides the logits; 0 takes the largest.
        top_p: the fewest most probable tokens that have this probability together are drawn from.

    Returns:
        ids (n,) and their logprobs (n,), nats under the distribution drawn from, float32.
    """
    rows = _few(logits)
    drawn = [
        _sample(few, uniform[first : first + rows], temperature, top_p)
        for first, few in zip(count(step=rows), logits.split(rows), strict=False)
    ]
    ids, logprobs = zip(*drawn, strict=True)
    return torch.cat(ids), torch.cat(logprobs)


def _sample(
    logits: Tensor, uniform: Sequence[float], temperature: float, top_p: float
) -> tuple[Tensor, Tensor]:
    scaled = logits.float() if temperature in (0, 1) else logits.float() / temperature
    most = scaled.amax(-1, keepdim=True)
    weights = (scaled - most).exp_()
    if temperature == 0:
        return scaled.argmax(-1), -weights.sum(-1).log()
    if top_p < 1:
        weights = _most_probable(weights, top_p)
    cumulative = weights.cumsum_(-1)
    # Rounding leaves the last entry near 1, not at it, and may round the number up to 1: the point
    # is kept below the last entry, or a token of probability 0 could be drawn.
    total = cumulative[:, -1:]
    point = total * torch.tensor(uniform, dtype=total.dtype, device=total.device)[:, None]
    point = torch.minimum(point, total.nextafter(torch.zeros_like(total)))
    ids = torch.searchsorted(cumulative, point, right=True)
    return ids[:, 0], (scaled.gather(-1, ids) - most - total.log())[:, 0]


def _most_probable(weights: Tensor, share: float) -> Tensor:
    """Set all but the fewest largest weights to 0 that have this share of a row's (n, V) sum."""
    ordered, places = weights.sort(dim=-1, descending=True, stable=True)
    larger = ordered.cumsum(-1) - ordered
    ordered[larger >= share * ordered.sum(-1, keepdim=True)] = 0
    ordered[:, 0] = weights.amax(-1)  # one is left, however small the share is
    return torch.zeros_like(weights).scatter_(-1, places, ordered)


class _Logprobs(torch.autograd.Function):
    """log softmax(head(states))[targets], a chunk of logits at a time.

    The derivative by the states is taken while a chunk's logits are there, so that they are neither
    kept nor computed again: two products a token instead of three. (Liger-Kernel, Hsu et al. 2024,
    does so for the loss.) The logits become their own derivative where they lie.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, head: nn.Module, targets: Tensor) -> Tensor:
        """Shapes: states (N, D), targets (N,)."""
        pieces: list[Tensor] = []
        slopes: list[Tensor] = []
        derive = ctx.needs_input_grad[0]
        for chunk, wanted in zip(states.split(CHUNK), targets.split(CHUNK), strict=True):
            with torch.set_grad_enabled(derive):
                own = chunk.detach().requires_grad_(derive)
                logits: Tensor = head(own)
            values = logits.detach()
            pieces.append(_log_softmax_at(values, wanted, derive))
            if derive:
                slopes += torch.autograd.grad(logits, own, values)
        if slopes:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        """Scale each token's derivative."""
        (slopes,) = ctx.saved_tensors
        return grad[:, None].to(slopes.dtype) * slopes, None, None


def _log_softmax_at(logits: Tensor, targets: Tensor, derive: bool) -> Tensor:
    """Read log softmax(logits)[targets] of (N, V); perhaps leave its derivative in the logits."""
    rows, pieces = _few(logits), []
    for few, wanted in zip(logits.split(rows), targets[:, None].split(rows), strict=True):
        scaled = few.float()
        most = scaled.amax(-1, keepdim=True)
        weights = (scaled - most).exp_()
        total = weights.sum(-1, keepdim=True)
        pieces.append((scaled.gather(-1, wanted) - most - total.log())[:, 0])
        if derive:
            weights.div_(-total)
            few.copy_(weights.scatter_add_(-1, wanted, torch.ones_like(total)))
    return torch.cat(pieces)


@torch.no_grad()
def top_logprobs(head: nn.Module, states: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most probable next tokens, from the states before them.

    Args:
        head: the output layer.
        states: (N, D).
        count: tokens of each, or all where the vocabulary is smaller.

    Returns:
        ids (N, count) and their logprobs (N, count), float32, nats; the most probable first.
    """
    found: list[tuple[Tensor, Tensor]] = []
    for chunk in states.split(CHUNK):
        logits = head(chunk)
        for few in logits.split(_few(logits)):
            wide = few.float()
            best, ids = wide.topk(min(count, wide.shape[-1]), -1)
            found.append((ids, best - wide.logsumexp(-1, keepdim=True)))
    ids, logprobs = zip(*found, strict=True)
    return torch.cat(ids), torch.cat(logprobs)


def token_logprobs(head: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities of tokens, from the states before them.

    Args:
        head: the output layer, which does not train.
        states: (N, D).
        targets: (N,) token ids.

    Returns:
        (N,), float32, nats.
    """
    logprobs = _Logprobs.apply(states, head, targets)  # type: ignore[no-untyped-call]
    assert isinstance(logprobs, Tensor)
    return logprobs
