"""Linear maps and norms of ours against those they stand in for."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from rlchat.models.kernels import fuse

DTYPES = [(torch.float32, 1e-5), (torch.bfloat16, 4e-2)]


def states(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def gradients(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Of everything that trains, for a loss in which no output counts like another."""
    x = x.clone().requires_grad_()
    y = module(x)
    loss = (y.float() * torch.linspace(-1, 1, y.shape[-1])).square().sum()
    trained = [p for p in module.parameters() if p.requires_grad]
    return [y, *torch.autograd.grad(loss, [x, *trained])]


def assert_same(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        off = (a - b).float().norm() / b.float().norm().clamp_min(1e-6)
        assert float(off) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_a_norm_and_its_gradient_are_as_before(dtype: torch.dtype, tolerance: float) -> None:
    norm = LlamaRMSNorm(24, eps=1e-5)
    norm.weight.data = 1 + states(24) / 4
    norm.to(dtype).requires_grad_(False)
    ours = copy.deepcopy(norm)
    fuse(ours)
    assert "forward" in vars(ours)
    x = (3 * states(2, 5, 24)).to(dtype)
    small = x * 1e-3  # where epsilon counts
    for given in (x, small):
        assert_same(gradients(ours, given), gradients(norm, given), tolerance)


def test_norms_of_another_kind_stay_as_they_are() -> None:
    other = GemmaRMSNorm(24).requires_grad_(False)
    other.variance_epsilon = other.eps  # its weight counts from 1, whatever it calls epsilon
    trained = LlamaRMSNorm(24)
    for norm in (other, trained):
        fuse(norm)
        assert "forward" not in vars(norm)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_a_gated_layer_and_its_gradient_are_as_before(dtype: torch.dtype, tolerance: float) -> None:
    layer = LlamaMLP(LlamaConfig(hidden_size=32, intermediate_size=40)).to(dtype)
    ours = copy.deepcopy(layer).requires_grad_(False)
    fuse(ours)
    assert "forward" in vars(ours)
    x = states(5, 32).to(dtype)
    assert_same(gradients(ours, x), gradients(layer.requires_grad_(False), x), tolerance)


class Louder(LlamaMLP):
    """Has the parts of Llama's layer, and does more with them."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_a_gated_layer_of_another_kind_stays_as_it_is() -> None:
    layer = Louder(LlamaConfig(hidden_size=32, intermediate_size=40)).requires_grad_(False)
    fuse(layer)
    assert "forward" not in vars(layer)


class Doubled(nn.Linear):
    """A linear map that is none."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Two(nn.Module):
    """A linear map and another."""

    def __init__(self, kind: type[nn.Linear]) -> None:
        super().__init__()
        self.first, self.second = kind(24, 16), kind(16, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        return y


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("kind", [nn.Linear, Doubled])
def test_lora_is_as_before_over_whatever_it_lies(
    kind: type[nn.Linear], dtype: torch.dtype, tolerance: float
) -> None:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["first", "second"])
    plain = inject_adapter_in_model(config, Two(kind).to(dtype))
    for name, parameter in plain.named_parameters():
        parameter.data = states(*parameter.shape).to(dtype) / 4
        parameter.requires_grad_("lora" in name)
    ours = copy.deepcopy(plain)
    fuse(ours)
    assert ("forward" in vars(ours.first)) == (kind is nn.Linear)
    x = states(5, 24).to(dtype)
    assert_same(gradients(ours, x), gradients(plain, x), tolerance)
