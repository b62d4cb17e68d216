import pytest

from rlchat_envs import Message
from rlchat_reward_models.text_scorers import Sentiment, Toxicity, answers

CALM = (
    Message("user", "hi"),
    Message("assistant", "I am sorry, I will refund it."),
    Message("tool", "Order refunded."),
    Message("user", "Great, thank you so much!"),
    Message("assistant", "Go to hell, you idiot."),
)


def test_what_users_answer() -> None:
    assert answers(CALM) == ["Great, thank you so much!", ""]
    two = (*CALM, Message("user", "What?"), Message("user", "Shame."))
    assert answers(two)[1] == "What? Shame."


def test_how_users_feel() -> None:
    pytest.importorskip("vaderSentiment")
    pleased, silent = Sentiment().score([CALM])[0]
    assert pleased > 0.5 and silent == 0.0


def test_offence() -> None:
    pytest.importorskip("profanity_check")
    polite, rude = Toxicity().score([CALM, ()])[0]
    assert polite > -0.1 and rude < -0.9
    assert Toxicity().score([()]) == [[]]
