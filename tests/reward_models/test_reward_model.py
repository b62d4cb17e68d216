"""The network of a reward model, over a tiny backbone with random weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from rlchat_envs import Message
from rlchat_reward_models.reward_model import RewardModel
from rlchat_reward_models.scorer import LearnedScorer

MakeScorer = Callable[[str], LearnedScorer]

REPLIES = [((), (Message("assistant", text),)) for text in ("yes", "no no no go away")]


def test_heads_depend_on_their_seed_alone(make_scorer: MakeScorer) -> None:
    backbone = make_scorer("bert").model.backbone
    made = [RewardModel(backbone, True, heads=2, seed=seed).heads for seed in (1, 2)]
    torch.manual_seed(5)
    again = RewardModel(backbone, True, heads=2, seed=1).heads
    same, other = (heads.state_dict()["0.0.weight"] for heads in made)
    assert torch.equal(again.state_dict()["0.0.weight"], same)
    assert not torch.equal(other, same)
    assert not torch.equal(made[0].state_dict()["1.0.weight"], same)  # or no head would disagree


def test_the_length_expert_is_left_out_of_scores(make_scorer: MakeScorer) -> None:
    scorer = make_scorer("bert")
    rows = scorer.tokenizer.pad_rows([scorer.tokenizer.tokenize(*turn) for turn in REPLIES])
    before = scorer.model.ensemble_scores(rows)
    torch.nn.init.ones_(scorer.model.length.weight)
    out = scorer.model(rows.ids, rows.attention, rows.reply)
    # log(1 + tokens), the separator among them.
    assert out.length.tolist() == pytest.approx([1.098612, 1.945910], abs=1e-5)
    assert out.logits.shape == (2, 3)
    after = scorer.model.ensemble_scores(rows)
    assert torch.equal(before.mean, after.mean) and torch.equal(before.std, after.std)
    assert after.mean.tolist() == pytest.approx(out.logits.mean(1).tolist())
