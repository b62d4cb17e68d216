"""Adapters on one copy of the base (ppo.md, tests 3, 5 and 13)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlchat.errors import UserError
from rlchat.models.adapters import POLICY
from rlchat.models.attention import use_layouts
from rlchat.models.config import MERGED, METHODS, PROMPTED, AdapterConfig
from rlchat.models.kernels import FrozenLinear, fuse
from rlchat.models.loading import load_base
from rlchat.models.packing import Packing
from rlchat.models.policy import REFERENCE, Policy

MakePolicy = Callable[..., Policy]
IDS = torch.arange(64).reshape(2, 32)


def hidden(policy: Policy) -> Tensor:
    """Last states (2, 32, D) of the rows, packed into one sequence."""
    packing = policy.packing(list(IDS))
    last, _ = policy.trunk_states(policy.frozen_prefix(packing), packing, everywhere(packing))
    return last.view(2, 32, -1)


def everywhere(packing: Packing) -> Tensor:
    """Where all tokens of the two rows lie, row by row."""
    return packing.at(torch.arange(2).repeat_interleave(32), torch.arange(32).repeat(2))


@torch.no_grad()
def logits(policy: Policy) -> Tensor:
    return policy.head(hidden(policy))


@torch.no_grad()
def base_logits(dtype: torch.dtype = torch.float32) -> Tensor:
    """Of the base as it comes, with no adapter near; attention, maps and norms are ours."""
    model, _, _ = load_base("tiny", dtype)
    use_layouts(model)
    fuse(model.requires_grad_(False))
    return model(input_ids=IDS).logits


def base_weights(policy: Policy) -> dict[str, Tensor]:
    return {
        name: p.detach().clone()
        for name, p in policy.model.named_parameters()
        if f".{POLICY}" not in name and f".{REFERENCE}" not in name
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_without_its_adapter_it_is_the_base_bit_for_bit(
    make_policy: MakePolicy, method: str, dtype: str
) -> None:
    policy = make_policy(method, dtype=dtype)
    expected = base_logits(policy.dtype)
    assert not torch.allclose(logits(policy), expected, atol=1e-2)  # the noise is felt
    with policy.using(None):
        assert torch.equal(logits(policy), expected)
    assert not torch.equal(logits(policy), expected)


@pytest.mark.parametrize("method", MERGED)
def test_a_fresh_adapter_is_the_base(make_policy: MakePolicy, method: str) -> None:
    """Bit for bit, but for DoRA, which divides a norm by itself."""
    policy = make_policy(method, noise=0.0)
    for adapter in (POLICY, REFERENCE):
        with policy.using(adapter):
            atol = 1e-5 if method == "dora" else 0.0
            torch.testing.assert_close(logits(policy), base_logits(), atol=atol, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_reference_is_a_copy_that_stays(make_policy: MakePolicy, method: str) -> None:
    policy = make_policy(method)
    assert not policy.is_reference
    policy.freeze_reference()
    assert policy.is_reference
    then = logits(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1)
    assert not policy.is_reference
    assert not torch.allclose(logits(policy), then, atol=1e-3)
    with policy.using(REFERENCE):
        assert torch.equal(logits(policy), then)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_policys_adapter_trains(make_policy: MakePolicy, method: str) -> None:
    policy = make_policy(method)
    own = {id(p) for p in policy.parameters()}
    assert own
    assert {id(p) for p in policy.model.parameters() if p.requires_grad} == own
    policy.head(hidden(policy)).square().sum().backward()
    assert {id(p) for p in policy.model.parameters() if p.grad is not None} == own
    assert all(bool(p.grad.abs().max() > 0) for p in policy.parameters() if p.grad is not None)


@pytest.mark.parametrize("method", MERGED)
def test_only_the_top_trains_if_so_told(make_policy: MakePolicy, method: str) -> None:
    policy = make_policy(method)
    policy.freeze_reference()
    everything, before = {n for n, _ in policy.named_parameters()}, logits(policy)
    policy.train_top(0.5)
    own = dict(policy.named_parameters())
    assert own.keys() == {n for n in everything if ".layers.1." in n}
    assert {n for n, p in policy.model.named_parameters() if p.requires_grad} == own.keys()
    packing = policy.packing(list(IDS))
    start = policy.frozen_prefix(packing)
    assert start.shape == (64, policy.hf.config.hidden_size)
    last, middle = policy.trunk_states(start, packing, everywhere(packing), middle=True)
    assert torch.allclose(policy.head(last.view(2, 32, -1)), before, atol=1e-6)
    policy.head(last).square().sum().backward()
    assert {n for n, p in policy.model.named_parameters() if p.grad is not None} == own.keys()
    assert middle is not None
    expected = policy.trunk_states(packing.ids, packing, everywhere(packing), middle=True)[1]
    assert expected is not None and torch.equal(middle, expected)
    policy.train_top(1.0)
    assert {n for n, _ in policy.named_parameters()} == everything
    assert torch.equal(policy.frozen_prefix(packing), IDS.flatten())


@pytest.mark.parametrize("method", MERGED)
def test_an_adapter_may_cover_the_top_alone(make_policy: MakePolicy, method: str) -> None:
    policy = make_policy(method, layers=0.5)
    names = {n for n, _ in policy.model.named_parameters() if f".{POLICY}" in n}
    assert names == {n for n, _ in policy.named_parameters()}
    assert names == {n for n in names if ".layers.1." in n}
    assert policy.frozen_prefix(policy.packing(list(IDS))).is_floating_point()
    spoken = policy.generation_model().model(input_ids=IDS).logits
    torch.testing.assert_close(spoken, logits(policy), atol=1e-5, rtol=1e-5)


def switches(policy: Policy) -> tuple[object, ...]:
    """All that a switch may disturb."""
    model = policy.model
    return (
        model.active_adapter,
        model.base_model.active_adapters,
        tuple((n, p.requires_grad) for n, p in model.named_parameters()),
        tuple(m.training for m in model.modules()),
        [layer.disable_adapters for layer in model.modules() if hasattr(layer, "disable_adapters")],
    )


@pytest.mark.parametrize("adapter", [None, REFERENCE, POLICY])
def test_the_switch_restores_names_and_requires_grad(policy: Policy, adapter: str | None) -> None:
    policy.parameters()[0].requires_grad_(False)  # somebody's choice, to be respected
    before, speaks = switches(policy), logits(policy)
    with policy.using(adapter):
        assert switches(policy) != before
    assert switches(policy) == before
    assert torch.equal(logits(policy), speaks)


@pytest.mark.parametrize("adapter", [None, REFERENCE])
def test_the_switch_restores_after_an_error(policy: Policy, adapter: str | None) -> None:
    before = switches(policy)
    with pytest.raises(KeyError), policy.using(adapter):
        raise KeyError
    assert switches(policy) == before


@pytest.mark.parametrize("outer", [None, REFERENCE])
@pytest.mark.parametrize("inner", [None, REFERENCE, POLICY])
def test_switches_nest(policy: Policy, outer: str | None, inner: str | None) -> None:
    before = switches(policy)
    with policy.using(outer):
        between, speaks = switches(policy), logits(policy)
        with policy.using(inner):
            pass
        assert switches(policy) == between
        assert torch.equal(logits(policy), speaks)
    assert switches(policy) == before


@pytest.mark.parametrize("method", MERGED)
def test_what_speaks_is_what_trains(make_policy: MakePolicy, method: str) -> None:
    policy = make_policy(method)
    for adapter in (POLICY, REFERENCE, None, POLICY):
        with policy.using(adapter):
            expected = logits(policy)
        with torch.no_grad():
            out = policy.generation_model(adapter).model(input_ids=IDS).logits
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_merging_leaves_the_base_as_it_was_bit_for_bit(
    make_policy: MakePolicy, method: str, dtype: str
) -> None:
    policy = make_policy(method, dtype=dtype)
    weights, switch, speaks = base_weights(policy), switches(policy), logits(policy)
    for _ in range(3):
        policy.generation_model()
    assert all(torch.equal(w, weights[n]) for n, w in base_weights(policy).items())
    assert switches(policy) == switch
    assert torch.equal(logits(policy), speaks)


def test_the_speaking_copy_follows_the_policy(policy: Policy) -> None:
    with torch.no_grad():
        before = policy.generation_model().model(input_ids=IDS).logits
        for parameter in policy.parameters():
            parameter.mul_(0.5)
        after = policy.generation_model().model(input_ids=IDS).logits
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(after, logits(policy), atol=1e-5, rtol=1e-5)


def test_the_seed_alone_decides_a_fresh_adapter() -> None:
    config = AdapterConfig(dtype="float32", device="cpu")
    first = Policy.create("tiny", config, seed=1)
    torch.rand(1)
    state = torch.random.get_rng_state()
    again, other = (Policy.create("tiny", config, seed=s) for s in (1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    pairs = list(zip(first.parameters(), other.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(UserError, match="'adalora'"):
        AdapterConfig(method="adalora")
    with pytest.raises(UserError, match="rank"):
        AdapterConfig(rank=0)
    with pytest.raises(UserError, match="'abacus'"):
        Policy.create("tiny", AdapterConfig(dtype="float32", device="abacus"))


def test_speaking_drops_what_only_learning_needs(policy: Policy) -> None:
    """Reordered copies of the adapted layers' weights, which the next forward makes again."""
    kept = [
        m.frozen
        for m in policy.model.modules()
        if isinstance(getattr(m, "frozen", None), FrozenLinear)
    ]
    before = hidden(policy)
    before.sum().backward()
    adapted = [f for f in kept if f._backward is not None]
    assert adapted and all(f._forward is not None for f in adapted)
    policy.generation_model()
    assert all(f._forward is None and f._backward is None for f in adapted)
    assert torch.equal(hidden(policy), before)


@pytest.mark.parametrize("method", PROMPTED)
def test_virtual_tokens_have_no_top_layers(make_policy: MakePolicy, method: str) -> None:
    policy = make_policy(method)
    with pytest.raises(UserError, match=r"expected --ppo.layers 1 .* got 0.5; leave it out"):
        policy.train_top(0.5)
    policy.train_top(1.0)
    assert policy.parameters()


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_adapter_becomes_the_reference(
    make_policy: MakePolicy, method: str, tmp_path: Path
) -> None:
    saved, policy = make_policy(method, noise=0.5), make_policy(method)
    saved.save(tmp_path / "adapter")
    policy.load_reference(tmp_path / "adapter")
    with policy.using(REFERENCE):
        torch.testing.assert_close(logits(policy), logits(saved), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits(policy), logits(saved), atol=1e-3)
