"""Training of reward models, on a tiny encoder and a tiny decoder with random weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from rlchat_envs import Conversation, Message
from rlchat_reward_models.config import RewardModelTraining
from rlchat_reward_models.evaluation import evaluate_preferences
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.scorer import LearnedScorer
from rlchat_reward_models.tokenization import ReplyTokenizer
from rlchat_reward_models.training import (
    Collate,
    dataset,
    preference_loss,
    train_reward_model,
)

ASKED = (Message("system", "go away"), Message("user", "where is my parcel"))
KIND, RUDE = (Message("assistant", "sorry . yes please"),), (Message("assistant", "no . go away"),)


def test_the_loss_by_hand() -> None:
    # One head, Δ = 2.5 − 1 = 1.5, label 0.8:
    # 0.8 log(1 + e^−1.5) + 0.2 log(1 + e^1.5) = 0.8 · 0.201413 + 0.2 · 1.701413 = 0.501413
    scores, pairs = torch.tensor([[1.0], [2.5]]), torch.tensor([[1, 0]])
    loss = preference_loss(scores, pairs, torch.tensor([0.8]), torch.ones(1, 1))
    assert float(loss) == pytest.approx(0.501413, abs=1e-5)


def test_comparisons_count_for_heads_as_they_are_told() -> None:
    scores = torch.tensor([[2.0, 0.0], [0.0, 2.0]])  # the first head is right, the second wrong
    pairs, label = torch.tensor([[0, 1]]), torch.ones(1)
    first = preference_loss(scores, pairs, label, torch.tensor([[1.0, 0.0]]))
    second = preference_loss(scores, pairs, label, torch.tensor([[0.0, 1.0]]))
    assert float(first) == pytest.approx(0.126928, abs=1e-5)  # log(1 + e^−2)
    assert float(second) == pytest.approx(2.126928, abs=1e-5)


def test_a_reply_that_is_compared_with_several_is_tokenized_once(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    middle = (Message("assistant", "yes"),)
    of_one = [Preference(ASKED, KIND, RUDE), Preference(ASKED, KIND, middle, 0.5)]
    rows = dataset([*of_one, Preference((), RUDE, middle)], ReplyTokenizer(tokenizer, 48), 2, 0)
    assert [len(row["ids"]) for row in rows] == [3, 2]
    batch = Collate(ReplyTokenizer(tokenizer, 48))(list(rows))
    assert batch["input_ids"].shape[0] == 5
    assert batch["pairs"].tolist() == [[0, 1], [0, 2], [3, 4]]
    assert batch["labels"].tolist() == [1.0, 0.75, 1.0]
    assert batch["counts"].shape == (3, 2)


def preferences(count: int = 64) -> list[Preference]:
    contexts: list[Conversation] = [ASKED, ASKED[1:], (), (*ASKED, *RUDE, Message("user", "no"))]
    return [Preference(contexts[i % 4], KIND, RUDE, 0.9, dialogue=f"d{i}") for i in range(count)]


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_it_learns(make_scorer: Callable[[str], LearnedScorer], kind: str) -> None:
    model = make_scorer(kind)
    told: list[float] = []
    training = RewardModelTraining(epochs=4, batch=8, learning_rate=3e-3)
    train_reward_model(
        model.model,
        model.tokenizer,
        preferences(),
        training,
        report=lambda row: told.append(row["loss"]),
    )
    found = evaluate_preferences(model, preferences(8))
    assert all(found.correct)
    assert told[-1] < told[0]
