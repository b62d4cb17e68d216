"""Tiny reward models with random weights, over an encoder or a decoder that knows few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from rlchat_reward_models.scorer import LearnedScorer

MakeScorer = Callable[[str], "LearnedScorer"]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\n", ":", "user", "agent", "desk"]
WORDS += ["yes", "no", "please", "parcel", "where", "is", "my", "go", "away", "sorry", "."]


def words(encoder: bool) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    splits = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    splits.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    marks = {"cls_token": "[CLS]", "sep_token": "[SEP]"} if encoder else {"eos_token": "[SEP]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=splits, pad_token="[PAD]", unk_token="[UNK]", **marks
    )


def backbone(kind: str) -> Any:
    import torch
    import transformers as hf

    size: dict[str, Any] = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1}
    size |= {"num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    if kind == "bert":
        return hf.BertModel(hf.BertConfig(**size))
    if kind == "roberta":
        config = hf.RobertaConfig(**size, max_position_embeddings=100, pad_token_id=0)
        return hf.RobertaModel(config)
    if kind == "xlnet":
        xlnet = hf.XLNetConfig(vocab_size=len(WORDS), d_model=16, n_layer=1, n_head=2, d_inner=32)
        return hf.XLNetModel(xlnet)
    return hf.LlamaModel(hf.LlamaConfig(**size))


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """An encoder's tokenizer of whole words."""
    return words(encoder=True)


@pytest.fixture
def make_scorer() -> MakeScorer:
    """Make a scorer over a backbone of a kind: bert, roberta, xlnet or llama."""
    from rlchat_reward_models.reward_model import RewardModel
    from rlchat_reward_models.scorer import LearnedScorer, Scale, Settings
    from rlchat_reward_models.tokenization import ReplyTokenizer

    def make(kind: str) -> LearnedScorer:
        replies = ReplyTokenizer(words(kind != "llama"), 48)
        model = RewardModel(backbone(kind), replies.encoder, heads=3)
        return LearnedScorer(model, replies, Settings(kind, False, 3, 48, Scale()), batch=2)

    return make
