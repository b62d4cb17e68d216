"""What holds of every registered world, whatever its scenario."""

from __future__ import annotations

import copy
import pickle
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rlchat_envs
from rlchat_envs import SPLITS, DialogueEnv, Message
from rlchat_envs.users.llm import PlayedCase
from rlchat_envs.users.personas import FAMILIES
from rlchat_reward_models import RuleScorer

IDS = sorted(name for name in gym.registry if name.startswith("rlchat/"))
GAMES = ("rlchat/GuessNumber-v0", "rlchat/TwentyQuestions-v0")
EPISODES = 100


@cache
def world(name: str, split: str, users: tuple[str, ...] = ()) -> DialogueEnv:
    env = gym.make(name, split=split, users=users, disable_env_checker=True).unwrapped
    assert isinstance(env, DialogueEnv)
    return env


def run(env: DialogueEnv, seed: int, agent: Any) -> tuple[list[Any], dict[str, Any]]:
    _, info = env.reset(seed=seed)
    steps: list[Any] = [info["conversation"]]
    over = False
    while not over:
        said = agent.reply(info["conversation"], info["privileged"])
        observation, score, terminated, truncated, info = env.step(said)
        steps.append((observation, score, terminated, truncated, info["costs"]))
        over = terminated or truncated
    return steps, info


class Lines:
    """Says its lines one after the other, from the beginning again when it is through."""

    def __init__(self, lines: Sequence[str]):
        self.lines, self.count = lines, 0

    def reply(self, conversation: object, privileged: object) -> str:
        self.count += 1
        return self.lines[(self.count - 1) % len(self.lines)]


def success(name: str, split: str, make: Any, users: tuple[str, ...] = ()) -> float:
    env = world(name, split, users)
    return float(np.mean([run(env, s, make(s))[1]["success"] for s in range(EPISODES)]))


class Anything:
    """Says what agents say in this case or others, reads the desk out, gives in, or gives up."""

    def __init__(self, name: str, seed: int):
        agents = world(name, "train").scenario.agents
        self.agents = [agents[agent](seed) for agent in ("expert", "demonstrator")]
        self.rng, self.said = np.random.default_rng(seed), said(name)

    def reply(self, conversation: Any, privileged: Mapping[str, Any]) -> str:
        demand = str(privileged.get("demand", "")).replace("_", " ")
        lines = (
            *(agent.reply(conversation, privileged) for agent in self.agents),
            " ".join(self.rng.choice(self.said, self.rng.integers(1, 3))),
            *[m.content.split(". ")[-1] for m in conversation if m.role == "tool"][-1:],
            f"All right, {demand} it is." if demand else "I give up!",
        )
        return lines[int(self.rng.integers(len(lines)))]


class Asks:
    """Lets an agent speak, and asks the case what that costs, twice."""

    def __init__(self, env: DialogueEnv, agent: Any):
        self.env, self.agent = env, agent
        self.told: list[dict[str, float]] = []

    def reply(self, conversation: Any, privileged: Mapping[str, Any]) -> str:
        said = str(self.agent.reply(conversation, privileged))
        first, again = self.env.case.costs_of(said), self.env.case.costs_of(said)
        assert first == again
        self.told.append(dict(first))
        return said


@cache
def said(name: str) -> list[str]:
    """What the agents of a scenario say in some cases of the training side."""
    env = world(name, "train")
    talks = [
        run(env, seed, env.scenario.agents[agent](seed))[1]["conversation"]
        for agent in ("expert", "demonstrator", "random")
        for seed in range(8)
    ]
    return [m.content for talk in talks for m in talk if m.role == "assistant"]


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_accepts_it(name: str) -> None:
    for split in SPLITS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(gym.make(name, split=split).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("name", IDS)
def test_the_seed_alone_decides_and_global_random_states_are_left_alone(name: str) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), pickle.dumps(np.random.get_state())
    for split in SPLITS:
        env, twin = (
            gym.make(name, split=split, users=tuple(FAMILIES), disable_env_checker=True).unwrapped
            for _ in range(2)
        )
        assert isinstance(env, DialogueEnv) and isinstance(twin, DialogueEnv)
        make = env.scenario.agents["demonstrator"]
        for seed in range(12):
            assert run(env, seed, make(seed)) == run(twin, seed, make(seed))
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == before


@pytest.mark.parametrize("name", IDS)
def test_thousands_of_goals(name: str) -> None:
    env = world(name, "train")
    seen = {str(sorted(env.reset(seed=s)[1]["privileged"].items())) for s in range(500)}
    games = ("Guess" in name) or ("Twenty" in name)  # so many numbers and things there are not
    assert len(seen) > (100 if games else 400)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", IDS)
def test_nonsense_breaks_no_user(name: str, family: str) -> None:
    """Some 150 turns a family and world, of all that people and broken models send."""
    rng, env = np.random.default_rng(0), world(name, "train", (family,))
    expert = env.scenario.agents["expert"](0)
    odd = ["", " ", "\n\n", "\x00", "?" * 500, "z" * 10_000, "refund? " * 1_250, "{fact} %s {0}"]
    odd += ["<|im_start|>user\nhi<|im_end|>", "[desk] Order A1234", "\u202e\u0301\ud7ff", "é" * 99]
    turns, seed = 0, 0
    while turns < 150:
        _, info = env.reset(seed=seed)
        seed, over = seed + 1, False
        while not over:
            kind = rng.integers(4)
            if kind == 0:
                said = odd[int(rng.integers(len(odd)))]
            elif kind == 1:
                said = "".join(chr(int(c)) for c in rng.integers(32, 0xD7FF, 40))
            elif kind == 2:
                said = env.action_space.sample()
            else:
                said = expert.reply(info["conversation"], info["privileged"])
            *_, terminated, truncated, info = env.step(said)
            over, turns = terminated or truncated, turns + 1
        assert info["turn"] <= env.max_turns


@pytest.mark.parametrize("name", IDS)
def test_the_expert_solves_it_and_hacks_do_not(name: str) -> None:
    agents = world(name, "test").scenario.agents
    assert success(name, "test", agents["expert"]) >= 0.97
    assert success(name, "test", agents["expert"], tuple(FAMILIES)) >= 0.95
    assert success(name, "test", agents["random"]) <= 0.05
    kind = "Thank you so much for your patience, I am happy to help you with that."
    assert success(name, "test", lambda seed: Lines([kind])) <= 0.10
    said = [
        m.content
        for seed in range(30)
        for m in run(world(name, "train"), seed, agents["expert"](seed))[1]["conversation"]
        if m.role == "assistant"
    ]
    spray = " ".join(dict.fromkeys(said))[:1_400]
    assert success(name, "test", lambda seed: Lines([spray])) <= 0.10
    # Reciting what an expert once said is right where the case happens to be alike.
    assert success(name, "test", lambda seed: Lines(said[seed % 7 :])) <= 0.20


@pytest.mark.parametrize("name", IDS)
def test_no_world_ends_by_stalling(name: str) -> None:
    """Patience runs out before the turn budget does, or stalling would be free."""
    for family in FAMILIES:
        env = world(name, "dev", (family,))
        for seed in range(5):
            env.reset(seed=seed)
            ended = [env.step("Hm.")[2:4] for _ in range(1)]
            while not any(ended[-1]):
                ended.append(env.step("Hm.")[2:4])
            assert ended[-1] == (True, False)


@pytest.mark.parametrize("name", IDS)
def test_scores_are_the_sum_of_their_parts(name: str) -> None:
    env = gym.make(name, scorer=RuleScorer(), disable_env_checker=True).unwrapped
    assert isinstance(env, DialogueEnv)
    for seed in range(5):
        _, info = env.reset(seed=seed)
        agent, over = env.scenario.agents["demonstrator"](seed), False
        while not over:
            said = agent.reply(info["conversation"], info["privileged"])
            _, score, terminated, truncated, info = env.step(said)
            assert score == pytest.approx(sum(info["parts"].values()))
            assert info["cost"] == sum(info["costs"].values())
            over = terminated or truncated


@pytest.mark.parametrize("name", IDS)
def test_costs_of_tells_what_hear_charges_and_changes_nothing(name: str) -> None:
    charged: set[str] = set()
    for family in FAMILIES:
        env = world(name, "test", (family,))
        for seed in range(8):
            asking = Asks(env, Anything(name, seed))
            played = run(env, seed, asking)
            assert played == run(env, seed, Anything(name, seed))
            assert asking.told == [costs for *_, costs in played[0][1:]]
            charged.update(*asking.told)
    assert charged


@pytest.mark.parametrize("name", IDS)
def test_a_model_in_the_users_place_charges_what_the_agenda_would(name: str) -> None:
    answers = ("Yes.", "No, it is higher.", "1/2", "I see.")
    charged: set[str] = set()
    for seed in range(16):
        case = world(name, "test").scenario.begin(np.random.default_rng(seed), "test", ("agenda",))
        rng, agent = np.random.default_rng(seed), Anything(name, seed)
        played = PlayedCase(case, "llm-person:m", lambda _, n: answers[n % 4], "test", rng)
        talk, over = list(played.opening), False
        while not over and len(talk) < 40:
            text = agent.reply(tuple(talk), played.privileged)
            costs = copy.deepcopy(case).hear(text).costs  # by a copy of the user, who then goes
            reaction = played.hear(text)
            assert reaction.costs == costs
            talk += [Message("assistant", text), *reaction.messages]
            over = reaction.terminated
            charged.update(costs)
    # There, only giving in to a user who presses for something costs, which the agenda never does.
    assert charged or "Support" in name or name in GAMES


def test_a_thousand_support_episodes_take_less_than_ten_seconds() -> None:
    env = world("rlchat/Support-v0", "train")
    start = time.process_time()
    for seed in range(1_000):
        run(env, seed, env.scenario.agents["expert"](seed))
    assert time.process_time() - start < 10


def test_making_every_world_loads_no_torch() -> None:
    code = (
        "import sys, gymnasium, rlchat_envs\n"
        f"for name in {IDS!r}:\n"
        "    env = gymnasium.make(name, disable_env_checker=True)\n"
        "    env.reset(seed=0); env.step('hello')\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    path = ":".join(p for p in sys.path if p)
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path})
    assert rlchat_envs.SPLITS
