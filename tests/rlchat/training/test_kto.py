"""What KTO pairs; that an adapter learns from thumbs is tested with `rlchat feedback learn`."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlchat.errors import UserError
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.loading import load_base
from rlchat.training.config import KtoConfig
from rlchat.training.kto import Thumb, dataset, learn_thumbs
from rlchat_envs import Message

ASKED = (Message("user", "Where is it?"),)


def thumbs(texts: str) -> list[Thumb]:
    return [Thumb(ASKED, text, True) for text in texts]


@pytest.mark.parametrize(
    ("texts", "batch", "others"),
    [
        ("abcd", 4, "dabc"),
        ("abcde", 3, "cabed"),
        ("abcdefg", 3, "cabfdef"),  # the last batch holds g alone: not with itself, but with f
        ("abc", 2, "bab"),
    ],
)
def test_no_prompt_meets_its_own_reply(texts: str, batch: int, others: str) -> None:
    _, tokenizer, _ = load_base("tiny")
    template = ChatTemplate(tokenizer)
    rows = dataset(thumbs(texts), template, batch)
    assert rows["completion_ids"][:] == [template.reply(text) for text in texts]
    assert rows["KL_completion_ids"][:] == [template.reply(text) for text in others]


def test_too_few_to_pair_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected batch of at least 2"):
        KtoConfig(batch=1)
    with pytest.raises(UserError, match="expected at least 2 thumbs"):
        learn_thumbs(tmp_path, thumbs("a"), KtoConfig(), tmp_path / "new")
