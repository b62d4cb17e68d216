"""Rules about how something is said, against numbers worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlchat_envs import Conversation, Message
from rlchat_reward_models import RuleScorer, RuleWeights
from rlchat_reward_models.rules import sentences

BEFORE: Conversation = (
    Message("system", "Be kind and brief."),
    Message("user", "Where is my lamp?"),
    Message("assistant", "Sorry about that! May I have your order number, please?"),
    Message("user", "I have no idea at all."),
)


def words(count: int) -> str:
    return "please " + "word " * (count - 2) + "end."


@pytest.mark.parametrize(
    ("reply", "courtesy", "brevity", "repetition", "cut_off"),
    [
        ("Could you tell me the postcode, please?", 0, 0, 0, 0),
        ("Postcode?", -0.1, 0, 0, 0),
        ("", -0.1, 0, 0, -0.2),
        ("Thank you, I will now", 0, 0, 0, -0.2),
        ("The money is", -0.1, 0, 0, -0.2),
        ("May I have your ORDER number, please?", 0, 0, -0.1, 0),
        ("Well. May I have your order number please! Now.", 0, 0, -0.1, 0),
        ("Sorry about.", 0, 0, 0, 0),  # two words repeat nothing
        ("I have no idea at all.", -0.1, 0, 0, 0),  # the user's sentence, not the agent's
        ("I am sorry (truly sorry)", 0, 0, 0, 0),
        ("抱歉。", -0.1, 0, 0, 0),
        (words(40), 0, 0, 0, 0),
        (words(41), 0, -0.1 / 40, 0, 0),
        (words(60), 0, -0.05, 0, 0),
        (words(80), 0, -0.1, 0, 0),
        (words(240), 0, -0.5, 0, 0),
        (words(1000), 0, -0.5, 0, 0),  # no more than five times
    ],
)
def test_parts_by_hand(
    reply: str, courtesy: float, brevity: float, repetition: float, cut_off: float
) -> None:
    assert RuleScorer().score(BEFORE, reply) == pytest.approx(
        {"courtesy": courtesy, "brevity": brevity, "repetition": repetition, "cut_off": cut_off}
    )


def test_the_weights_are_the_costs() -> None:
    scorer = RuleScorer(RuleWeights(1.0, 2.0, 3.0, 4.0, brevity_words=2))
    reply = "May I have your order number please"
    assert scorer.score(BEFORE, reply) == {
        "courtesy": 0.0,
        "brevity": -5.0,  # 2 * (7 - 2) / 2
        "repetition": -3.0,
        "cut_off": -4.0,
    }
    assert scorer.score((), "no")["courtesy"] == -1.0


def test_sentences_are_words_without_punctuation() -> None:
    assert sentences("Hello there. I'm sorry, Sir!\nGive me the number") == [
        "i m sorry sir",
        "give me the number",
    ]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(max_size=80), max_size=4), st.text(max_size=400))
def test_no_part_is_ever_above_zero(earlier: list[str], reply: str) -> None:
    """Or an agent could collect points by talking on."""
    parts = RuleScorer().score(tuple(Message("assistant", e) for e in earlier), reply)
    assert list(parts) == ["courtesy", "brevity", "repetition", "cut_off"]
    assert all(-0.5 <= part <= 0.0 for part in parts.values())
