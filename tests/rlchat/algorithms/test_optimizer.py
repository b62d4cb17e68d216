from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rlchat.algorithms.optimizer import MasterAdamW


def make_parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,)]
    return [nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in shapes]


def set_gradients(parameters: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = gradient.to(parameter.dtype)


def test_in_float32_it_is_adamw() -> None:
    ours, theirs = make_parameters(), make_parameters()
    optimizer = MasterAdamW(ours, 0.01)
    adamw = torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.0)
    for seed in range(5):
        set_gradients(ours, seed)
        set_gradients(theirs, seed)
        optimizer.step()
        adamw.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(p.grad is None for p in ours)


def test_updates_too_small_for_bfloat16_add_up() -> None:
    """The gradient is constant, so each step is the learning rate: 100 make .1, of 1."""
    parameter = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    optimizer = MasterAdamW([parameter], 1e-3)
    assert (parameter.detach() - 1e-3).item() == 1.0  # one step alone is rounded away
    for _ in range(100):
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    assert optimizer.masters[0].item() == pytest.approx(0.9, abs=1e-4)
    assert parameter.item() == torch.tensor(0.9, dtype=torch.bfloat16).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_goes_on_from_its_tensors_bit_for_bit(dtype: torch.dtype) -> None:
    ours = make_parameters(dtype)
    optimizer = MasterAdamW(ours, 0.01)
    for seed in range(3):
        set_gradients(ours, seed)
        optimizer.step()
    saved = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    others = [nn.Parameter(torch.zeros_like(p)) for p in ours]
    other = MasterAdamW(others, 0.01)
    other.load_tensors(saved)
    assert all(torch.equal(a, b) for a, b in zip(ours, others, strict=True))
    for seed in range(3, 6):
        for parameters, each in ((ours, optimizer), (others, other)):
            set_gradients(parameters, seed)
            each.step()
    pairs = zip(optimizer.masters, other.masters, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert all(torch.equal(a, b) for a, b in zip(ours, others, strict=True))


def test_it_starts_from_tensors_saved_before_the_first_step() -> None:
    ours = make_parameters()
    others = [nn.Parameter(torch.zeros_like(p)) for p in ours]
    other = MasterAdamW(others, 0.01)
    other.load_tensors(MasterAdamW(ours, 0.01).tensors())
    assert all(torch.equal(a, b) for a, b in zip(ours, others, strict=True))


def test_what_it_saved_does_not_change_with_it() -> None:
    ours = make_parameters()
    optimizer, other = MasterAdamW(ours, 0.01), MasterAdamW(make_parameters(), 0.01)
    set_gradients(ours, 0)
    optimizer.step()
    other.load_tensors(optimizer.tensors())
    before = [m.clone() for m in other.masters]
    set_gradients(ours, 1)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, other.masters, strict=True))


def test_the_clip_scales_to_the_norm_and_tells_what_it_was() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = MasterAdamW([parameter], 0.1)
    parameter.grad = torch.tensor([3.0, 4.0])
    assert optimizer.clip_(1.0) == 5.0
    assert parameter.grad.tolist() == pytest.approx([0.6, 0.8], abs=1e-5)
    parameter.grad = torch.tensor([math.nan, 4.0])
    assert math.isnan(optimizer.clip_(1.0))


def test_forgetting_gradients_forgets_the_parameters_own() -> None:
    ours = make_parameters()
    optimizer = MasterAdamW(ours, 0.1)
    before = [p.detach().clone() for p in ours]
    set_gradients(ours, 0)
    optimizer.zero_grad()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, ours, strict=True))
