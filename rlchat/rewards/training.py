"""What the verbs `reward train|score|report` do: preferences in, a reward model out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from rlchat.cli.progress import Progress
from rlchat.cli.reward import TrainOptions
from rlchat.models.device import choose_device, choose_dtype
from rlchat.rewards.loading import open_backbone
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.reward_model import RewardModel
from rlchat_reward_models.scorer import Granularity, LearnedScorer, Scale, Settings
from rlchat_reward_models.tokenization import ReplyTokenizer
from rlchat_reward_models.training import train_reward_model


def _some(preferences: Sequence[Preference], most: int, seed: int) -> list[Preference]:
    """Those of so many contexts, drawn with odds of the largest weight in each.

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
    options: TrainOptions, learn: Sequence[Preference], progress: Progress
) -> LearnedScorer:
    torch.manual_seed(options.seed)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    backbone, own, adapted = open_backbone(options.backbone, options.seed, progress.say)
    tokenizer = ReplyTokenizer(own, options.max_tokens)
    model = RewardModel(backbone, tokenizer.encoder, options.heads, options.seed)
    torch.nn.Module.to(model, device)

    show_share = progress.share("reward model")

    def report(row: Mapping[str, float]) -> None:
        show_share(row["done"], f"loss {row['loss']:.3f}")

    half = dtype != torch.float32
    train_reward_model(model, tokenizer, learn, options.training, half, options.seed, report)
    whole = sum(len(p.chosen) > 1 for p in learn) > len(learn) / 2
    granularity: Granularity = "conversation" if whole else "turn"
    settings = Settings(
        options.backbone, adapted, options.heads, options.max_tokens, Scale(), granularity
    )
    scorer = LearnedScorer(model, tokenizer, settings)
    scorer.dtype = dtype
    return scorer
