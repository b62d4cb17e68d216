"""Which of what transformers offers for rows is exact for a model: padding, kept states, steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlchat.models.attention import layers_of, trunk_and_head
from rlchat.models.by_rows.padding import PaddedRows, padded_states
from rlchat.models.by_rows.states import KeptRows, go_on, merged, split
from rlchat.models.by_rows.way import ByRows, Turns
from rlchat.models.exact.comparing import (
    CLOSE,
    error_of,
    logprobs,
    logprobs_alone,
    slopes,
    slopes_differ,
    trial_rows,
)

PREFIXES = (1, 5, 17, 39)  # tokens of a row's beginnings that are to know nothing of what follows
# Tokens after which rows stop and go on, in turn: prompts, then single tokens, then a next turn.
STOPS = ((7, 8, 9, 10, 20, 21, 22, 23, 40), (1, 2, 3, 9, 10, 11, 23), (2, 3, 4, 9))
PROMPTS = (27, 9, 2)  # tokens after which rows go on side by side
_KEEPING: tuple[Turns, ...] = ("whole", "single")  # ways to go on over what is kept, fastest first
TOGETHER = (((0, 1, 2), (1, 1, 2)), ((0, 1), (5, 1)), ((1, 2, 0), (1, 2)), ((1,), (1,)))


def try_by_rows(model: PreTrainedModel, gradients: bool = True) -> ByRows | str:
    """Find a way to run a causal model in float32 by rows that is exact.

    Args:
        model: attends as transformers does.
        gradients: whether those are compared too.

    Returns:
        The fastest way, or the reason why there is none.
    """
    rows = trial_rows(model)
    if _changes_itself(model):
        return "its weights change with each switch between training and evaluation"
    with torch.set_grad_enabled(gradients):
        alone = logprobs_alone(model, rows)
        padded = _padded(model, rows)
        if wrong := _wrong("rows that are padded on the right", max(map(error_of, padded, alone))):
            return wrong
        if gradients:
            expected, ours = slopes(model, alone), slopes(model, padded)
            if wrong := slopes_differ(ours, expected, "rows that are padded on the right"):
                return wrong
    with torch.no_grad():
        if wrong := _wrong("beginnings", _error_of_prefixes(model, rows[0], alone[0])):
            return f"{wrong}, as if tokens saw what follows them"
        known = model, rows, alone
        exact = [t for t in _KEEPING if _exact(partial(_error_in_turns, *known, t == "whole"))]
        for turns in exact:
            if _exact(partial(_error_together, *known, turns == "whole")):
                return ByRows(turns, together=True)
    return ByRows(exact[0], together=False) if exact else ByRows("anew", together=True)


@torch.no_grad()
def _changes_itself(model: PreTrainedModel) -> bool:
    """Whether a forward writes to the weights, which would then fit no adapter."""
    versions = []
    for trains in (True, False):
        model.train(trains)
        model(input_ids=torch.arange(4)[None], use_cache=False)
        versions.append([parameter._version for parameter in model.parameters()])
    return versions[0] != versions[1]


def _wrong(what: str, error: float) -> str:
    return "" if error <= CLOSE else f"its logprobs of {what} are off by {error:.1g}"


def _exact(error: Callable[[], float]) -> bool:
    """Whether something can be computed, and is right."""
    try:
        return error() <= CLOSE
    except Exception:  # of any model code: what fails is not done
        return False


def _padded(model: PreTrainedModel, rows: Sequence[Tensor]) -> list[Tensor]:
    """Logprobs of rows in one forward, by the states that training reads."""
    batch = PaddedRows.of(rows, spread=max(map(len, rows)))
    last, middle = padded_states(model, batch, middle=len(layers_of(model)) // 2)
    assert middle is not None and middle.shape[0] == last.shape[0]
    logits = trunk_and_head(model)[1](last)
    return [logprobs(batch.row(logits, i)) for i in range(len(rows))]


def _error_of_prefixes(model: PreTrainedModel, row: Tensor, alone: Tensor) -> float:
    """How much beginnings of a row differ from what they are in the whole."""
    beginnings = [row[:n] for n in PREFIXES if n < len(row)]
    known = [alone[: len(beginning)] for beginning in beginnings]
    return max(map(error_of, logprobs_alone(model, beginnings), known), default=0.0)


def _error_in_turns(
    model: PreTrainedModel, rows: Sequence[Tensor], alone: Sequence[Tensor], whole: bool
) -> float:
    """How much rows differ that take turns to go on over what is kept of each."""
    kept: list[KeptRows | None] = [None] * len(rows)
    read, errors = [0] * len(rows), [0.0]
    for turn in range(max(map(len, STOPS))):
        for i, (row, stops) in enumerate(zip(rows, STOPS, strict=True)):
            end = min(stops[min(turn, len(stops) - 1)], len(row))
            new = row[read[i] : end]
            for ids in [new] if whole or kept[i] is None else new.split(1):
                if not len(ids):
                    continue
                logits, kept[i] = go_on(model, ids[None], kept[i])
                read[i] += len(ids)
                errors.append(error_of(logprobs(logits[0]), alone[i][read[i] - 1]))
    return max(errors)


def _error_together(
    model: PreTrainedModel, rows: Sequence[Tensor], alone: Sequence[Tensor], whole: bool
) -> float:
    """How much rows of unequal lengths differ that go on by as many tokens side by side."""
    read = [max(1, min(n, len(row) - 14)) for n, row in zip(PROMPTS, rows, strict=True)]
    kept = [go_on(model, row[None, :n], None)[1] for row, n in zip(rows, read, strict=True)]
    errors = [0.0]
    for members, turns in TOGETHER:
        both = merged([kept[i] for i in members])
        for tokens in turns if whole else (1,) * sum(turns):
            ids = torch.stack([rows[i][read[i] : read[i] + tokens] for i in members])
            logits, both = go_on(model, ids, both)
            for i, own in zip(members, logits, strict=True):
                read[i] += tokens
                errors.append(error_of(logprobs(own), alone[i][read[i] - 1]))
        for i, own in zip(members, split(both), strict=True):
            kept[i] = own
    return max(errors)


@torch.inference_mode()
def rows_differ_here(model: PreTrainedModel, way: ByRows, rows: Sequence[Tensor]) -> str:
    """Say how the real weights' rows differ in padding and over states, roughly.

    Args:
        model: in its own precision, where rounding hides what a tiny copy shows.
        way: it is run by.
        rows: of a few tokens.
    """
    alone = [model(input_ids=row[None], use_cache=False).logits[0].float() for row in rows]
    batch = PaddedRows.of(rows, spread=max(map(len, rows)))
    laid = trunk_and_head(model)[1](padded_states(model, batch)[0]).float()
    off = max(error_of(batch.row(laid, i), own) for i, own in enumerate(alone))
    if way.turns != "anew":
        kept: KeptRows | None = None
        for ids in (rows[0][:4], *rows[0][4:].split(1)):
            logits, kept = go_on(model, ids[None], kept)
        off = max(off, error_of(logits[0].float(), alone[0][-1]))
    limit = 1e-3 if model.dtype == torch.float32 else 1e-1
    return "" if off <= limit else f"its rows are off by {off:.1g}"
