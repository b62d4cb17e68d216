"""Advantages, the critic's targets and sampler weights of an annotated batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlchat.algorithms import ppo
from rlchat.algorithms.annotate import Annotated
from rlchat.algorithms.batch import Batch
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
    """How advantages are made; see `rlchat.algorithms.config.PPOConfig`, which documents each."""

    estimator: str
    discounts: ppo.Discounts
    lambda_return: float
    group_size: int
    std_floor: float
    score_floor: float
    sampler_gap: float


def estimate(
    annotated: Annotated,
    settings: EstimatorSettings,
    beta: float,
    scale: RunningStd,
    everyone: Sequence[tuple[int, float]],
    reduce: ppo.Reduce = ppo.alone,
) -> Estimated:
    """Put the KL into the reward, then make advantages and the critic's targets.

    Args:
        annotated: this rank's episodes.
        settings: the estimator.
        beta: price of a nat of k1, in units of scaled score.
        scale: running spread of scores per turn; it has seen this iteration's.
        everyone: (index, score) of all ranks' episodes, for estimators that compare episodes.
        reduce: sums over ranks.
    """
    batch = annotated.batch
    mask = batch.action_mask
    unit = max(scale.std, settings.score_floor)
    kl = ppo.k1(annotated.logprobs, annotated.ref_logprobs)
    # Adam would make full steps of what is rounding between sampler and forward, if nothing else is
    # rewarded.
    kl = torch.where(kl.abs() < ROUNDING, 0.0, kl)
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
        # Without a critic: the reward to come, minus what the others' episodes returned.
        plain = ppo.Discounts(d.gamma_token, 1.0, d.gamma_turn, 1.0)
        to_go = along(plain, torch.zeros_like(values), torch.zeros_like(bootstrap))
        baseline = _others(batch, settings, everyone, unit)
        advantages = torch.where(mask, to_go - baseline[:, None], torch.zeros_like(to_go))
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


def _others(
    batch: Batch,
    settings: EstimatorSettings,
    everyone: Sequence[tuple[int, float]],
    unit: float,
) -> Tensor:
    """The mean return of the other episodes: of the same start (rloo), or of all (reinforce)."""
    index = torch.tensor([i for i, _ in everyone])
    scores = torch.tensor([s for _, s in everyone], dtype=torch.float32) / unit
    groups = index // settings.group_size if settings.estimator == "rloo" else index * 0
    baseline = scores - ppo.group_advantages(scores, groups)
    place = {int(i): p for p, i in enumerate(index)}
    return torch.stack([baseline[place[int(i)]] for i in batch.index])
