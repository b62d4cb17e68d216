"""An iteration's metrics: docs/method/metrics.md explains each."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import pstdev

import torch

from rlchat.algorithms import ppo
from rlchat.algorithms.advantages import Estimated
from rlchat.distributed import Distributed
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import RunningStd


def without_tokens(trajectory: Trajectory) -> Trajectory:
    """The part of a trajectory that other ranks need to see."""
    return replace(
        trajectory,
        ids=[],
        action_mask=[],
        turns=[],
        sampled_logprobs=[],
        privileged=[],
        cached_states=None,
        sampled_states=None,
    )


def measure(
    estimated: Estimated, everyone: list[Trajectory], ranks: Distributed
) -> dict[str, float]:
    """An iteration's metrics before its update; docs/method/metrics.md explains each."""
    annotated, count = estimated.annotated, len(everyone)
    batch, mask = annotated.batch, annotated.batch.action_mask

    def mean(x: torch.Tensor) -> float:
        return float(ppo.masked_moments(x, mask, ranks.sum)[0])

    successes = [float(t.success) for t in everyone if t.success is not None]
    parts: dict[str, float] = {}
    for t in everyone:
        for turn in t.parts:
            for name, value in turn.items():
                parts[f"parts/{name}"] = parts.get(f"parts/{name}", 0.0) + value / count
    actions = float(ranks.sum(ppo.wide(mask.sum())))
    return {
        "return": sum(t.score for t in everyone) / count,
        "return_std": pstdev(t.score for t in everyone),
        "success": sum(successes) / len(successes) if successes else math.nan,
        "turns": sum(len(t.parts) for t in everyone) / count,
        "cost": sum(t.cost for t in everyone) / count,
        "truncated": sum(t.truncated for t in everyone) / count,
        "dropped_characters": float(sum(t.dropped for t in everyone)),
        "kl": mean(ppo.k1(annotated.logprobs, annotated.ref_logprobs)),
        "kl_k3": mean(ppo.k3(annotated.logprobs, annotated.ref_logprobs)),
        "entropy": -mean(annotated.logprobs),
        "sampler_gap": mean((annotated.logprobs - batch.sampled_logprobs).abs()),
        "importance_weighted": float(estimated.weights is not None),
        "explained_variance": ppo.explained_variance(
            annotated.values, estimated.returns, mask, ranks.sum
        ),
        "action_tokens": actions,
        "tokens_per_turn": actions / max(1, sum(len(t.parts) for t in everyone)),
        "score_length_correlation": correlation(
            [t.score for t in everyone],
            [
                float(sum(len(m.content) for m in t.conversation if m.role == "assistant"))
                for t in everyone
            ],
        ),
        "tokens": float(ranks.sum(torch.tensor(batch.tokens, dtype=torch.double))),
        **parts,
    }


def by_environment(
    everyone: Sequence[Trajectory], scales: Mapping[str, RunningStd]
) -> dict[str, float]:
    """Metrics of each of several environments, under its name; none where there is one.

    Args:
        everyone: an iteration's episodes.
        scales: the running spread of each environment's scores.
    """
    row: dict[str, float] = {}
    for env, scale in scales.items():
        own = [t for t in everyone if t.env == env]
        successes = [float(t.success) for t in own if t.success is not None]
        row |= {
            f"episodes/{env}": float(len(own)),
            f"success/{env}": sum(successes) / len(successes) if successes else math.nan,
            f"return/{env}": sum(t.score for t in own) / len(own) if own else math.nan,
            f"score_std/{env}": scale.std,
        }
    return row


def correlation(a: list[float], b: list[float]) -> float:
    """Pearson's; NaN if either does not vary."""
    pair = torch.tensor([a, b])
    return (
        float(torch.corrcoef(pair)[0, 1])
        if len(a) > 1 and bool((pair.std(1) > 0).all())
        else math.nan
    )


class Clock:
    """Seconds of an iteration, by phase."""

    def __init__(self) -> None:
        """Start the clock."""
        self.seconds: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """End a phase, and keep its seconds."""
        now = time.perf_counter()
        self.seconds[f"seconds/{phase}"] = now - self._last
        self._last = now

    def rates(self, tokens: float) -> dict[str, float]:
        """The phases, their sum, and tokens a second over all."""
        total = time.perf_counter() - self._start
        return {**self.seconds, "seconds": total, "tokens_per_second": tokens / total}
