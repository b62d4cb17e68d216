"""Shaping in the text world (ppo.md, test 13), and the agent's side of any environment."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlchat.errors import UserError
from rlchat.models.policy import Policy
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.seeding import episode_seeds
from rlchat_envs import Conversation, DialogueEnv, Message, Reaction
from rlchat_envs.integrations.game_env import Answer, GameEnv

POTENTIALS = [0.7, 0.1, 0.9, -0.4, 0.3]  # before each turn and after the last


@dataclass
class Staged:
    """A case whose potentials are written down; it terminates after ``turns``, if ever."""

    turns: int
    turn: int = 0
    opening: Conversation = (Message("user", "hello"),)
    success: bool = False
    privileged: Mapping[str, Any] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.privileged = {}

    @property
    def potential(self) -> float:
        return POTENTIALS[self.turn]

    def hear(self, text: str) -> Reaction:
        self.turn += 1
        return Reaction((Message("user", "go on"),), terminated=self.turn == self.turns)


@dataclass
class Stage:
    turns: int
    agents: Mapping[str, Any] = None  # type: ignore[assignment]

    def begin(self, rng: np.random.Generator, split: str, users: tuple[str, ...]) -> Staged:
        return Staged(self.turns)


def shaped_return(env: DialogueEnv, gamma: float) -> float:
    """The discounted sum of progress over an episode."""
    env.reset(seed=0)
    total, weight, over = 0.0, 1.0, False
    while not over:
        _, _, terminated, truncated, info = env.step("ok")
        total += weight * info["parts"]["progress"]
        weight *= gamma
        over = terminated or truncated
    return total


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("turns", [1, 2, 4])
def test_progress_telescopes_to_minus_the_first_potential(turns: int, gamma: float) -> None:
    """Whatever lies between: no policy is paid for how it got to the end."""
    total = shaped_return(DialogueEnv(Stage(turns), gamma=gamma), gamma)
    assert total == pytest.approx(-POTENTIALS[0])


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_progress_of_a_truncated_episode_keeps_the_last_potential(gamma: float) -> None:
    """The bootstrap follows there, of a value that is Phi lower."""
    total = shaped_return(DialogueEnv(Stage(99), max_turns=4, gamma=gamma), gamma)
    assert total == pytest.approx(gamma**4 * POTENTIALS[4] - POTENTIALS[0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["demonstrator", "random"])
def test_progress_at_the_support_desk_telescopes_to_nothing(name: str, seed: int) -> None:
    """Its potential is 0 at the start, so a whole episode earns no progress."""
    room = TextEnv(EnvConfig())
    room.reset(seed)
    env = room.env.unwrapped
    assert isinstance(env, DialogueEnv)
    agent = env.scenario.agents[name](seed)
    total, over = 0.0, False
    while not over:
        outcome = room.step(agent.reply(room.conversation, room.privileged))
        total += outcome.parts["progress"]
        over = outcome.terminated or outcome.truncated
    assert outcome.terminated
    assert total == pytest.approx(0.0)


def test_an_episodes_seeds_depend_on_its_keys_alone() -> None:
    (world, noise), (again, repeated) = episode_seeds(1, 2, 3), episode_seeds(1, 2, 3)
    assert world == again
    assert noise.random(5).tolist() == repeated.random(5).tolist()
    others = {episode_seeds(*keys)[0] for keys in ((1, 2, 4), (1, 3, 3), (2, 2, 3), (1, 2))}
    assert len(others | {world}) == 5


def test_a_world_shows_what_was_said_and_nothing_twice() -> None:
    room = TextEnv(EnvConfig())
    opening = room.reset(0)
    assert [m.role for m in opening][:2] == ["system", "user"]
    outcome = room.step("What is the order number, please?")
    said = Message("assistant", "What is the order number, please?")
    assert room.conversation == (*opening, said, *outcome.messages)
    assert all(m.role != "assistant" for m in outcome.messages)


class Foreign(gym.Env[str, str]):
    """Somebody else's, which counts how often it is made."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.observation_space = self.action_space = gym.spaces.Text(20)


gym.register("test/Foreign-v0", entry_point=Foreign)
gym.register("test/Wrapped-v0", entry_point=lambda: gym.make("rlchat/Support-v0").unwrapped)


def test_none_is_made_to_learn_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an environment was made")

    monkeypatch.setattr(DialogueEnv, "__init__", refuse)
    assert EnvPool(EnvConfig()).ours
    assert not EnvPool(EnvConfig("test/Foreign-v0")).ours and Foreign.made == 0
    with pytest.raises(UserError, match=r"did you mean rlchat/Support-v0\?"):
        _ = EnvPool(EnvConfig("rlchat/Suport-v0")).ours


def test_what_a_function_makes_has_to_be_made() -> None:
    pool = EnvPool(EnvConfig("test/Wrapped-v0"))
    assert pool.ours and pool[0].ours


class Guess:
    """A game that draws from Python's own random state."""

    failure = Answer("no")

    def begin(self, seed: int) -> str:
        return f"{random.random()}"

    def hear(self, message: str) -> Answer:
        return Answer(f"{random.random()}", 0.0, True)


@pytest.fixture
def game() -> Iterator[str]:
    gym.register("Guess-v0", lambda: GameEnv(Guess))
    yield "Guess-v0"
    del gym.registry["Guess-v0"]


def test_games_that_share_random_states_refuse_threads(policy: Policy, game: str) -> None:
    pool = EnvPool(EnvConfig(game))
    episodes = [(i, (i,), (i,)) for i in range(4)]
    generation, template = policy.generation_model(), policy.template
    config = RolloutConfig(max_new_tokens=4, max_tokens=64)
    collect(generation, template, pool, episodes, config)
    with pytest.raises(UserError, match=r"workers 0 with Guess-v0, .* got 2; leave it out"):
        collect(generation, template, pool, episodes, replace(config, workers=2))
    ours = EnvPool(EnvConfig())
    assert len(collect(generation, template, ours, episodes, replace(config, workers=2))) == 4


def test_the_learners_discount_shapes_progress() -> None:
    env = TextEnv(EnvConfig(gamma=0.5)).env.unwrapped
    assert isinstance(env, DialogueEnv) and env.gamma == 0.5


class Alone(Foreign):
    """One whose episodes share random states."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata = {"single_threaded": True}


gym.register("test/Alone-v0", entry_point=Alone)


def test_threads_are_refused_by_an_environment_that_bears_one() -> None:
    with EnvPool(EnvConfig("test/Alone-v0")) as pool:
        assert not pool.in_threads(0, 0.0)
        with pytest.raises(UserError, match=r"expected --rollout\.workers 0 with test/Alone-v0"):
            pool.in_threads(2, 0.0)
    with EnvPool(EnvConfig("test/Foreign-v0")) as pool:
        assert pool.in_threads(2, 0.0) and pool.in_threads(0, 0.0)
    assert not EnvPool(EnvConfig()).in_threads(0, 0.0)


class HardOfHearing(Foreign):
    """Knows letters only, five at most, and gives back what it has heard."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gym.spaces.Text(5, charset="abc")

    def reset(self, **_: Any) -> tuple[str, dict[str, Any]]:
        return "hi", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return action, 1.0, False, False, {}


gym.register("test/HardOfHearing-v0", entry_point=HardOfHearing)


def test_what_an_environment_cannot_hear_is_dropped_and_counted() -> None:
    room = TextEnv(EnvConfig("test/HardOfHearing-v0"))
    room.reset(0)
    for said, heard, dropped in (("abba", "abba", 0), ("a-b!", "ab", 2), ("abcabc", "abcab", 1)):
        result = room.step(said)
        assert (result.messages, result.dropped) == ((Message("user", heard),), dropped)
