"""What the verbs `reward train|score|report` do: preferences in, a reward model out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from rlchat.cli.progress import Progress
from rlchat.cli.reward import TrainOptions
from rlchat.models.device import choose_device, choose_dtype
from rlchat.rewards.loading import open_trunk
from rlchat_reward_models.judge import Judge
from rlchat_reward_models.learned import LearnedScorer, Scale, Settings, Span
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.reading import Reader
from rlchat_reward_models.training import train_judge


def _some(preferences: Sequence[Preference], most: int, seed: int) -> list[Preference]:
    """Those of so many contexts, drawn with odds of the largest weight in each.

    Most moments of a conversation are of little consequence, and a judge that reads them all
    evenly learns manners before it learns what is right.
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
    trunk, tokenizer, adapted = open_trunk(options.trunk, options.seed, progress.say)
    reader = Reader(tokenizer, options.max_tokens)
    judge = Judge(trunk, reader.encoder, options.heads, options.seed)
    torch.nn.Module.to(judge, device)

    show_share = progress.share("reward model")

    def report(row: Mapping[str, float]) -> None:
        show_share(row["done"], f"loss {row['loss']:.3f}")

    half = dtype != torch.float32
    train_judge(judge, reader, learn, options.training, half, options.seed, report)
    whole = sum(len(p.chosen) > 1 for p in learn) > len(learn) / 2
    span: Span = "conversation" if whole else "turn"
    settings = Settings(options.trunk, adapted, options.heads, options.max_tokens, Scale(), span)
    scorer = LearnedScorer(judge, reader, settings)
    scorer.dtype = dtype
    return scorer
