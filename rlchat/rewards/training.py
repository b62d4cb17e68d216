"""A reward model from preferences: trained, calibrated, and measured on held-out dialogues."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rlchat.errors import UserError
from rlchat.listener import Listener
from rlchat.models.device import choose_device, choose_dtype
from rlchat.rewards.config import RewardModelConfig
from rlchat.rewards.loading import open_backbone
from rlchat_reward_models.calibration import fit_temperature
from rlchat_reward_models.evaluation import evaluate_preferences
from rlchat_reward_models.preferences import Preference, tidy
from rlchat_reward_models.reward_model import RewardModel, positions
from rlchat_reward_models.scorer import Granularity, LearnedScorer, Scale, Settings
from rlchat_reward_models.splits import by_split
from rlchat_reward_models.tokenization import ReplyTokenizer
from rlchat_reward_models.training import train_reward_model as train_on_preferences


@dataclass(frozen=True)
class TrainedRewardModel:
    """A reward model, how it came about, and preferences of dialogues it never saw."""

    scorer: LearnedScorer
    trained_on: int
    seconds: float
    held_out: Sequence[Preference]


def train_reward_model(
    preferences: Sequence[Preference],
    config: RewardModelConfig | None = None,
    listener: Listener | None = None,
) -> TrainedRewardModel:
    """Train a reward model on two thirds of the dialogues, and calibrate it on others.

    Args:
        preferences: as `rlchat reward build` collects them; duplicates and ties are left out.
        config: what it reads with, and how it is trained.
        listener: told how it goes.

    Raises:
        UserError: too few dialogues to train, calibrate and test on.
    """
    config, listener = config or RewardModelConfig(), listener or Listener()
    learn, calibrate, held_out = by_split(tidy(preferences).preferences).values()
    if len(learn) < 2 or not calibrate or not held_out:
        raise UserError(
            f"expected preferences from enough dialogues to train, calibrate and test on; got "
            f"{len(learn)}, {len(calibrate)} and {len(held_out)}; collect more"
        )
    learn = _some(learn, config.most, config.seed)
    listener.say(f"training on {len(learn)} preferences")
    began = time.monotonic()
    scorer = _trained(config, learn, listener)
    seconds = time.monotonic() - began
    margins = evaluate_preferences(scorer, calibrate).margins
    temperature = fit_temperature(margins, [1.0] * len(margins))
    scorer.rescale(Scale(temperature, uncertainty_penalty=config.uncertainty_penalty))
    scorer.normalize([(p.prompt, reply) for p in learn[:500] for reply in (p.chosen, p.rejected)])
    return TrainedRewardModel(scorer, len(learn), seconds, held_out)


def _some(preferences: Sequence[Preference], most: int, seed: int) -> list[Preference]:
    """Choose preferences of at most so many contexts, drawn by the largest weight in each.

    Most moments of a conversation are of little consequence, and a reward model that is trained on
    all of them evenly learns style before it learns what is right.
    """
    weights: dict[object, float] = {}
    for p in preferences:
        weights[p.context] = max(p.weight, weights.get(p.context, 0.0))
    if len(weights) <= most:
        return list(preferences)
    odds = np.array(list(weights.values()))
    drawn = np.random.default_rng(seed).choice(len(odds), most, replace=False, p=odds / odds.sum())
    contexts = list(weights)
    chosen = {contexts[i] for i in drawn}
    return [p for p in preferences if p.context in chosen]


def _trained(
    config: RewardModelConfig, learn: Sequence[Preference], listener: Listener
) -> LearnedScorer:
    torch.manual_seed(config.seed)
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    backbone, own, adapted = open_backbone(config.backbone, config.seed, listener.say)
    most = positions(backbone)
    if most is not None and config.max_tokens > most:
        raise UserError(
            f"expected --max-tokens of at most {most}, as {config.backbone} has no more positions; "
            f"got {config.max_tokens}; lower it, or choose another --backbone"
        )
    tokenizer = ReplyTokenizer(own, config.max_tokens)
    model = RewardModel(backbone, tokenizer.encoder, config.heads, config.seed)
    torch.nn.Module.to(model, device)

    show_share = listener.share("reward model")

    def report(row: Mapping[str, float]) -> None:
        show_share(row["done"], f"loss {row['loss']:.3f}")

    half = dtype != torch.float32
    train_on_preferences(model, tokenizer, learn, config.training, half, config.seed, report)
    whole = sum(len(p.chosen) > 1 for p in learn) > len(learn) / 2
    granularity: Granularity = "conversation" if whole else "turn"
    settings = Settings(
        config.backbone, adapted, config.heads, config.max_tokens, Scale(), granularity
    )
    scorer = LearnedScorer(model, tokenizer, settings)
    scorer.dtype = dtype
    return scorer
