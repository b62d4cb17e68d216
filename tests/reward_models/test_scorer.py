"""Scores of reward models with random weights, and the folders they are saved in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlchat_envs import Message
from rlchat_reward_models.reward_model import EnsembleScores
from rlchat_reward_models.scorer import LearnedScorer, Scale, split_whole, turns_of

MakeScorer = Callable[[str], LearnedScorer]

ASKED = (Message("system", "go away"), Message("user", "where is my parcel"))
KIND, RUDE = (Message("assistant", "sorry . yes please"),), (Message("assistant", "no . go away"),)


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlnet", "llama"])
def test_a_score_does_not_depend_on_who_is_beside_it(make_scorer: MakeScorer, kind: str) -> None:
    model = make_scorer(kind)
    turns = [(ASKED, KIND), (ASKED * 3, RUDE), ((), KIND), (ASKED, RUDE)]
    together = model.score(turns)
    alone = [make_scorer(kind).score([turn])[0] for turn in turns]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == 4


def test_what_was_scored_is_not_computed_again(make_scorer: MakeScorer) -> None:
    model = make_scorer("bert")
    first = model.score([(ASKED, KIND), (ASKED, RUDE)])
    model.model = None  # type: ignore[assignment]
    assert model.score([(ASKED, RUDE), (ASKED, KIND)]) == first[::-1]


def test_the_scale_by_hand() -> None:
    found = EnsembleScores(torch.tensor([3.0]), torch.tensor([2.0]))
    scale = Scale(temperature=2.0, mean=0.5, std=0.25, uncertainty_penalty=0.5)
    assert float(scale.logits(found)) == 1.0  # (3 − 0.5 · 2) / 2
    assert float(scale.scores(found)) == 2.0  # (1 − 0.5) / 0.25


def test_the_reference_policy_s_replies_score_0_with_spread_1(make_scorer: MakeScorer) -> None:
    model = make_scorer("bert")
    turns = [(ASKED[:n], reply) for n in (0, 1, 2) for reply in (KIND, RUDE)]
    model.normalize(turns)
    scores = torch.tensor(model.score(turns))
    assert float(scores.mean()) == pytest.approx(0, abs=1e-5)
    assert float(scores.std()) == pytest.approx(1, abs=1e-4)


def test_it_is_kept_and_opened_again(make_scorer: MakeScorer, tmp_path: Path) -> None:
    model = make_scorer("bert")
    model.rescale(Scale(1.5, 0.1, 2.0, 0.25))
    model.save(tmp_path)

    def nothing(name: str) -> Any:
        raise AssertionError("an encoder's backbone lies in the folder")

    again = LearnedScorer.load(tmp_path, nothing)
    turns = [(ASKED, KIND), (ASKED, RUDE)]
    assert again.settings == model.settings
    assert again.score(turns) == pytest.approx(model.score(turns), abs=1e-6)
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pt"))


def test_folders_of_earlier_versions_open(make_scorer: MakeScorer, tmp_path: Path) -> None:
    """They had other words for some settings, and other names for two files."""
    model = make_scorer("bert")
    model.rescale(Scale(1.5, 0.1, 2.0, 0.25))
    model.settings = replace(model.settings, granularity="conversation")
    model.save(tmp_path)
    (tmp_path / "backbone").rename(tmp_path / "trunk")
    (tmp_path / "reward_model.json").unlink()
    settings: dict[str, Any] = {"trunk": "bert", "adapted": False, "heads": 3, "max_tokens": 48}
    scale = {"temperature": 1.5, "mean": 0.1, "std": 2.0, "caution": 0.25}
    settings |= {"scale": scale, "span": "conversation"}
    (tmp_path / "judge.json").write_text(json.dumps(settings), "utf-8")
    again = LearnedScorer.load(tmp_path, lambda name: pytest.fail("never asked"))
    assert again.settings == model.settings
    turns = [(ASKED, KIND), (ASKED, RUDE)]
    assert again.score(turns) == pytest.approx(model.score(turns), abs=1e-6)


def test_a_folder_that_holds_no_reward_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a reward model .* train one"):
        LearnedScorer.load(tmp_path, lambda name: pytest.fail("never asked"))
    (tmp_path / "reward_model.json").write_text('{"heads": "many"}', "utf-8")
    with pytest.raises(ValueError, match="expected a reward model"):
        LearnedScorer.load(tmp_path, lambda name: pytest.fail("never asked"))


def test_a_whole_conversation_begins_with_the_agent() -> None:
    opening = (Message("system", "be kind"), Message("user", "hi"))
    rest = (Message("assistant", "yes"), Message("user", "bye"))
    assert split_whole(opening + rest) == (opening, rest)
    assert split_whole(opening) == (opening, ())


def test_every_reply_with_what_came_before() -> None:
    conversation = (*ASKED, *KIND, Message("user", "no"), *RUDE)
    assert turns_of(conversation) == [(ASKED, KIND), (conversation[:4], RUDE)]
