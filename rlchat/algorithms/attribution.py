"""Advantages as sums of parts: what each score component, the KL and the baseline gave to each.

Every estimator is linear in rewards and baseline, and so is a turn's mean over its tokens: the
parts are found by putting one component of the reward through the estimator at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlchat.algorithms import ppo
from rlchat.algorithms.advantages import (
    EstimatorSettings,
    others_baseline,
    penalized_kl,
    score_unit,
)
from rlchat.algorithms.annotate import Annotated
from rlchat.algorithms.batch import Batch
from rlchat.statistics import RunningStd


@dataclass(frozen=True)
class TurnAdvantage:
    """A turn's advantage before whitening, as a sum of parts, in units of scaled score.

    It is the mean over the turn's action tokens: PPO's loss weighs tokens alike, so that the mean
    times their number is what the turn adds to the gradient's weight.

    Attributes:
        components: what each score component gave, from this turn's reward and later ones.
        kl: what the price of the KL took, from here on.
        baseline: less what was expected: by the critic (gae), or by what other episodes had to
            come at the same turn (rloo, reinforce).
        mean: of the batch's advantages, which whitening takes off.
        std: by which it then divides.
    """

    components: Mapping[str, float]
    kl: float
    baseline: float
    mean: float
    std: float

    @property
    def total(self) -> float:
        """The advantage before whitening."""
        return sum(self.components.values()) + self.kl + self.baseline

    @property
    def whitened(self) -> float:
        """The advantage that the policy learns from."""
        return (self.total - self.mean) / self.std

    def parts(self, whitened: bool = False) -> dict[str, float]:
        """All parts by name, whose sum is the advantage before or after whitening."""
        kept = {f"score: {name}": value for name, value in self.components.items()}
        kept |= {"KL": self.kl, "baseline": self.baseline}
        if not whitened:
            return kept
        return {k: v / self.std for k, v in kept.items()} | {"whitening": -self.mean / self.std}


@dataclass(frozen=True)
class Attribution:
    """The parts of each token's advantage, (B, T) in double precision, 0 off the action tokens.

    See `TurnAdvantage` for what the parts are.
    """

    batch: Batch
    components: Mapping[str, Tensor]
    kl: Tensor
    baseline: Tensor
    mean: float
    std: float

    @property
    def total(self) -> Tensor:
        """Each token's advantage (B, T) before whitening."""
        return sum(self.components.values(), self.kl + self.baseline)

    def turn(self, row: int, turn: int) -> TurnAdvantage:
        """A turn of a row: the means over its action tokens."""
        own = self.batch.turns[row] == turn

        def mean(part: Tensor) -> float:
            return float(part[row, own].mean())

        return TurnAdvantage(
            {name: mean(part) for name, part in self.components.items()},
            mean(self.kl),
            mean(self.baseline),
            self.mean,
            self.std,
        )


def attribute(
    annotated: Annotated,
    parts: Sequence[Sequence[Mapping[str, float]]],
    settings: EstimatorSettings,
    beta: float,
    scale: RunningStd | Mapping[str, RunningStd],
    everyone: Sequence[tuple[int, int]],
    envs: Sequence[str] = (),
) -> Attribution:
    """Take the advantages that `estimate` makes of a batch apart.

    Args:
        annotated: the episodes, all that are compared with one another.
        parts: the named score parts of each turn of each row, whose sums are the batch's scores.
        settings: the estimator.
        beta: price of a nat of k1.
        scale: running spread of scores, or that of each environment; see `estimate`.
        everyone: (index, turns) of the episodes.
        envs: their environments, where there are several.
    """
    batch, mask = annotated.batch, annotated.batch.action_mask
    unit, nothing = score_unit(scale, batch.envs, settings.score_floor), torch.zeros(mask.shape)
    nothing, discounts = ppo.wide(nothing), settings.discounts
    none_left = torch.zeros(len(mask), dtype=torch.double)
    if settings.estimator != "gae":
        discounts = ppo.Discounts(discounts.gamma_token, 1.0, discounts.gamma_turn, 1.0)

    def from_here(rewards: Tensor) -> Tensor:
        return ppo.gae(rewards, nothing, none_left, mask, batch.turn_end, discounts)

    components = {
        name: from_here(scores / unit) for name, scores in component_scores(batch, parts).items()
    }
    kl = from_here(
        ppo.rewards(nothing, ppo.wide(penalized_kl(annotated)), mask, batch.turn_end, beta)
    )
    if settings.estimator == "gae":
        values, bootstrap = ppo.wide(annotated.values), ppo.wide(annotated.bootstrap)
        baseline = ppo.gae(nothing, values, bootstrap, mask, batch.turn_end, discounts)
    else:
        to_go = sum(components.values(), kl)
        others = others_baseline(to_go, batch, settings, everyone, envs=envs)
        baseline = torch.where(mask, -others, nothing)
    mean, std = ppo.masked_moments(sum(components.values(), kl + baseline), mask)
    floored = max(float(std), settings.std_floor)
    return Attribution(batch, components, kl, baseline, float(mean), floored)


def component_scores(
    batch: Batch, parts: Sequence[Sequence[Mapping[str, float]]]
) -> dict[str, Tensor]:
    """The unscaled scores (B, T) of each component, on each turn's last action token."""
    names = dict.fromkeys(name for row in parts for turn in row for name in turn)
    scores = {name: torch.zeros(batch.turns.shape, dtype=torch.double) for name in names}
    for b, t in batch.turn_end.nonzero().tolist():
        for name, value in parts[b][int(batch.turns[b, t])].items():
            scores[name][b, t] = value
    return scores
