"""Whatever an environment of somebody else's does: a sentence or a result, nothing else."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlchat.models.policy import Policy
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.hosting.answers import LARGEST, EnvError
from rlchat_envs import Conversation


class Broken(Mapping[str, Any], Sequence[Any]):  # type: ignore[misc]
    """Whatever it is asked, it raises."""

    size = 1
    dtype = None

    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError("a\nb")

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError

    def __len__(self) -> int:
        raise OSError

    def __repr__(self) -> str:
        raise KeyError

    def __float__(self) -> float:
        raise MemoryError

    def item(self) -> Any:
        raise TypeError

    @property
    def shape(self) -> Any:
        raise ZeroDivisionError


class Unsaid(Exception):
    def __str__(self) -> str:
        raise ValueError


class Raises:
    """An answer that is none: an error is raised in its place."""

    def __init__(self, kind: Callable[..., BaseException], *words: Any):
        self.kind, self.words = kind, words

    def __repr__(self) -> str:
        return f"Raises({self.kind}, {self.words})"


def endless() -> dict[str, Any]:
    own: dict[str, Any] = {}
    own["again"] = own
    return own


words = st.text() | st.text(st.characters(codec=None))  # half surrogates too
numbers = (
    st.integers()
    | st.floats()
    | st.integers(4400, 5000).map(lambda digits: 10**digits)  # more than Python would print
    | st.sampled_from(
        [
            *(10**400, 1e300, LARGEST, 2 * LARGEST, math.nan, -math.inf),
            *(np.float32(1), np.int64(0), np.bool_(True), np.float16(np.nan), np.datetime64("nat")),
            *(Decimal("nan"), Decimal(1), Fraction(1, 3), 1j, torch.tensor(1.0), torch.ones(2)),
            *(torch.tensor(True), np.array([1.0]), np.array(1), np.array([]), np.ones((1, 1))),
            np.ma.masked,
        ]
    )
)
odd = st.builds(Broken) | st.builds(endless) | st.just(object) | st.binary() | st.just(Ellipsis)
plain = st.none() | st.booleans() | numbers | words | odd | words.map(np.str_) | words.map(np.array)
messages = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["system", "user", "assistant", "tool", "human", np.str_("user")])
        | plain,
        "content": words | plain,
        "name": plain,
    },
)
values = st.recursive(
    plain | messages | st.lists(messages),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
errors = st.sampled_from(
    [
        *(Raises(ValueError, "one\ntwo"), Raises(KeyError, 3), Raises(SystemExit, 2)),
        *(Raises(kind) for kind in (SystemExit, RecursionError, GeneratorExit, StopIteration)),
        *(Raises(kind) for kind in (asyncio.CancelledError, Unsaid, MemoryError, gym.error.Error)),
        *(Raises(OSError, 5, "gone"), Raises(AssertionError, "x" * 10_000)),
        Raises(ExceptionGroup, "many", [ValueError("a"), OSError("b")]),
    ]
)
observations = words | messages | st.lists(messages, max_size=3) | values
ends = st.booleans() | st.sampled_from([np.bool_(False), np.array(False)]) | plain
openings = st.tuples(observations, values) | values | errors
answers = (
    st.tuples(observations, numbers, ends, ends, values)
    | st.tuples(words, st.floats(-10, 10), st.booleans(), st.booleans(), st.just({}))
    | values
    | errors
)
spaces = st.sampled_from(
    [
        *(None, 3, "Text", gym.spaces.Text(5), gym.spaces.Text(4, min_length=2, charset="xy")),
        gym.spaces.Text(9, charset="abc "),
    ]
)
episodes = {
    "opening": openings,
    "following": st.lists(answers, min_size=1, max_size=3),
    "said": words,
    "space": spaces,
}


class Fuzzed(gym.Env[Any, str]):
    """Answers what it is told to, one answer after the other; an error is raised."""

    opening: Any = ("hi", {})
    following: Sequence[Any] = ()
    space: Any = None

    def __init__(self) -> None:
        if self.space is not None:
            self.action_space = self.space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.turn = 0
        return self.give(self.opening)

    def step(self, action: str) -> Any:
        self.turn += 1
        return self.give(self.following[(self.turn - 1) % len(self.following)])

    def give(self, answer: Any) -> Any:
        if isinstance(answer, Raises):
            raise answer.kind(*answer.words)
        return answer


gym.register("tests/Fuzzed-v0", Fuzzed)


def tell(opening: Any, following: Sequence[Any], space: Any) -> EnvConfig:
    Fuzzed.opening, Fuzzed.following, Fuzzed.space = opening, following, space
    return EnvConfig("tests/Fuzzed-v0")


def a_sentence(error: EnvError) -> None:
    assert str(error).startswith("expected ") and len(str(error)) < 1000
    assert "\n" not in str(error)


def a_conversation(said: Conversation) -> None:
    for message in said:
        assert type(message.content) is str
        message.content.encode()


def check(opening: Any, following: Sequence[Any], said: str, space: Any) -> None:
    env = TextEnv(tell(opening, following, space))
    try:
        begun = env.reset(0)
        assert begun[-1].role != "assistant"
        for _ in following:
            result = env.step(said)
            a_conversation(env.conversation[len(begun) + 1 :])
            assert abs(result.parts["reward"]) <= LARGEST
            assert {type(result.terminated), type(result.truncated)} == {bool}
            if result.terminated or result.truncated:
                break
            assert result.messages and result.messages[-1].role != "assistant"
    except EnvError as error:
        a_sentence(error)
    else:
        a_conversation(begun)


@settings(deadline=None, max_examples=400)
@given(**episodes)
def test_a_sentence_or_a_result(
    opening: Any, following: Sequence[Any], said: str, space: Any
) -> None:
    check(opening, following, said, space)


@pytest.mark.long
@settings(deadline=None, max_examples=10_000)
@given(**episodes)
def test_a_sentence_or_a_result_ten_thousand_times(
    opening: Any, following: Sequence[Any], said: str, space: Any
) -> None:
    check(opening, following, said, space)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(**(episodes | {"said": st.just("")}))
def test_a_rollout_is_told_or_played(
    policy: Policy, opening: Any, following: Sequence[Any], said: str, space: Any
) -> None:
    """With the tokens of what was said, in threads, and with a second try."""
    config = RolloutConfig(rows=2, max_new_tokens=2, max_tokens=96)
    keys = [(i, (i,), (i,)) for i in range(2)]
    with EnvPool(tell(opening, following, space)) as pool:
        try:
            played = collect(policy.generation_model(), policy.template, pool, keys, config)
        except EnvError as error:
            a_sentence(error)
        else:
            assert all(math.isfinite(t.score) and t.ids for t in played)
