"""Linear maps and norms as a CPU likes them.

peft computes W x + s B (A x) as three products, a scaling and a sum, each a pass over the output;
on a CPU those passes cost as much as the products. Here the second term is accumulated by the
product itself, forward and backward.

And W is frozen. oneDNN, which torch is built with, reorders a weight at every call, before it
multiplies; a weight that stays can be reordered once. A few dozen tokens then go through a map in
half to three quarters of the time, a thousand of them a tenth to a quarter faster.

An RMS norm passes over its tokens seven times, and fourteen times backward, if each step is one of
torch's; here it is four and five.
"""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.activations import SiLUActivation


@cache
def _reorders(dtype: torch.dtype) -> bool:
    """Whether weights of that dtype can be reordered on this machine's CPU."""
    try:
        product(torch.ones(2, 16, dtype=dtype), _reordered(torch.ones(16, 16, dtype=dtype)))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return True


def _reordered(weight: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        done: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), 1)
        return done


def reorder(weight: Tensor) -> Tensor:
    """A weight (out, in) as `product` likes it best: a copy, or itself if there is none better."""
    if weight.device.type == "cpu" and _reorders(weight.dtype):
        return _reordered(weight)
    return weight


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Give x W' + b, of a weight that `reorder` gave."""
    if not weight.is_mkldnn:
        return nn.functional.linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


class FrozenLinear:
    """A frozen weight (out, in), reordered for forward and backward when each is first used.

    The output layer's is as large as several layers', and its backward has few tokens: there it
    stays as it is.
    """

    def __init__(self, weight: Tensor, backward: bool = True):
        """Keep the weight as it is, for now; ``backward`` says whether the way back is worth it."""
        self.weight, self._both = weight, backward
        self._forward: Tensor | None = None
        self._backward: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenLinear:
        """Copy the weight; what is reordered cannot be copied, and is made again."""
        return FrozenLinear(copy.deepcopy(self.weight, memo), self._both)

    def unload(self) -> None:
        """Drop what was reordered, until it is needed again."""
        self._forward = self._backward = None

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Give x W' + b."""
        if self._forward is None:
            self._forward = reorder(self.weight)
        return product(x, self._forward, bias)

    def backward(self, dy: Tensor) -> Tensor:
        """Give the gradient of the input, dy W."""
        if not self._both:
            return dy @ self.weight
        if self._backward is None:
            self._backward = reorder(self.weight.T)
        return product(dy, self._backward)


class _FrozenMap(torch.autograd.Function):
    """y = x W' + b, with a gradient for x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: FrozenLinear, bias: Tensor | None) -> Tensor:
        """Shapes: x (..., in), b (out,)."""
        ctx.frozen = frozen
        return frozen.forward(x, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Give (dx, -, -)."""
        return ctx.frozen.backward(grad), None, None


class _LowRankUpdate(torch.autograd.Function):
    """y = x W' + b + s (x A') B', with gradients for x, A and B; W and b are frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        frozen: FrozenLinear,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        s: float,
    ) -> Tensor:
        """Shapes: x (..., in), W (out, in), a (r, in), b (out, r)."""
        flat = x.reshape(-1, x.shape[-1])
        inner = flat @ a.T
        y = frozen.forward(flat, bias)
        y.addmm_(inner, b.T, alpha=s)
        ctx.save_for_backward(flat, a, b, inner)
        ctx.scale, ctx.frozen = s, frozen
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Give (dx, -, -, dA, dB, -)."""
        flat, a, b, inner = ctx.saved_tensors
        needs_x, _, _, needs_a, needs_b, _ = ctx.needs_input_grad
        dy = grad.reshape(-1, grad.shape[-1])
        d_inner = (dy @ b).mul_(ctx.scale)
        dx = None
        if needs_x:
            dx = ctx.frozen.backward(dy).addmm_(d_inner, a).view(*grad.shape[:-1], -1)
        da = d_inner.T @ flat if needs_a else None
        db = (dy.T @ inner).mul_(ctx.scale) if needs_b else None
        return dx, None, None, da, db, None


def _unit(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Give x / rms(x), and 1 / rms(x) in float32."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scale = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
    return (x * scale if x.dtype == torch.float32 else x.float().mul_(scale)).to(x.dtype), scale


class _RMSNorm(torch.autograd.Function):
    """y = w x / rms(x), with a gradient for x alone (Zhang and Sennrich 2019)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Shapes: x (..., D), w (D,). Rounds where transformers does."""
        unit, scale = _unit(x, epsilon)
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """With g = w dy and u = x / rms(x): dx = (g - u mean(g u)) / rms(x)."""
        unit, scale, weight = ctx.saved_tensors
        g = (grad * weight).float()
        along = (g * unit).mean(-1, keepdim=True)
        return g.addcmul_(unit, along, value=-1).mul_(scale).to(grad.dtype), None, None


class _Gated(torch.autograd.Function):
    """silu(g) u, of which only g and u are kept for the way back (Shazeer 2020)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Give silu(g) · u, all of one shape."""
        ctx.save_for_backward(gate, up)
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Give the gradients (dg, du) of both inputs."""
        gate, up = ctx.saved_tensors
        d_gate = torch.ops.aten.silu_backward(grad * up, gate)
        return d_gate, nn.functional.silu(gate).mul_(grad)


class MergedLinear(nn.Module):
    """A linear map of a generation model: one weight, reordered for products, and no gradient."""

    def __init__(self) -> None:
        """Make a map without a weight; `load` gives it one."""
        super().__init__()
        self._weight = torch.empty(0)
        self._bias: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> MergedLinear:
        """Share the weight, which is replaced and never changed: reordered, it has no copies."""
        other = MergedLinear()
        other._weight, other._bias = self._weight, self._bias
        return other

    def load(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take a weight (out, in), and perhaps a bias (out,)."""
        self._weight = reorder(weight.detach())
        self._bias = None if bias is None else bias.detach()

    @property
    def weight(self) -> Tensor:
        """The weight, of which some models look at the precision."""
        return self._weight

    def unload(self) -> None:
        """Drop the weight, until `load` gives another."""
        self._weight, self._bias = torch.empty(0), None

    def forward(self, x: Tensor) -> Tensor:
        """Give x W' + b."""
        return product(x, self._weight, self._bias)


def fuse(model: nn.Module, head: nn.Module | None = None) -> None:
    """Let a model's frozen maps, norms, gates and plain LoRA layers compute in the ways above.

    Other adapters stay as they are. ``head`` is the output layer, if there is one.
    """
    tuners: list[Any] = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    own = {id(p) for t in tuners for p in t.modules()} - {id(t.get_base_layer()) for t in tuners}
    for layer in model.modules():
        if type(layer) is nn.Linear and id(layer) not in own and not layer.weight.requires_grad:
            layer.frozen = FrozenLinear(layer.weight, layer is not head)  # type: ignore[assignment]
            layer.forward = types.MethodType(_frozen, layer)  # type: ignore[method-assign]
        elif _is_rms_norm(layer):
            layer.forward = types.MethodType(_normalized, layer)
        elif _is_gated(layer):
            layer.forward = types.MethodType(_gated, layer)
    for layer in tuners:
        plain = type(layer) is Linear and not layer.lora_variant and not layer.fan_in_fan_out
        if plain and hasattr(layer.get_base_layer(), "frozen"):
            layer.forward = types.MethodType(_adapted, layer)


def _frozen(layer: nn.Linear, x: Tensor) -> Tensor:
    assert isinstance(layer.frozen, FrozenLinear)
    if not torch.is_grad_enabled() or not x.requires_grad:
        return layer.frozen.forward(x, layer.bias)
    y = _FrozenMap.apply(x, layer.frozen, layer.bias)
    assert isinstance(y, Tensor)
    return y


@torch.no_grad()
def _is_rms_norm(layer: nn.Module) -> bool:
    """Whether a module is a frozen norm of the plain kind: some add 1 to their weights, or gate."""
    weight, epsilon = getattr(layer, "weight", None), getattr(layer, "variance_epsilon", None)
    if not isinstance(weight, Tensor) or weight.requires_grad or not isinstance(epsilon, float):
        return False
    if len(inspect.signature(layer.forward).parameters) != 1:
        return False
    return _same(layer, _normalized, weight, len(weight))


@torch.no_grad()
def _is_gated(layer: nn.Module) -> bool:
    """Whether a module is a feed-forward layer as Llama has it: some multiply in between."""
    names = {name for name, _ in layer.named_children()}
    if names != {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        return False
    size = getattr(layer.up_proj, "in_features", None)
    if not isinstance(size, int) or not isinstance(layer.act_fn, nn.SiLU | SiLUActivation):
        return False
    return _same(layer, _gated, next(layer.parameters()), size)


def _same(layer: nn.Module, ours: Callable[[Any, Tensor], Tensor], like: Tensor, size: int) -> bool:
    """Whether a function of ours gives what a module does, on two rows of some numbers."""
    x = torch.linspace(-1, 2, 2 * size, dtype=like.dtype, device=like.device).view(2, -1)
    return torch.allclose(ours(layer, x).float(), layer(x).float(), rtol=1e-2, atol=1e-3)


def _gated(layer: Any, x: Tensor) -> Tensor:
    gate, up = layer.gate_proj(x), layer.up_proj(x)
    trains = torch.is_grad_enabled()  # a function with a way back costs a step of few tokens more
    y: Tensor = layer.down_proj(
        _Gated.apply(gate, up) if trains else nn.functional.silu(gate).mul_(up)
    )
    return y


def _normalized(layer: Any, x: Tensor) -> Tensor:
    y: Tensor
    if not torch.is_grad_enabled():
        y = _unit(x, layer.variance_epsilon)[0] * layer.weight
        return y
    y = _RMSNorm.apply(x, layer.weight, layer.variance_epsilon)
    assert isinstance(y, Tensor)
    return y


def _adapted(layer: Linear, x: Tensor) -> Tensor:
    base = layer.get_base_layer()
    if layer.disable_adapters:
        out: Tensor = base(x)
        return out
    (name,) = layer.active_adapters
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    y = _LowRankUpdate.apply(x, base.frozen, base.bias, a, b, layer.scaling[name])
    assert isinstance(y, Tensor)
    return y
