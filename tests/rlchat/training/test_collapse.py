"""Collapse is noticed: prompts that teach nothing, and replies that ignore what was heard."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rlchat.cli.live.signs import signs
from rlchat.rollout.trajectory import Episode
from rlchat.statistics.dependence import text_information
from rlchat.training.collapse import collapse, same_reward
from rlchat_envs import Message

TOPICS = ("my parcel is late", "refund the broken lamp", "change delivery address", "cancel order")
ANSWERS = ("when did you order", "send a photo please", "where do you live", "which number is it")


def episode(index: int, score: float, heard: str = "hi", said: str = "hello") -> Episode:
    talk = tuple(Message(r, c) for r, c in (("system", "be kind"), ("user", heard)))
    talk += (Message("assistant", said), Message("user", "thanks"), Message("assistant", "bye"))
    return Episode(index, index, parts=[{"a": score}], conversation=talk)


def test_prompts_whose_episodes_are_all_alike_by_hand() -> None:
    """Three prompts of two: one alike, one not, one alike."""
    scores = [1.0, 1.0, 0.0, 1.0, -0.5, -0.5]
    played = [episode(i, s) for i, s in enumerate(scores)]
    assert same_reward(played, 2) == pytest.approx(2 / 3)
    assert same_reward(played, 3) == 0.0
    assert math.isnan(same_reward(played, 1))
    assert same_reward([played[0], played[1], played[3]], 2) == 1.0  # one alone has none to be like


def drawn(kinds: int, follow: float, count: int = 64, seed: int = 0) -> tuple[list[str], list[str]]:
    """Openings of so many kinds, and replies of which a share follows the kind."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, kinds, count)
    replies = np.where(rng.random(count) < follow, topics, rng.integers(0, kinds, count))
    named = [f"{TOPICS[t]} {rng.integers(10_000)}" for t in topics]
    return named, [ANSWERS[r] for r in replies]


def test_replies_that_follow_the_opening_tell_its_kind() -> None:
    """Four kinds that are equally frequent are log 4 nats, two log 2."""
    assert text_information(*drawn(4, 1.0)) == pytest.approx(math.log(4), abs=0.15)
    assert text_information(*drawn(2, 1.0)) == pytest.approx(math.log(2), abs=0.1)
    some = text_information(*drawn(4, 0.6))
    assert 0.1 < some < 1.0


def test_replies_that_ignore_it_tell_nothing() -> None:
    found = [text_information(*drawn(4, 0.0, seed=seed)) for seed in range(40)]
    assert abs(np.mean(found)) < 0.02  # unbiased
    assert max(found) < 0.2
    heard, _ = drawn(4, 1.0)
    assert text_information(heard, ["always the same"] * 64) == pytest.approx(0.0, abs=1e-9)
    assert text_information(heard, [""] * 64) == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(text_information(heard[:7], heard[:7]))


def test_of_an_iteration_first_messages_count() -> None:
    heard, said = drawn(4, 1.0)
    played = [episode(i, 0.0, h, s) for i, (h, s) in enumerate(zip(heard, said, strict=True))]
    found = collapse(played, 2)
    assert found["same_reward"] == 1.0
    assert found["reply_information"] == text_information(heard, said)
    silent = Episode(0, 0, parts=[{"a": 0.0}])
    assert math.isnan(collapse([silent] * 9, 1)["reply_information"])


def rows(*values: float | None) -> list[dict[str, Any]]:
    return [{"reply_information": value} for value in values]


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ((0.8,) * 4 + (0.1,) * 4, True),
        ((0.8,) * 4 + (0.3,) * 4, False),
        ((0.1,) * 4 + (0.0,) * 4, False),  # it never told much
        ((0.8,) * 4 + (0.1,) * 3, False),
        ((None,) * 4 + (0.1,) * 4, False),
    ],
)
def test_a_fall_of_it_is_warned_of(values: tuple[float | None, ...], warned: bool) -> None:
    assert ("reply_information" in signs(rows(*values))) == warned


def test_prompts_that_teach_nothing_are_warned_of() -> None:
    assert "same_reward" in signs([{"same_reward": 0.95}])
    assert "same_reward" not in signs([{"same_reward": 0.5}])
    assert "same_reward" not in signs([{"same_reward": math.nan}])
