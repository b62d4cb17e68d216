"""Rows that architectures are tried with, and how far logprobs and gradients may differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlchat.models.attention import text_config
from rlchat.models.exact.row_limit import row_limit
from rlchat.models.exact.tiny_settings import WORDS

LENGTHS = (40, 23, 9)  # tokens of the rows that are tried
SHARED = 5  # tokens that they begin with
CLOSE = 2e-5  # relative error of logprobs that float32 explains
CLOSE_SLOPES = 1e-3  # the same of gradients, whose sums are longer


def trial_rows(model: PreTrainedModel) -> list[Tensor]:
    """Rows of unequal lengths that begin alike, as long as they may be."""
    words, limit = min(WORDS, text_config(model).vocab_size), row_limit(model)
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(4, words, (len(LENGTHS), max(LENGTHS)), generator=generator)
    ids[:, :SHARED] = ids[0, :SHARED]
    return [row[: min(n, limit or n)] for row, n in zip(ids, LENGTHS, strict=True)]


def logprobs_alone(model: PreTrainedModel, rows: Sequence[Tensor]) -> list[Tensor]:
    """Logprobs (T, V) of each row in transformers' own forward of it alone."""
    return [logprobs(model(input_ids=row[None], use_cache=False).logits[0]) for row in rows]


def logprobs(logits: Tensor) -> Tensor:
    """Of all words, in float32."""
    return logits.float().log_softmax(-1)


def error_of(ours: Tensor, theirs: Tensor) -> float:
    """Relative error; infinite where either is no number."""
    error = float((ours - theirs).detach().norm() / theirs.detach().norm())
    return error if math.isfinite(error) else math.inf


def slopes(model: PreTrainedModel, rows: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of all weights, of logprobs that weigh differently in each row."""
    total = torch.stack([(i + 1) * row.sin().mean() for i, row in enumerate(rows)]).sum()
    weights = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(total, weights, allow_unused=True)
    return [torch.zeros(1) if g is None else g for g in grads]


def slopes_differ(ours: Sequence[Tensor], theirs: Sequence[Tensor], way: str) -> str:
    """Compare gradients, each by its own size, of which a thousandth of all is the least.

    Returns:
        What is wrong with those of a way to compute, or "".
    """
    least = 1e-3 * float(torch.stack([x.norm() for x in theirs]).norm()) if theirs else 0.0
    for a, b in zip(ours, theirs, strict=True):
        error = float((a - b).norm()) / (float(b.norm()) + least)
        if not error <= CLOSE_SLOPES:
            return f"its gradients through {way} are off by {error:.1g}"
    return ""
