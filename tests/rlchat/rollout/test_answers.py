"""What environments of others answer: taken where it is clear, refused in a sentence where not."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlchat.errors import RunError, UserError
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.hosting.answers import EnvError
from rlchat_envs import Message

USER, AGENT = Message("user", "hi"), Message("assistant", "yes")


def chat(*messages: Message) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]


class Answers(gym.Env[Any, str]):
    """Answers what it is told to; an exception is raised."""

    opening: Any = ("hi", {})
    answer: Any = ("well", 1.0, False, False, {})
    spaces: Any = None

    def __init__(self) -> None:
        if self.spaces is not None:
            self.action_space = self.spaces

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.give(self.opening)

    def step(self, action: str) -> Any:
        return self.give(self.answer)

    def give(self, answer: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Unseeded(Answers):
    """Of before Gymnasium."""

    def reset(self) -> Any:  # type: ignore[override]
        return self.opening


gym.register("tests/Answers-v0", Answers)
gym.register("tests/Unseeded-v0", Unseeded)


def made(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> TextEnv:
    for name, answer in answers.items():
        monkeypatch.setattr(Answers, name, answer)
    return TextEnv(EnvConfig("tests/Answers-v0"))


@pytest.mark.parametrize(
    "observation",
    [
        np.str_("hi"),
        np.array("hi"),
        np.array(["hi"]),
        {"text": "hi"},
        {"text": np.str_("hi"), "turn": 3, "state": np.zeros(4)},
        chat(USER),
        chat(USER)[0],
        {"messages": chat(USER)},
    ],
)
def test_what_has_one_meaning_is_taken(observation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    env = made(monkeypatch, opening=(observation, {}), answer=(observation, 1, False, False, {}))
    assert env.reset(0) == (USER,)
    assert type(env.conversation[0].content) is str
    assert env.step("yes").messages == (USER,)
    assert env.conversation == (USER, AGENT, USER)


def test_a_list_that_repeats_the_conversation_gives_what_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the environment knows it: it may have been given fewer characters than were said."""
    letters = gym.spaces.Text(9, charset="yesno")
    record = Message("tool", "paid")
    env = made(monkeypatch, spaces=letters, opening=(chat(USER), {}))
    env.reset(0)
    whole = chat(USER, AGENT, record, USER)
    monkeypatch.setattr(Answers, "answer", (whole, 0.0, False, False, {}))
    assert env.step("yes!").messages == (record, USER)
    assert env.conversation[1] == Message("assistant", "yes!")
    for doubtful in ([AGENT, USER], [USER, record, USER]):
        monkeypatch.setattr(Answers, "answer", (chat(*doubtful), 0.0, False, False, {}))
        env.reset(0)
        with pytest.raises(EnvError, match="messages that are neither; return the new ones alone"):
            env.step("yes")


@pytest.mark.parametrize(
    "observation",
    [
        *(None, 3, b"hi", ["hi"], {}, {"a": "hi", "b": "ho"}),
        {"text": "hi", "choices": ["a", "b"]},
        [{"role": "human", "content": "hi"}],
        {"role": "user", "content": None},
        chat(USER, AGENT),
    ],
)
def test_what_may_mean_something_else_is_refused(
    observation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EnvError, match=r"expected a string, .* as the observation of reset\(\) of"):
        made(monkeypatch, opening=(observation, {})).reset(0)


@pytest.mark.parametrize("reward", [1, 1.0, True, np.float32(1), np.array([1.0]), np.int64(1)])
def test_a_reward_is_a_number(reward: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    env = made(monkeypatch, answer=("well", reward, False, False, {}))
    env.reset(0)
    (value,) = env.step("yes").parts.values()
    assert (value, type(value)) == (1.0, float)


@pytest.mark.parametrize("reward", [None, math.nan, -math.inf, np.inf, "1.0", np.ones(2), [1.0]])
def test_anything_else_is_no_reward(reward: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    env = made(monkeypatch, answer=("well", reward, False, False, {}))
    env.reset(0)
    with pytest.raises(EnvError, match=r"a finite number as reward of step\(\) of tests/Ans"):
        env.step("yes")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (("well", 1.0, True, {}), r"got 4 values; .* split in two: terminated, truncated"),
        (("well", 1.0, True, {}, {}), r"expected True or False as truncated .* got dict"),
        ("well!", r"to return \(observation, reward, .*; got str"),
        (None, r"got None"),
        (KeyError("parcel"), r"it raised KeyError: 'parcel' \(test_answers\.py, line \d+\); mend"),
        (SystemExit(3), r"it raised SystemExit: 3"),
        (
            ValueError("signal only works in main thread"),
            r'set metadata = {"single_threaded": True',
        ),
    ],
)
def test_a_step_that_is_none_is_told(
    answer: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = made(monkeypatch, answer=answer)
    env.reset(0)
    with pytest.raises(EnvError, match=said) as caught:
        env.step("yes")
    assert isinstance(caught.value, UserError) and "\n" not in str(caught.value)


def test_a_reset_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvError, match=r"return \(observation, info\); got str 'hi'; return an em"):
        made(monkeypatch, opening="hi").reset(0)
    with pytest.raises(EnvError, match=r"reset\(\) of tests/Unseeded-v0 .* keywords seed and opti"):
        TextEnv(EnvConfig("tests/Unseeded-v0")).reset(0)


@pytest.mark.parametrize("error", [UserError("no such model"), RunError("the server is gone")])
def test_what_is_a_sentence_already_stays_one(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = made(monkeypatch, answer=error)
    env.reset(0)
    with pytest.raises(type(error), match=f"^{error}$"):
        env.step("yes")
