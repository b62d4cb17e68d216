"""One iteration's learning (ppo.md, tests 2, 3 and 7)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlchat.algorithms import ppo, update
from rlchat.algorithms.advantages import Estimated, estimate, estimator_settings
from rlchat.algorithms.annotate import annotate
from rlchat.algorithms.batch import pack
from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.algorithms.critic import Critic
from rlchat.algorithms.optimizer import MasterAdamW
from rlchat.algorithms.update import Learner, accumulate, fit_critic, update_policy
from rlchat.distributed import Distributed
from rlchat.models.config import METHODS
from rlchat.models.packing import Packing
from rlchat.models.policy import Policy
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import RunningStd

MakePolicy = Callable[..., Policy]
MakeTrajectories = Callable[..., list[Trajectory]]
EPISODES = 7
ONCE = PPOConfig(epochs=1, minibatches=1, gradient_norm=1e9, sampler_gap=1e9)


def make_learner(policy: Policy, states: str = "detached") -> Learner:
    config = CriticConfig(states=states, width=8, epochs=3, loss_weight=0.5)  # type: ignore[arg-type]
    critic = Critic(policy.hf.config.hidden_size, config)
    torch.nn.init.normal_(critic.leave.weight, generator=torch.Generator().manual_seed(0))
    return Learner(
        policy,
        critic,
        MasterAdamW(policy.parameters(), 0.01),
        torch.optim.Adam(critic.parameters(), lr=0.01),
        Distributed(cpu=True),
    )


def make_estimated(
    learner: Learner, trajectories: list[Trajectory], config: PPOConfig = ONCE
) -> Estimated:
    annotated = annotate(learner.policy, learner.critic, pack(trajectories), 10_000)
    everyone = [(t.index, len(t.parts)) for t in trajectories]
    settings = estimator_settings(config, learner.critic.config)
    return estimate(annotated, settings, 0.1, RunningStd(1, 0, 1), everyone)


@pytest.fixture
def trajectories(make_trajectories: MakeTrajectories) -> list[Trajectory]:
    return make_trajectories(EPISODES)


def gradient(
    learner: Learner,
    estimated: Estimated,
    rows: Tensor | None = None,
    budget: int = 10_000,
    denominator: float = 10.0,
) -> Tensor:
    """Of the adapter and a shared critic, flat; forgets it afterwards."""
    everything = torch.arange(len(estimated.annotated.batch.lengths))
    config = replace(ONCE, token_budget=budget)
    accumulate(learner, estimated, everything if rows is None else rows, config, denominator)
    parameters = [*learner.policy.parameters(), *learner.critic.parameters()]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.flatten().clone() for g in grads])
    for parameter in parameters:
        parameter.grad = None
    return flat


def close(a: Tensor, b: Tensor) -> None:
    """Within 1e-5, of gradients that are much larger than that."""
    assert float(b.abs().max()) > 1e-2
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_the_first_minibatch_has_not_moved(policy: Policy, trajectories: list[Trajectory]) -> None:
    """Ratio 1, nothing clipped, k1 and k3 to the policy that annotated 0, in every minibatch."""
    learner = make_learner(policy)
    estimated = make_estimated(learner, trajectories)
    for rows in (torch.arange(EPISODES), torch.tensor([4, 1]), torch.tensor([6])):
        config = replace(ONCE, token_budget=60)
        clipped, k3, ratio, tokens = accumulate(learner, estimated, rows, config, 10.0).tolist()
        assert tokens == sum(sum(trajectories[b].action_mask) for b in rows)
        assert clipped == 0
        assert k3 == pytest.approx(0.0, abs=1e-6)
        assert ratio / tokens == pytest.approx(1.0, abs=1e-6)
    policy_metrics = update_policy(learner, estimated, ONCE, EPISODES, (0, 0))
    assert policy_metrics["clip_fraction"] == 0.0
    assert policy_metrics["ratio"] == pytest.approx(1.0, abs=1e-6)
    assert policy_metrics["update_kl"] == pytest.approx(0.0, abs=1e-6)
    # After the step it has moved, and the same numbers say so.
    after = update_policy(learner, estimated, ONCE, EPISODES, (0, 0))
    assert after["update_kl"] > 1e-4
    assert after["clip_fraction"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_policy_that_is_trained_is_the_policy_that_sampled(
    make_policy: MakePolicy, method: str
) -> None:
    """k1 and k3 between what the rollout wrote down and the training forward are 0."""
    policy = make_policy(method)
    config = RolloutConfig(rows=2, max_new_tokens=8, max_tokens=500)
    episodes = [(i, (0, i), (1, i)) for i in range(3)]
    played = collect(
        policy.generation_model(), policy.template, EnvPool(EnvConfig()), episodes, config
    )
    learner = make_learner(policy)
    annotated = make_estimated(learner, played).annotated
    mask = annotated.batch.action_mask
    pair = annotated.logprobs[mask], annotated.batch.sampled_logprobs[mask]
    assert float(ppo.k1(*pair).abs().max()) < 1e-5
    assert float(ppo.k3(*pair).abs().max()) < 1e-6
    # A reference that is a copy of it is no distance away either.
    policy.freeze_reference()
    annotated = make_estimated(learner, played).annotated
    assert torch.equal(annotated.logprobs, annotated.ref_logprobs)


@pytest.mark.parametrize("max_tokens", [500, 700])  # shorter: one is truncated
def test_training_starts_where_the_rollout_s_frozen_layers_left_off(
    policy: Policy, monkeypatch: pytest.MonkeyPatch, max_tokens: int
) -> None:
    """Kept and computed states are the same, and what is kept is not computed again."""
    policy.freeze_reference()
    policy.train_top(0.5)
    assert policy.shared_layers == 1
    config = RolloutConfig(rows=2, max_new_tokens=8, max_tokens=max_tokens)
    played = collect(
        policy.generation_model(),
        policy.template,
        EnvPool(EnvConfig()),
        [(i, (0, i), (1, i)) for i in range(3)],
        config,
        kept_layers=policy.shared_layers,
    )
    assert [t.cached_states is None for t in played] == [t.truncated for t in played]
    assert any(t.truncated for t in played) == (max_tokens == 500)
    learner = make_learner(policy)
    bare = copy.deepcopy(played)
    for t in bare:
        t.cached_states = None
    expected = make_estimated(learner, bare).annotated
    for t, start in zip(played, expected.cached_states, strict=True):
        if t.cached_states is not None:
            close(t.cached_states, start[:-1])
    if max_tokens == 700:
        monkeypatch.setattr(policy, "frozen_prefix", None)
    annotated = make_estimated(learner, played).annotated
    close(annotated.logprobs, expected.logprobs)
    close(annotated.values, expected.values)


def test_the_first_gradient_is_reinforce_with_advantages(
    policy: Policy, trajectories: list[Trajectory]
) -> None:
    """-sum_j A_j grad log pi(a_j) / tokens, by autograd over each episode's own full forward."""
    learner = make_learner(policy)
    estimated = make_estimated(learner, trajectories)
    loss = torch.zeros(())
    for b, t in enumerate(trajectories):
        logprobs = policy.model(input_ids=torch.tensor([t.ids])).logits[0].log_softmax(-1)
        for j, acts in enumerate(t.action_mask):
            if acts:
                loss = loss - estimated.advantages[b, j] * logprobs[j - 1, t.ids[j]]
    tokens = sum(sum(t.action_mask) for t in trajectories)
    expected = torch.autograd.grad(loss / tokens, policy.parameters())
    critic = [torch.zeros(p.numel()) for p in learner.critic.parameters()]
    flat = torch.cat([*(g.flatten() for g in expected), *critic])
    close(gradient(learner, estimated, denominator=tokens), flat)


@pytest.mark.parametrize("states", ["detached", "shared"])
def test_layers_that_do_not_train_run_once_and_change_nothing_above(
    policy: Policy, trajectories: list[Trajectory], states: str
) -> None:
    """Same logprobs, values and gradient as when all layers train, from states half-way up."""
    policy.freeze_reference()
    policy.train_top(0.5)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)
    policy.train_top(1.0)
    learner = make_learner(policy, states)
    whole = make_estimated(learner, trajectories)
    assert not torch.equal(whole.annotated.logprobs, whole.annotated.ref_logprobs)
    expected = gradient(learner, whole)
    lower = sum(p.numel() for n, p in policy.named_parameters() if ".layers.0." in n)
    policy.train_top(0.5)
    half = make_estimated(learner, trajectories)
    assert [tuple(s.shape) for s in half.annotated.cached_states] == [
        (len(t.ids), policy.hf.config.hidden_size) for t in trajectories
    ]
    for name in ("logprobs", "ref_logprobs", "values", "bootstrap", "states"):
        close(getattr(half.annotated, name), getattr(whole.annotated, name))
    assert 0 < lower < len(expected)
    close(gradient(learner, half), expected[lower:])


def test_no_gradient_passes_through_masked_positions(
    policy: Policy, trajectories: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the states just before an action token get one, and there every one does."""
    learner = make_learner(policy)
    estimated = make_estimated(learner, trajectories)
    kept: list[tuple[Tensor, Tensor, Packing]] = []
    trunk_states = policy.trunk_states

    def watched(
        start: Tensor, packing: Packing, at: Tensor, middle: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        last, other = trunk_states(start, packing, at, middle)
        last.retain_grad()
        kept.append((last, at, packing))
        return last, other

    monkeypatch.setattr(policy, "trunk_states", watched)
    gradient(learner, estimated)
    ((last, at, packing),) = kept
    row, token = estimated.annotated.batch.action_mask.nonzero(as_tuple=True)
    assert torch.equal(at, packing.at(row, token - 1))
    assert last.grad is not None
    assert bool((last.grad.abs().sum(-1) > 0).all())


def test_what_lies_in_masked_slots_does_not_matter(
    policy: Policy, trajectories: list[Trajectory]
) -> None:
    learner = make_learner(policy)
    estimated = make_estimated(learner, trajectories)
    off = ~estimated.annotated.batch.action_mask
    spoilt = replace(
        estimated,
        advantages=estimated.advantages.masked_fill(off, math.nan),
        returns=estimated.returns.masked_fill(off, math.nan),
        annotated=replace(
            estimated.annotated, logprobs=estimated.annotated.logprobs.masked_fill(off, math.nan)
        ),
    )
    assert torch.equal(gradient(learner, spoilt), gradient(learner, estimated))


@pytest.mark.parametrize("states", ["detached", "shared"])
def test_no_gradient_reaches_the_base_or_the_reference(
    policy: Policy, trajectories: list[Trajectory], states: str
) -> None:
    learner = make_learner(policy, states)
    estimated = make_estimated(learner, trajectories)
    own = {id(p) for p in policy.parameters()}
    others = {n: p.clone() for n, p in policy.model.named_parameters() if id(p) not in own}
    config = replace(ONCE, epochs=2, minibatches=2)
    for rows in (torch.arange(3), torch.arange(3, EPISODES)):
        accumulate(learner, estimated, rows, config, 10.0)
    assert {id(p) for p in policy.model.parameters() if p.grad is not None} == own
    update_policy(learner, estimated, config, EPISODES, (0, 0))
    fit_critic(learner, estimated)
    named = dict(policy.model.named_parameters())
    assert all(torch.equal(named[name], p) for name, p in others.items())


def test_a_detached_critic_sends_nothing_into_the_adapter(
    policy: Policy, trajectories: list[Trajectory]
) -> None:
    learner = make_learner(policy)
    estimated = make_estimated(learner, trajectories)
    before = [p.detach().clone() for p in policy.parameters()]
    weights = [p.detach().clone() for p in learner.critic.parameters()]
    fit_critic(learner, estimated)
    assert all(p.grad is None for p in policy.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
    assert not any(
        torch.equal(a, b) for a, b in zip(weights, learner.critic.parameters(), strict=True)
    )
    # Nor does its target matter to the adapter's gradient, as a shared critic's does.
    other = replace(estimated, returns=estimated.returns + 100)
    assert torch.equal(gradient(learner, estimated), gradient(learner, other))


def test_a_shared_critic_sends_its_loss_into_the_adapter(
    policy: Policy, trajectories: list[Trajectory]
) -> None:
    learner = make_learner(policy, "shared")
    estimated = make_estimated(learner, trajectories)
    other = replace(estimated, returns=estimated.returns + 100)
    adapter = sum(p.numel() for p in policy.parameters())
    a, b = (gradient(learner, e)[:adapter] for e in (estimated, other))
    assert float((a - b).abs().max()) > 1e-2
    assert math.isnan(fit_critic(learner, estimated))  # it learns with the policy instead


@pytest.mark.parametrize("states", ["detached", "shared"])
@pytest.mark.parametrize("budget", [1, 40, 60])
def test_any_microbatch_split_is_the_whole(
    policy: Policy, trajectories: list[Trajectory], states: str, budget: int
) -> None:
    """One by one, some at a time, all in one forward: one gradient."""
    learner = make_learner(policy, states)
    estimated = make_estimated(learner, trajectories)
    close(gradient(learner, estimated, budget=budget), gradient(learner, estimated))


def test_minibatches_add_up_to_the_whole(policy: Policy, trajectories: list[Trajectory]) -> None:
    """Ragged ones too: each is a sum over its tokens, never a mean of means."""
    learner = make_learner(policy)
    estimated = make_estimated(learner, trajectories)
    whole = gradient(learner, estimated)
    for split in ([[0, 1, 2, 3, 4, 5], [6]], [[3], [1, 5], [0, 2, 4, 6]]):
        parts = [gradient(learner, estimated, torch.tensor(rows)) for rows in split]
        close(torch.stack(parts).sum(0), whole)
    nothing = gradient(learner, estimated, torch.tensor([], dtype=torch.long))
    assert bool((nothing == 0).all())


def test_an_epoch_sees_each_episode_once_whatever_its_row(
    policy: Policy, trajectories: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minibatches are drawn by the episode's number; where it lies in the batch is no matter."""
    seen: list[list[int]] = []
    accumulate = update.accumulate

    def watched(
        learner: Learner, estimated: Estimated, rows: Tensor, config: PPOConfig, denominator: float
    ) -> Tensor:
        seen.append(sorted(estimated.annotated.batch.index[rows].tolist()))
        return accumulate(learner, estimated, rows, config, denominator)

    monkeypatch.setattr(update, "accumulate", watched)
    config = replace(ONCE, epochs=2, minibatches=3)
    orders = []
    for order in (trajectories, trajectories[::-1]):
        seen = []
        learner = make_learner(policy)
        update_policy(learner, make_estimated(learner, order), config, EPISODES, (5, 2))
        assert [len(s) for s in seen] == [3, 2, 2] * 2
        for epoch in (seen[:3], seen[3:]):
            assert sorted(i for rows in epoch for i in rows) == list(range(EPISODES))
        orders.append(seen)
    assert orders[0] == orders[1]
    assert orders[0][:3] != orders[0][3:]


def test_the_denominator_is_the_iterations_tokens_over_minibatches(
    policy: Policy, trajectories: list[Trajectory]
) -> None:
    """Two minibatches at a vanishing learning rate: their mean gradient norm, by hand."""
    learner = make_learner(policy)
    estimated = make_estimated(learner, trajectories)
    config = replace(ONCE, minibatches=2)
    tokens = sum(sum(t.action_mask) for t in trajectories)
    order = np.random.default_rng([3, 4, 0]).permutation(EPISODES)
    norms = [
        float(gradient(learner, estimated, torch.from_numpy(rows), denominator=tokens / 2).norm())
        for rows in np.array_split(order, 2)
    ]
    for group in learner.policy_optimizer.param_groups:
        group["lr"] = 1e-12
    metrics = update_policy(learner, estimated, config, EPISODES, (3, 4))
    assert metrics["gradient_norm"] == pytest.approx(sum(norms) / 2, rel=1e-5)


@pytest.mark.parametrize("states", ["detached", "shared"])
def test_an_update_that_is_not_finite_is_skipped_and_counted(
    policy: Policy, trajectories: list[Trajectory], states: str
) -> None:
    learner = make_learner(policy, states)
    good = make_estimated(learner, trajectories)
    bad = replace(good, advantages=good.advantages * math.nan, returns=good.returns * math.nan)
    parameters = [*policy.parameters(), *learner.critic.parameters()]
    before = [p.detach().clone() for p in parameters]
    metrics = update_policy(learner, bad, replace(ONCE, epochs=3), EPISODES, (0, 0))
    assert metrics["skipped_updates"] == learner.skipped == 3
    assert math.isnan(metrics["gradient_norm"])
    assert all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    metrics = update_policy(learner, good, ONCE, EPISODES, (0, 0))
    assert metrics["skipped_updates"] == learner.skipped == 0


def test_the_critic_is_fitted_to_the_returns(
    policy: Policy, trajectories: list[Trajectory]
) -> None:
    learner = make_learner(policy)
    learner.critic.config = replace(learner.critic.config, epochs=200)  # type: ignore[assignment]
    estimated = make_estimated(learner, trajectories)
    mask = estimated.annotated.batch.action_mask
    errors = (estimated.annotated.values - estimated.returns)[mask] ** 2
    last = fit_critic(learner, estimated)
    assert last < 0.1 * float(errors.mean()) / 2


# --- What the settings say reaches the update -------------------------------------------------


def policy_gradient(learner: Learner, estimated: Estimated, config: PPOConfig) -> Tensor:
    """Of the adapter alone, flat; forgets it afterwards."""
    rows = torch.arange(len(estimated.annotated.batch.lengths))
    accumulate(learner, estimated, rows, config, 10.0)
    flat = torch.cat([p.grad.flatten().clone() for p in learner.policy.parameters()])  # type: ignore[union-attr]
    for parameter in learner.policy.parameters():
        parameter.grad = None
    return flat


def test_importance_weights_scale_what_each_token_says(
    policy: Policy, trajectories: list[Trajectory]
) -> None:
    learner = make_learner(policy)
    estimated = make_estimated(learner, trajectories)
    twice = replace(estimated, weights=torch.full_like(estimated.advantages, 2.0))
    once = replace(estimated, weights=torch.ones_like(estimated.advantages))
    plain = policy_gradient(learner, estimated, ONCE)
    close(policy_gradient(learner, once, ONCE), plain)
    close(policy_gradient(learner, twice, ONCE), 2 * plain)


def test_outside_the_clip_a_good_token_says_nothing_more(
    policy: Policy, trajectories: list[Trajectory]
) -> None:
    """Ratios of 1.5: beyond 1.28 the gradient is gone, within 2 it is there."""
    learner = make_learner(policy)
    estimated = make_estimated(learner, trajectories)
    annotated = estimated.annotated
    older = replace(annotated, logprobs=annotated.logprobs - math.log(1.5))
    good = torch.where(annotated.batch.action_mask, 1.0, 0.0)
    moved = replace(estimated, annotated=older, advantages=good)
    assert float(policy_gradient(learner, moved, ONCE).abs().max()) == 0.0
    wide = replace(ONCE, clip_high=1.0)
    assert float(policy_gradient(learner, moved, wide).abs().max()) > 1e-2


def test_the_gradients_norm_is_bounded(policy: Policy, trajectories: list[Trajectory]) -> None:
    """Adam's first step is the same for any scale, so what is bounded is read before it."""
    learner = make_learner(policy)
    seen: list[float] = []
    clip = learner.policy_optimizer.clip_

    def bounded(norm: float) -> float:
        found = clip(norm)
        grads = [p.grad for p in learner.policy_optimizer.parameters if p.grad is not None]
        seen.append(float(torch.cat([g.flatten() for g in grads]).norm()))
        return found

    learner.policy_optimizer.clip_ = bounded  # type: ignore[method-assign]
    estimated = make_estimated(learner, trajectories)
    config = replace(ONCE, gradient_norm=0.125)
    metrics = update_policy(learner, estimated, config, EPISODES, (0, 0))
    assert metrics["gradient_norm"] > 0.125
    assert seen == [pytest.approx(0.125, rel=1e-4)]


@pytest.mark.parametrize("states", ["shared", "detached"])
def test_the_value_clip_reaches_the_loss(
    states: str, policy: Policy, trajectories: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared critic's loss is weighed too; the policy's is not."""
    learner = make_learner(policy, states)
    learner.critic.config = replace(learner.critic.config, value_clip=0.25)
    clips: list[float] = []
    value_loss = ppo.value_loss

    def noted(*arguments: Any) -> Tensor:
        clips.append(arguments[3])
        return value_loss(*arguments)

    monkeypatch.setattr(ppo, "value_loss", noted)
    estimated = make_estimated(learner, trajectories)
    if states == "detached":
        fit_critic(learner, estimated)
    else:
        before = gradient(learner, estimated)[-9:]
        learner.critic.config = replace(learner.critic.config, loss_weight=1.5)  # of .5 before
        torch.testing.assert_close(gradient(learner, estimated)[-9:], 3 * before)
    assert set(clips) == {0.25}


# --- Ranks ------------------------------------------------------------------------------------


class Twins(Distributed):
    """So many processes with the same episodes; it notes the norms of gradients that are summed."""

    def __init__(self, count: int) -> None:
        super().__init__(cpu=True)
        self.twins, self.norms = count, list[float]()

    def sum(self, x: Tensor) -> Tensor:
        """What all of them have."""
        return self.twins * x

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Sum, as `Distributed` does."""
        grads = [p.grad for p in parameters if p.grad is not None]
        for gradient in grads:
            gradient.mul_(self.twins)
        self.norms.append(float(torch.cat([g.flatten() for g in grads]).norm()))


@pytest.mark.parametrize("states", ["detached", "shared"])
def test_twins_learn_what_one_learns(
    policy: Policy, trajectories: list[Trajectory], states: str
) -> None:
    """Sums over twice the tokens, divided by twice as many: every summed gradient is the same."""
    estimated = make_estimated(make_learner(policy, states), trajectories)
    before = [p.detach().clone() for p in policy.parameters()]
    norms, losses = [], []
    for count in (1, 2):
        with torch.no_grad():
            for parameter, old in zip(policy.parameters(), before, strict=True):
                parameter.copy_(old)
        learner, ranks = make_learner(policy, states), Twins(count)
        learner.ranks = ranks
        metrics = update_policy(learner, estimated, replace(ONCE, epochs=2), EPISODES, (0, 0))
        learner.critic.config = replace(learner.critic.config, privileged=False)
        losses.append([metrics["gradient_norm"], metrics["ratio"], fit_critic(learner, estimated)])
        norms.append(ranks.norms)
    assert len(norms[0]) == (4 if states == "shared" else 2 + 3)  # policy and critic; then the fit
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3, nan_ok=True)


def test_what_is_privileged_is_weighed_over_all_ranks(
    policy: Policy, trajectories: list[Trajectory]
) -> None:
    estimated = make_estimated(make_learner(policy), trajectories)
    grams = []
    for count in (1, 2):
        learner = make_learner(policy)
        learner.ranks = Twins(count)
        fit_critic(learner, estimated)
        grams.append(learner.critic.gram)
    assert grams[0][0, 0] == sum(len(t.parts) for t in trajectories)  # the constant, once a turn
    torch.testing.assert_close(grams[1], 2 * grams[0])


def test_the_critics_gradient_is_bounded(
    policy: Policy, trajectories: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Returns of a thousand; what is bounded is read where the optimizer would take its step."""
    learner = make_learner(policy)
    estimated = make_estimated(learner, trajectories)
    norms: list[float] = []

    def note() -> None:
        grads = [p.grad.flatten() for p in learner.critic.parameters() if p.grad is not None]
        norms.append(float(torch.cat(grads).norm()))

    monkeypatch.setattr(learner.critic_optimizer, "step", note)
    fit_critic(learner, replace(estimated, returns=estimated.returns + 1000))
    assert norms == [pytest.approx(update.CRITIC_NORM, rel=1e-4)] * 3
