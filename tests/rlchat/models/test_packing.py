"""Rows in one sequence are what they are alone (ppo.md, test 7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from rlchat.models.packing import STRIDE, Packing, some_layers
from rlchat.models.policy import Policy

MakePolicy = Callable[..., Policy]
BEGIN = [5, 6, 7, 8]
ROWS = {
    "one row": [[1, 2, 3]],
    "nothing shared": [[1, 2, 3], [2, 2], [9]],
    "a shared beginning": [[*BEGIN, 1, 2], [*BEGIN, 3], [*BEGIN, 1, 2, 9, 9, 9]],
    "as long as what is shared": [[*BEGIN, 1, 2, 3, 4], [*BEGIN, 2, 2, 2, 2]],
    "a row that is the others' beginning": [BEGIN, [*BEGIN, 1, 2]],
    "the same row twice": [BEGIN, BEGIN],
}


def tensors(rows: list[list[int]]) -> list[torch.Tensor]:
    return [torch.tensor(row) for row in rows]


def test_a_layout_by_hand() -> None:
    packing = Packing.of(tensors(ROWS["a shared beginning"]))
    assert (packing.shared, packing.own) == (4, [2, 1, 5])
    assert packing.ids[:12].tolist() == [*BEGIN, 1, 2, 3, 1, 2, 9, 9, 9]
    assert packing.positions[:12].tolist() == [0, 1, 2, 3, 4, 5, 4, 4, 5, 6, 7, 8]
    assert len(packing.ids) == STRIDE and packing.filler == STRIDE - 12
    assert packing.longest == 9
    row, token = torch.tensor([0, 2, 1, 2]), torch.tensor([3, 0, 4, 8])
    assert packing.at(row, token).tolist() == [3, 0, 6, 11]


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
def test_what_is_laid_out_is_found_again(rows: list[list[int]]) -> None:
    packing = Packing.of(tensors(rows), virtual=3)
    laid = packing.ids
    for i, row in enumerate(rows):
        assert packing.row(laid, i).tolist() == row
        places = packing.at(torch.full((len(row),), i), torch.arange(len(row)))
        assert laid[places].tolist() == row


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
def test_some_tokens_last_states_are_those_among_all(
    make_policy: MakePolicy, rows: list[list[int]]
) -> None:
    """In any order, one of them twice; with their gradients, those of frozen layers below too."""
    policy = make_policy()
    policy.freeze_reference()
    packing = policy.packing(tensors(rows))
    everywhere = torch.arange(packing.shared + sum(packing.own))
    chosen = everywhere.flip(0)[::2]
    chosen = torch.cat([chosen, chosen[:1]])
    for share in (1.0, 0.5):
        policy.train_top(share)
        start = policy.frozen_prefix(packing)
        some, _ = policy.trunk_states(start, packing, chosen)
        with some_layers(policy.trunk, slice(policy.first_trained_layer, None)):
            expected = policy._run(start, packing, middle=False)[0][chosen]
        torch.testing.assert_close(some, expected, atol=1e-5, rtol=1e-5)
        weights = torch.linspace(-1, 1, some.numel()).view_as(some)
        gradients = (
            torch.autograd.grad((x * weights).sum(), policy.parameters()) for x in (some, expected)
        )
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
def test_packed_rows_are_rows_alone(make_policy: MakePolicy, rows: list[list[int]]) -> None:
    """Logits within 1e-5, and gradients of all tokens' logits, each row weighing differently."""
    policy = make_policy()
    packing = policy.packing(tensors(rows))
    lengths = [len(row) for row in rows]
    at = torch.cat(
        [packing.at(torch.full((n,), i), torch.arange(n)) for i, n in enumerate(lengths)]
    )
    last, _ = policy.trunk_states(packing.ids, packing, at)
    packed, alone = torch.zeros(()), torch.zeros(())
    for i, row in enumerate(rows):
        ours = policy.head(last.split(lengths)[i])
        expected = policy.model(input_ids=torch.tensor([row])).logits[0]
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
        packed = packed + (i + 1) * ours.sin().mean()
        alone = alone + (i + 1) * expected.sin().mean()
    gradients = (torch.autograd.grad(x, policy.parameters()) for x in (packed, alone))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
