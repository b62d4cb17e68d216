"""From trajectories to advantages (ppo.md, tests 1 and 7)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlchat.algorithms.advantages import Estimated, EstimatorSettings, _groups, estimate
from rlchat.algorithms.annotate import Annotated, annotate
from rlchat.algorithms.batch import Batch, microbatches, pack
from rlchat.algorithms.config import CriticConfig
from rlchat.algorithms.critic import PRIVILEGED, Critic, hash_privileged
from rlchat.algorithms.ppo import Discounts
from rlchat.models.adapters import POLICY
from rlchat.models.policy import REFERENCE, Policy
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import RunningStd

MakePolicy = Callable[..., Policy]
MakeTrajectories = Callable[..., list[Trajectory]]
BUDGETS = [1, 60, 10_000]  # tokens a forward: one by one, some, all at once


def make_critic(policy: Policy, **settings: object) -> Critic:
    """A critic that has left its start, the constant 0."""
    critic = Critic(policy.hf.config.hidden_size, CriticConfig(width=8, **settings))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(critic.leave.weight, generator=generator)
    critic.facts.normal_(generator=generator)
    return critic


def test_packing_by_hand() -> None:
    """A turn of two tokens that earned 0, a reply, and a turn of one that earned 1.5."""
    first = Trajectory(7, 0, [11, 12])
    first.privileged = [{"goal": "a"}, {"goal": "b"}]
    first.act([13, 14], [-1.0, -2.0])
    first.parts.append({"progress": 0.5, "courtesy": -0.5})
    first.observe([15])
    first.act([16], [-3.0])
    first.parts.append({"progress": 1.5})
    first.terminated = True
    second = Trajectory(3, 0, [21])
    second.privileged = [{"goal": "c"}, {"goal": "d"}]
    second.act([22], [-4.0])
    second.parts.append({"progress": -1.0})
    second.observe([23])
    second.truncated = True
    batch = pack([first, second])
    assert batch.ids.tolist() == [[11, 12, 13, 14, 15, 16], [21, 22, 23, 0, 0, 0]]
    assert batch.lengths.tolist() == [6, 3]
    assert batch.tokens == 9
    assert batch.turns.tolist() == [[-1, -1, 0, 0, -1, 1], [-1, 0, -1, -1, -1, -1]]
    assert torch.equal(batch.action_mask, batch.turns >= 0)
    assert batch.turn_end.nonzero().tolist() == [[0, 3], [0, 5], [1, 1]]  # a turn of 0 ends too
    assert batch.scores.tolist() == [[0, 0, 0, 0, 0, 1.5], [0, -1, 0, 0, 0, 0]]
    assert batch.sampled_logprobs.tolist() == [[0, 0, -1, -2, 0, -3], [0, -4, 0, 0, 0, 0]]
    assert batch.terminated.tolist() == [True, False]
    assert batch.index.tolist() == [7, 3]
    assert torch.equal(batch.privileged[0, 1], hash_privileged({"goal": "b", "turn": 1}))
    assert torch.equal(batch.privileged[1, 1], hash_privileged({"goal": "d", "turn": 1}))
    assert batch.privileged.shape == (2, 2, PRIVILEGED)


def test_microbatches_by_hand() -> None:
    """3 + 40 fit into 44, 2 + 7 + 35 do, and 50 has a forward of its own."""
    out = [rows.tolist() for rows in microbatches(torch.tensor([3, 40, 2, 7, 35, 50]), 44)]
    assert out == [[0, 1], [2, 3, 4], [5]]


@pytest.mark.parametrize("budget", [1, 90, 400, 10_000])
def test_microbatches_hold_each_row_once_within_the_budget(budget: int) -> None:
    lengths = torch.randint(1, 200, (31,), generator=torch.Generator().manual_seed(0))
    parts = list(microbatches(lengths, budget))
    assert sorted(torch.cat(parts).tolist()) == list(range(31))
    for rows in parts:
        assert len(rows) == 1 or int(lengths[rows].sum()) <= budget


@torch.no_grad()
def read_alone(policy: Policy, adapter: str, ids: list[int]) -> tuple[Tensor, Tensor]:
    """Logprobs of tokens 1.. and the critic's features of every position, of one row alone."""
    policy.model.set_adapter(adapter)
    out = policy.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    policy.model.set_adapter(POLICY)
    logprobs = out.logits[0, :-1].log_softmax(-1)
    layers = out.hidden_states  # embeddings, one layer, the other (normalized)
    seen = [torch.nn.functional.layer_norm(x[0], (64,)) for x in (layers[-1], layers[2])]
    return logprobs.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0], torch.cat(seen, -1)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("privileged", [False, True])
def test_annotation_is_what_each_row_says_alone(
    policy: Policy, make_trajectories: MakeTrajectories, privileged: bool, budget: int
) -> None:
    """V_j is read before token j; the bootstrap at the last token there is."""
    trajectories, critic = make_trajectories(), make_critic(policy, privileged=privileged)
    out = annotate(policy, critic, pack(trajectories), budget)
    states = []
    for b, t in enumerate(trajectories):
        logprobs, seen = read_alone(policy, POLICY, t.ids)
        ref_logprobs, _ = read_alone(policy, REFERENCE, t.ids)

        def value(position: int, turn: int, t: Trajectory = t, seen: Tensor = seen) -> Tensor:
            known = [hash_privileged({**t.privileged[turn], "turn": turn})] if privileged else []
            return torch.cat([seen[position], *known])

        for j in range(out.logprobs.shape[1]):
            if j >= len(t.ids) or not t.action_mask[j]:
                assert out.logprobs[b, j] == out.ref_logprobs[b, j] == out.values[b, j] == 0
                continue
            assert float(out.logprobs[b, j]) == pytest.approx(float(logprobs[j - 1]), abs=1e-5)
            ref = float(ref_logprobs[j - 1])
            assert float(out.ref_logprobs[b, j]) == pytest.approx(ref, abs=1e-5)
            states.append(value(j - 1, t.turns[j]))
            expected = float(critic(states[-1]).detach())
            assert float(out.values[b, j]) == pytest.approx(expected, abs=1e-5)
        # What is privileged before the turn that would have followed.
        following = value(len(t.ids) - 1, max(t.turns) + 1) if t.truncated else None
        bootstrap = 0.0 if following is None else float(critic(following).detach())
        assert float(out.bootstrap[b]) == pytest.approx(bootstrap, abs=1e-5)
    torch.testing.assert_close(out.states, torch.stack(states), atol=1e-5, rtol=1e-5)
    assert {t.terminated for t in trajectories} == {True, False}
    assert not out.states.requires_grad


@pytest.mark.parametrize("budget", BUDGETS)
def test_what_tokens_were_drawn_from_spares_the_forward(
    policy: Policy,
    make_trajectories: MakeTrajectories,
    budget: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same annotation; the policy runs only where a row has kept nothing, as if truncated."""
    trajectories, critic = make_trajectories(), make_critic(policy)
    plain = annotate(policy, critic, pack(trajectories), budget)
    for b, t in enumerate(trajectories):
        acts = torch.tensor(t.action_mask).nonzero()[:, 0]
        t.sampled_logprobs = plain.logprobs[b, : len(t.ids)].tolist()
        if t.terminated:
            with torch.no_grad():
                out = policy.model(input_ids=torch.tensor([t.ids]), output_hidden_states=True)
            last, middle = out.hidden_states[-1][0], out.hidden_states[2][0]
            t.sampled_states = torch.stack([last, middle], 1)[acts - 1]
    forwards: list[str] = []
    trunk_states = policy.trunk_states

    def counted(*arguments: Any, **named: Any) -> Any:
        forwards.append(str(policy.model.active_adapter))
        return trunk_states(*arguments, **named)

    monkeypatch.setattr(policy, "trunk_states", counted)
    out = annotate(policy, critic, pack(trajectories), budget)
    for name in ("logprobs", "ref_logprobs", "values", "bootstrap", "states"):
        torch.testing.assert_close(getattr(out, name), getattr(plain, name), atol=1e-5, rtol=1e-5)
    if budget == 1:  # a row a forward: the policy's for the truncated, the reference's for all
        assert forwards.count(POLICY) == sum(t.truncated for t in trajectories)
        assert forwards.count(REFERENCE) == len(trajectories)


def test_the_reference_runs_only_where_it_differs(
    policy: Policy, make_trajectories: MakeTrajectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a run's first iteration it is the policy: its logprobs are the policy's, to the bit."""
    critic, batch = make_critic(policy), pack(make_trajectories())
    adapters, trunk_states = set(), policy.trunk_states

    def seen(*arguments: Any, **named: Any) -> Any:
        adapters.add(str(policy.model.active_adapter))
        return trunk_states(*arguments, **named)

    monkeypatch.setattr(policy, "trunk_states", seen)
    policy.freeze_reference()
    out = annotate(policy, critic, batch, 100)
    assert adapters == {POLICY} and out.logprobs.any()
    assert torch.equal(out.ref_logprobs, out.logprobs)
    with torch.no_grad():
        policy.parameters()[0].mul_(1.5)
    out = annotate(policy, critic, batch, 100)
    assert adapters == {POLICY, REFERENCE}
    assert not torch.equal(out.ref_logprobs, out.logprobs)


def test_more_padding_changes_nothing(policy: Policy, make_trajectories: MakeTrajectories) -> None:
    critic, trajectories = make_critic(policy), make_trajectories()
    batch = pack(trajectories)
    wide = {
        name: torch.nn.functional.pad(getattr(batch, name), (0, 13), value=filler)
        for name, filler in {
            "ids": 99,
            "action_mask": False,
            "turn_end": False,
            "turns": -1,
            "scores": 0.0,
            "sampled_logprobs": math.nan,
        }.items()
    }
    padded: Batch = replace(batch, **wide)
    plain, out = (annotate(policy, critic, b, 10_000) for b in (batch, padded))
    width = batch.ids.shape[1]
    for name in ("logprobs", "ref_logprobs", "values"):
        torch.testing.assert_close(getattr(out, name)[:, :width], getattr(plain, name))
    torch.testing.assert_close(out.bootstrap, plain.bootstrap)
    torch.testing.assert_close(out.states, plain.states)
    settings, scale = SETTINGS, RunningStd(1, 0, 4)
    everyone = [(t.index, len(t.parts)) for t in trajectories]
    a, b = (estimate(x, settings, 0.1, scale, everyone) for x in (plain, out))
    for name in ("advantages", "returns"):
        torch.testing.assert_close(getattr(b, name)[:, :width], getattr(a, name))


SETTINGS = EstimatorSettings(
    estimator="gae",
    discounts=Discounts(1.0, 1.0, 0.5, 0.5),
    lambda_return=1.0,
    group_size=2,
    std_floor=0.1,
    score_floor=0.1,
    sampler_gap=0.01,
)
NAN = math.nan


def by_hand(sampled: float = 0.0) -> Annotated:
    """Two episodes of two action tokens each; the first in one turn, the second in two.

    Masked values are NaN. The running std will be 2, so the scores are 1, 0 and -1. The KL costs
    .5 a nat: the first episode's rewards are -.1 and 1.2, the second's 0 and -1.
    """
    mask = torch.tensor([[False, True, True, False], [False, True, False, True]])
    logprobs = torch.tensor([[NAN, -1.0, -1.0, NAN], [NAN, -1.0, NAN, -1.0]])
    batch = Batch(
        ids=torch.zeros(2, 4, dtype=torch.long),
        lengths=torch.tensor([3, 4]),
        action_mask=mask,
        turn_end=torch.tensor([[False, False, True, False], [False, True, False, True]]),
        turns=torch.tensor([[-1, 0, 0, -1], [-1, 0, -1, 1]]),
        scores=torch.tensor([[0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, -2.0]]),
        sampled_logprobs=logprobs - sampled,
        terminated=torch.tensor([True, False]),
        index=torch.tensor([0, 1]),
        privileged=torch.zeros(2, 2, PRIVILEGED),
        cached_states=[None, None],
        sampled_states=[None, None],
    )
    return Annotated(
        batch,
        logprobs,
        torch.tensor([[NAN, -1.2, -0.6, NAN], [NAN, -1.0, NAN, -1.0]]),
        torch.tensor([[NAN, 0.5, 0.25, NAN], [NAN, 1.0, NAN, 0.5]]),
        torch.tensor([0.0, 2.0]),
        torch.zeros(4, 1),
        list(batch.ids),
    )


TURNS = [(0, 1), (1, 2)]  # of the two episodes


def run(
    settings: EstimatorSettings,
    everyone: list[tuple[int, int]] = TURNS,
    elsewhere: Tensor | None = None,
    **k: float,
) -> Estimated:
    """Estimate; ``elsewhere`` is the table of rewards to come that another rank fills in."""

    def reduce(x: Tensor) -> Tensor:
        return x if elsewhere is None or x.shape != elsewhere.shape else x + elsewhere

    return estimate(by_hand(**k), settings, 0.5, RunningStd(1, 0, 4), everyone, reduce)


def whitened(raw: list[float]) -> list[list[float]]:
    mean = sum(raw) / 4
    std = math.sqrt(sum((x - mean) ** 2 for x in raw) / 4)
    a, b, c, d = ((x - mean) / std for x in raw)
    return [[0.0, a, b, 0.0], [0.0, c, 0.0, d]]


def test_gae_estimates_by_hand() -> None:
    """A = 1.2 - .25 = .95 and -.1 + .25 - .5 + .95 = .6; the second episode's, with .5 for gamma
    and lambda: -1 + .5 * 2 - .5 = -.5 and 0 + .5 * .5 - 1 + .25 * -.5 = -.875.

    The targets have lambda 1: 1.1, 1.2, and .5 * (-1 + .5 * 2) = 0 twice.
    """
    out = run(SETTINGS)
    torch.testing.assert_close(out.advantages, torch.tensor(whitened([0.6, 0.95, -0.875, -0.5])))
    expected = torch.tensor([[0.0, 1.1, 1.2, 0.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(out.returns, expected)


def test_rloo_estimates_by_hand() -> None:
    """The reward to come, KL and all: 1.1, 1.2 in the first episode's one turn; .5 * -1 and -1 in
    the second's two. Of a turn 0 the other's is subtracted, -.5 and 1.1; turn 1 has no other.

    Two episodes of another rank share another start, and count for nothing here.
    """
    rloo = replace(SETTINGS, estimator="rloo")
    out = run(rloo, [*TURNS, (2, 1), (3, 2)], torch.tensor([[0, 0], [0, 0], [50, 0], [9, 7.0]]))
    torch.testing.assert_close(out.advantages, torch.tensor(whitened([1.6, 1.7, -1.6, -1.0])))


def test_reinforce_estimates_by_hand() -> None:
    """The other rank's episode has 3 and then 2 to come: the first sees (3 - .5) / 2 = 1.25, the
    second (3 + 1.1) / 2 = 2.05 and, in its second turn, 2."""
    out = run(
        replace(SETTINGS, estimator="reinforce"),
        [(2, 2), (1, 2), (0, 1)],
        torch.tensor([[3.0, 2.0], [0.0, 0.0], [0.0, 0.0]]),
    )
    raw = [1.1 - 1.25, 1.2 - 1.25, -0.5 - 2.05, -1 - 2]
    torch.testing.assert_close(out.advantages, torch.tensor(whitened(raw)))


@pytest.mark.parametrize("estimator", ["rloo", "reinforce"])
def test_episodes_that_went_alike_teach_nothing(estimator: str) -> None:
    """Whatever their turns earned and their tokens cost: there is nothing to choose between."""
    both, second = by_hand(), torch.tensor([1, 1])
    batch = replace(
        both.batch,
        **{
            name: getattr(both.batch, name)[second]
            for name in ("lengths", "action_mask", "turn_end", "turns", "scores", "terminated")
        },
        sampled_logprobs=both.logprobs[second],
    )
    one_token_turns = replace(
        both,
        batch=batch,
        **{name: getattr(both, name)[second] for name in ("logprobs", "ref_logprobs", "values")},
    )
    settings = replace(SETTINGS, estimator=estimator)
    out = estimate(one_token_turns, settings, 0.5, RunningStd(1, 0, 4), [(0, 2), (1, 2)])
    assert bool((out.advantages == 0).all())


def test_scores_are_divided_by_no_less_than_the_floor() -> None:
    """The spread is 0 and the floor 4: scores .5 and -.5 instead of 1 and -1."""
    settings = replace(SETTINGS, score_floor=4.0, discounts=Discounts(1, 1, 1, 1))
    out = estimate(by_hand(), settings, 0.0, RunningStd(), TURNS)
    expected = torch.tensor([[0.0, 0.5, 0.5, 0.0], [0.0, 1.5, 0.0, 1.5]])
    torch.testing.assert_close(out.returns, expected)


def test_each_environment_has_its_own_scale() -> None:
    """Spreads of 2 and 4: scores 1 and -.5, with KL 0."""
    settings = replace(SETTINGS, discounts=Discounts(1, 1, 1, 1))
    scales = {"a": RunningStd(1, 0, 4), "b": RunningStd(1, 0, 16)}
    both = by_hand()
    mixed = replace(both, batch=replace(both.batch, envs=("a", "b")))
    out = estimate(mixed, settings, 0.0, scales, TURNS, envs=("a", "b"))
    expected = torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.0, 1.5, 0.0, 1.5]])
    torch.testing.assert_close(out.returns, expected)
    same = estimate(mixed, settings, 0.0, dict.fromkeys("ab", RunningStd(1, 0, 4)), TURNS)
    alone = estimate(both, settings, 0.0, RunningStd(1, 0, 4), TURNS)
    assert torch.equal(same.returns, alone.returns)
    assert torch.equal(same.advantages, alone.advantages)


def test_episodes_are_compared_with_those_of_their_environment() -> None:
    """Of four, two each: the mean of the other one is the baseline, and no other's."""
    settings = replace(SETTINGS, estimator="reinforce")
    index = torch.tensor([i for i, _ in TURNS])
    assert _groups(settings, TURNS, ()).tolist() == [0, 0]
    assert _groups(settings, TURNS, ("b", "a")).tolist() == [1, 0]
    grouped = replace(settings, estimator="rloo", group_size=2)
    assert torch.equal(_groups(grouped, TURNS, ("b", "b")), index // 2)


def test_the_sampler_is_corrected_for_when_it_strays() -> None:
    assert run(SETTINGS, sampled=0.009).weights is None
    weights = run(SETTINGS, sampled=-0.011).weights
    assert weights is not None
    kept = weights[by_hand().batch.action_mask]
    assert kept.tolist() == pytest.approx([math.exp(-0.011)] * 4)
    strayed = run(SETTINGS, sampled=5.0).weights
    assert strayed is not None
    assert strayed[by_hand().batch.action_mask].tolist() == [2.0] * 4


def test_rounding_between_two_forwards_costs_nothing() -> None:
    """Below 1e-5 nats a difference to the reference is none; above, it costs .5 a nat."""
    plain, scale = by_hand(), RunningStd(2, 0, 8)
    settings = replace(SETTINGS, estimator="reinforce")

    def returns(off: float) -> Tensor:
        away = replace(plain, ref_logprobs=plain.logprobs - off)
        return estimate(away, settings, 0.5, scale, TURNS).returns

    assert torch.equal(returns(5e-6), returns(0.0))
    assert not torch.equal(returns(5e-4), returns(0.0))


def test_the_sampler_gap_is_that_of_all_ranks() -> None:
    """Alone there is none; with another rank's, of 1 nat a token, the weights come in."""
    everyone = [(0, 1), (1, 2)]

    def with_another(x: Tensor) -> Tensor:
        # Of (count, sum) pairs the other rank has as many tokens, each with a gap of 1.
        return x + torch.tensor([4.0, 4.0], dtype=x.dtype) if x.numel() == 2 else x

    alone = estimate(by_hand(), SETTINGS, 0.5, RunningStd(4, 0, 16), everyone)
    assert alone.weights is None
    both = estimate(by_hand(), SETTINGS, 0.5, RunningStd(4, 0, 16), everyone, with_another)
    assert both.weights is not None
