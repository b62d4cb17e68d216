"""Style features, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlchat_envs import Conversation, Message
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.style_features import STYLE_FEATURES, feature_differences, style_features

BEFORE: Conversation = (
    Message("user", "Where is my lamp?"),
    Message("assistant", "May I have your order number, please?"),
    Message("user", "X5139."),
    Message("tool", "Order X5139: brass lamp. Status: shipped."),
)
HERE = list(STYLE_FEATURES)


def unit(feature: str, size: float = 1.0) -> np.ndarray:
    return size * np.eye(len(STYLE_FEATURES))[HERE.index(feature)]


@pytest.mark.parametrize(
    ("reply", "measured"),
    [
        ("", {}),
        ("Shipped.", {"length": math.log(2), "facts": math.log(2)}),
        ("The lamp?", {"length": math.log(3), "facts": math.log(2), "questions": 1}),
        ("X5139 is it.", {"length": math.log(4), "facts": math.log(2)}),
        ("I'm sorry!", {"length": math.log(3), "sympathy": 1, "warmth": 1, "formality": -1}),
        ("Thank you, please.", {"length": math.log(4), "courtesy": 2}),
        ("Could you wait?", {"length": math.log(4), "questions": 1, "formality": 1}),
        ("It's John's.", {"length": math.log(3), "formality": -1}),  # only one is a contraction
        ("Sorry! Sorry! Sorry!", {"length": math.log(4), "sympathy": 2, "warmth": 2}),
        ("Well done!!", {"length": math.log(3), "warmth": 2}),
    ],
)
def test_features_by_hand(reply: str, measured: dict[str, float]) -> None:
    expected = [measured.get(name, 0.0) / spread for name, spread in STYLE_FEATURES.items()]
    assert style_features(BEFORE, reply) == pytest.approx(expected)


def test_a_repeated_sentence() -> None:
    again = style_features(BEFORE, "Well. May I have your ORDER number, please!")
    assert again[HERE.index("repetition")] == 1 / 0.3
    assert style_features(BEFORE[:1], "May I have your order number, please?")[-1] == 0


def test_differences_are_better_less_worse() -> None:
    better, worse = (Message("assistant", "Sorry."),), (Message("assistant", "Thanks."),)
    found = feature_differences([Preference(BEFORE, better, worse)])
    assert found[0] == pytest.approx(unit("sympathy", 1 / 0.3) - unit("courtesy", 1 / 0.6))
    assert feature_differences([]).shape == (0, len(STYLE_FEATURES))
