"""What KTO pairs, and that adapters of virtual tokens learn from thumbs as well.

That a LoRA adapter learns is tested with `rlchat feedback learn`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlchat.errors import UserError
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.config import METHODS, PROMPTED, AdapterConfig
from rlchat.models.loading import load_base
from rlchat.models.logits import token_logprobs
from rlchat.models.policy import Policy
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


def logprob(adapter: Path, text: str) -> float:
    """Of a reply, in nats."""
    policy = Policy.create("tiny", AdapterConfig(dtype="float32", device="cpu"), adapter)
    prompt, reply = policy.template.opening(ASKED), policy.template.reply(text)
    packing = policy.packing([torch.tensor(prompt + reply)])
    at = torch.arange(len(prompt) - 1, len(prompt) + len(reply) - 1)
    with torch.no_grad():
        places = packing.at(torch.zeros_like(at), at)
        states, _ = policy.trunk_states(policy.frozen_prefix(packing), packing, places)
        return float(token_logprobs(policy.head, states, torch.tensor(reply)).sum())


@pytest.mark.parametrize("method", PROMPTED)
def test_virtual_tokens_learn(method: str, tmp_path: Path) -> None:
    config = AdapterConfig(method, tokens=4, dtype="float32", device="cpu")
    Policy.create("tiny", config).save(tmp_path / "old")
    rated = [Thumb(ASKED, "bbb", True), Thumb(ASKED, "zzz", False)] * 4
    learning = KtoConfig(learning_rate=3e-2, epochs=8, batch=4)
    learn_thumbs(tmp_path / "old", rated, learning, tmp_path / "new")
    good, bad = (
        logprob(tmp_path / "new", text) - logprob(tmp_path / "old", text) for text in ("bbb", "zzz")
    )
    assert good > bad + 0.5


@pytest.mark.parametrize("method", METHODS)
def test_the_first_loss_is_that_of_no_change(
    make_policy: Callable[..., Policy], method: str, tmp_path: Path
) -> None:
    """The adapter is its own reference: all logratios are 0, and each loss is 1 - sigmoid(0)."""
    make_policy(method, noise=0.5).save(tmp_path / "old")
    rated = [Thumb(ASKED, "bbb", True), Thumb(ASKED, "zzz", False)]
    losses: list[float] = []
    learning = KtoConfig(epochs=1, batch=2)
    learn_thumbs(
        tmp_path / "old", rated, learning, tmp_path / "new", report=lambda _, x: losses.append(x)
    )
    assert losses == [pytest.approx(0.5, abs=1e-4)]


def test_good_and_bad_weigh_the_same_altogether(
    make_policy: Callable[..., Policy], tmp_path: Path
) -> None:
    """One good and three bad: (2 + 3 * 2 / 3) / 4 halves, as if there were as many of each."""
    make_policy().save(tmp_path / "old")
    rated = [Thumb(ASKED, "bbb", True), *(Thumb(ASKED, text, False) for text in ("x", "y", "z"))]
    losses: list[float] = []
    learning = KtoConfig(epochs=1, batch=4)
    learn_thumbs(
        tmp_path / "old", rated, learning, tmp_path / "new", report=lambda _, x: losses.append(x)
    )
    assert losses == [pytest.approx(0.5, abs=1e-4)]
