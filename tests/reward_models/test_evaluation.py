"""How well a model agrees with preferences, by hand, for one that scores letters."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlchat_envs import Conversation, Message
from rlchat_reward_models.evaluation import PreferenceEvaluation, evaluate_preferences
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.reward_model import EnsembleScores
from rlchat_reward_models.scorer import Scale


class Letters:
    """Scores a reply by its number of letters; its heads disagree, which must not count."""

    scale = Scale(temperature=2.0, uncertainty_penalty=9.0)

    def ensemble_scores(self, turns: list[tuple[Conversation, Conversation]]) -> EnsembleScores:
        letters = torch.tensor([float(len(reply[0].content)) for _, reply in turns])
        return EnsembleScores(letters, letters)


def pair(chosen: str, rejected: str, **more: Any) -> Preference:
    return Preference(
        (), (Message("assistant", chosen),), (Message("assistant", rejected),), **more
    )


def evaluated(*preferences: Preference) -> PreferenceEvaluation:
    return evaluate_preferences(Letters(), preferences)  # type: ignore[arg-type]


def test_margins_are_differences_over_the_temperature() -> None:
    found = evaluated(pair("four", "two"), pair("a", "seven"), pair("a", "b"))
    assert found.margins.tolist() == [0.5, -2.0, 0.0]
    assert found.correct == [True, False, False]


def test_the_largest_errors_are_clear_preferences() -> None:
    unclear = pair("a", "very long", difference=0.1, error=0.1)
    wrong, worse = pair("a", "two"), pair("a", "seven", difference=1.0, error=0.1)
    found = evaluated(unclear, wrong, pair("seven", "a"), worse)
    assert found.worst(5) == [(worse, -2.0), (wrong, -1.0)]
    assert found.worst(1) == [(worse, -2.0)]
    assert found.clear.margins.tolist() == [-1.0, 2.0, -2.0]


def test_sources_are_evaluated_apart() -> None:
    found = evaluated(
        pair("four", "two", source="person:ada"),
        pair("a", "seven", source="simulator"),
        pair("two", "a", source="person:ben"),
    )
    assert [(name, own.margins.tolist()) for name, own in found.sources()] == [
        ("person", [0.5, 1.0]),
        ("simulator", [-2.0]),
    ]


def test_correlations_with_length_and_outcome() -> None:
    found = evaluated(
        pair("four", "two", difference=1.0, error=0.1),
        pair("seven", "a", difference=4.0, error=0.1),
    )
    assert found.length_correlation == pytest.approx(1.0)
    assert found.outcome_correlation == pytest.approx(1.0)  # margins 0.5 and 2, outcomes 1 and 4
    assert evaluated(pair("four", "two")).outcome_correlation is None
    assert evaluated(pair("four", "two")).length_correlation == 0.0
