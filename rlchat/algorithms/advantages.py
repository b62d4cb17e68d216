"""Advantages, the critic's targets and sampler weights of an annotated batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlchat.algorithms import ppo
from rlchat.algorithms.annotate import Annotated
from rlchat.algorithms.batch import Batch
from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.statistics import RunningStd

ROUNDING = 1e-5  # nats; what float32's rounding may make of two equal logprobs


@dataclass(frozen=True)
class Estimated:
    """An annotated batch with advantages (whitened), the critic's targets and sampler weights."""

    annotated: Annotated
    advantages: Tensor
    returns: Tensor
    weights: Tensor | None


@dataclass(frozen=True)
class EstimatorSettings:
    """Settings of the estimator; `rlchat.algorithms.config.PPOConfig` documents each."""

    estimator: str
    discounts: ppo.Discounts
    lambda_return: float
    group_size: int
    std_floor: float
    score_floor: float
    sampler_gap: float


def estimator_settings(
    config: PPOConfig, critic: CriticConfig, compared: bool = False
) -> EstimatorSettings:
    """Take the estimator's settings from those of PPO and the critic.

    Args:
        config: settings of PPO.
        critic: settings of the critic.
        compared: whether scores come from comparisons of replies alone. Those know a reply's worth
            in its context up to a constant, which a sum over turns would pay for.
    """
    gamma = (0.0 if compared else 1.0) if config.gamma_turn is None else config.gamma_turn
    return EstimatorSettings(
        config.estimator,
        ppo.Discounts(config.gamma_token, config.lambda_token, gamma, config.lambda_turn),
        critic.lambda_return,
        config.group_size,
        config.std_floor,
        config.score_floor,
        config.sampler_gap,
    )


def estimate(
    annotated: Annotated,
    settings: EstimatorSettings,
    beta: float,
    scale: RunningStd | Mapping[str, RunningStd],
    everyone: Sequence[tuple[int, int]],
    reduce: ppo.Reduce = ppo.alone,
    envs: Sequence[str] = (),
) -> Estimated:
    """Put the KL into the reward, then make advantages and the critic's targets.

    Args:
        annotated: this rank's episodes.
        settings: the estimator.
        beta: price of a nat of k1, in units of scaled score.
        scale: running spread of scores per turn, or that of each environment by its name; it has
            seen this iteration's.
        everyone: (index, turns) of all ranks' episodes, in the same order on each, for estimators
            that compare episodes.
        reduce: sums over ranks.
        envs: the environment of each episode of ``everyone``, where there are several: episodes
            are compared with others of the same one.
    """
    batch = annotated.batch
    mask = batch.action_mask
    unit = score_unit(scale, batch.envs, settings.score_floor)
    kl = penalized_kl(annotated)
    rewards = ppo.rewards(batch.scores / unit, kl, mask, batch.turn_end, beta)

    def along(discounts: ppo.Discounts, values: Tensor, bootstrap: Tensor) -> Tensor:
        return ppo.gae(rewards, values, bootstrap, mask, batch.turn_end, discounts)

    d = settings.discounts
    target = ppo.Discounts(d.gamma_token, d.lambda_token, d.gamma_turn, settings.lambda_return)
    values, bootstrap = annotated.values, annotated.bootstrap
    returns = along(target, values, bootstrap) + values
    if settings.estimator == "gae":
        advantages = along(d, values, bootstrap)
    else:
        # Without a critic: the reward to come, minus what others had to come at the same turn.
        plain = ppo.Discounts(d.gamma_token, 1.0, d.gamma_turn, 1.0)
        to_go = along(plain, torch.zeros_like(values), torch.zeros_like(bootstrap))
        baseline = others_baseline(to_go, batch, settings, everyone, reduce, envs)
        advantages = torch.where(mask, to_go - baseline, torch.zeros_like(to_go))
    gap = (annotated.logprobs - batch.sampled_logprobs).abs()
    mean_gap, _ = ppo.masked_moments(gap, mask, reduce)
    return Estimated(
        annotated,
        ppo.whiten(advantages, mask, settings.std_floor, reduce),
        torch.where(mask, returns, torch.zeros_like(returns)),
        ppo.importance_weights(annotated.logprobs, batch.sampled_logprobs)
        if float(mean_gap) > settings.sampler_gap
        else None,
    )


def penalized_kl(annotated: Annotated) -> Tensor:
    """k1 (B, T) of each token, as it is priced: 0 where it is no more than rounding.

    Adam would make full steps of what is rounding between sampler and forward, if nothing else is
    rewarded.
    """
    kl = ppo.k1(annotated.logprobs, annotated.ref_logprobs)
    return torch.where(kl.abs() < ROUNDING, 0.0, kl)


def score_unit(
    scale: RunningStd | Mapping[str, RunningStd], envs: Sequence[str], floor: float
) -> float | Tensor:
    """What scores are divided by: one number, or one (B, 1) a row."""
    if isinstance(scale, RunningStd):
        return max(scale.std, floor)
    return torch.tensor([[max(scale[env].std, floor)] for env in envs])


def _groups(
    settings: EstimatorSettings, everyone: Sequence[tuple[int, int]], envs: Sequence[str]
) -> Tensor:
    """A number for each episode, alike for those that are compared with one another."""
    index = torch.tensor([i for i, _ in everyone])
    if settings.estimator == "rloo":
        return index // settings.group_size
    if not envs:
        return index * 0
    numbers = {env: number for number, env in enumerate(sorted(set(envs)))}
    return torch.tensor([numbers[env] for env in envs])


def others_baseline(
    to_go: Tensor,
    batch: Batch,
    settings: EstimatorSettings,
    everyone: Sequence[tuple[int, int]],
    reduce: ppo.Reduce = ppo.alone,
    envs: Sequence[str] = (),
) -> Tensor:
    """The baseline (B, T) of each token: what other episodes had to come at its turn.

    Others are those of the same start (rloo), or all (reinforce), of whichever rank: each rank
    fills in its own rows of one table, and the sum over ranks is the whole table.

    Args:
        to_go: (B, T), the reward to come of each token.
        batch: this rank's episodes.
        settings: the estimator.
        everyone: see `estimate`.
        reduce: sums over ranks.
        envs: see `estimate`.
    """
    groups = _groups(settings, everyone, envs)
    index = torch.tensor([i for i, _ in everyone])
    turns = torch.tensor([n for _, n in everyone])
    row = {int(i): r for r, i in enumerate(index)}
    own = torch.tensor([row[int(i)] for i in batch.index])
    before = torch.nn.functional.pad(batch.turns, (1, 0), value=-1)[:, :-1]
    b, t = (batch.action_mask & (batch.turns != before)).nonzero(as_tuple=True)
    table = to_go.new_zeros(len(everyone), int(turns.max()))
    table[own[b], batch.turns[b, t]] = to_go[b, t]
    reached = torch.arange(table.shape[1]) < turns[:, None]
    baseline = ppo.others_mean(reduce(table), reached, groups)
    return baseline[own].gather(1, batch.turns.clamp(min=0))
