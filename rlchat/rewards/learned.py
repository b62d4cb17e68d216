"""A reward model's scores in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch

from rlchat.distributed import Distributed
from rlchat_envs import Conversation
from rlchat_reward_models.scorer import Granularity, LearnedScorer, Scale, parts_of


class ReplyScorer(Protocol):
    """Judges every reply of whole conversations, many at a time."""

    def score(self, conversations: Sequence[Conversation]) -> list[list[float]]:
        """Score replies: a list for each conversation."""
        ...


class LearnedReward:
    """A reward model in training: its scale is the reference policy's, found at the start."""

    def __init__(self, scorer: LearnedScorer, shape: str, granularity: Granularity):
        """Score with a reward model."""
        self.scorer, self.shape, self.granularity = scorer, shape, granularity
        self.settled = False

    def score(self, conversations: Sequence[Conversation]) -> list[list[float]]:
        """Score every reply of every conversation; of a whole one, the last reply has the score."""
        parts = [parts_of(c, self.granularity) for c in conversations]
        found = self.scorer.ensemble_scores([part for own in parts for part in own])
        flat = iter(shaped(self.scorer.scale, self.scorer.scale.logits(found), self.shape))
        scores = [[next(flat) for _ in own] for own in parts]
        replies = [sum(m.role == "assistant" for m in c) for c in conversations]
        return [[0.0] * (n - len(own)) + own for n, own in zip(replies, scores, strict=True)]

    def settle(self, conversations: Sequence[Conversation], ranks: Distributed) -> None:
        """Take mean and spread from what the reference policy said, on all ranks."""
        turns = [t for c in conversations for t in parts_of(c, self.granularity)]
        scale = self.scorer.scale
        own = scale.logits(self.scorer.ensemble_scores(turns)).tolist()
        logits = torch.tensor(ranks.gather(own))
        mean, std = float(logits.mean()), float(logits.std()) if len(logits) > 1 else 1.0
        self.scorer.rescale(replace(scale, mean=mean, std=max(std, 1e-3)))
        self.settled = True  # for good: a scale that moved on would hide what the agent gains


def shaped(scale: Scale, logits: torch.Tensor, shape: str) -> list[float]:
    """Scores from calibrated logits (N,).

    log σ(logit − mean) is the log-probability that a reply is preferred to the reference policy's
    average one (Wang et al. 2024, "Transforming and combining rewards for aligning large language
    models"); plain is (logit − mean) / std.
    """
    relative = logits - scale.mean
    if shape == "log-sigmoid":
        return [float(x) for x in torch.nn.functional.logsigmoid(relative)]
    return [float(x) for x in relative / scale.std]
