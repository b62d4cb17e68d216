"""Several environments in one run: the seed of an episode alone decides where it is played."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import gymnasium as gym
import pytest

from rlchat.errors import UserError
from rlchat.models.policy import Policy
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.mixture import Mixture
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.rollout.trajectory import Trajectory
from rlchat.training.config import SFTConfig, TrainConfig

KEYS = [(i, (5, i), (6, i)) for i in range(12)]


class Named(gym.Env[str, str]):
    """One or two turns, in which it says its name and its seed."""

    name = "one"
    turns = 1
    open_ones: ClassVar[list[Named]] = []

    def __init__(self) -> None:
        Named.open_ones.append(self)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        self.turn, self.seed = 0, seed
        return f"{self.name} {seed}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.turn += 1
        return f"{self.name} goes on", float(self.turns), self.turn == self.turns, False, {}

    def close(self) -> None:
        Named.open_ones.remove(self)


class Other(Named):
    name = "other"
    turns = 2


class AtHome(Other):
    metadata: ClassVar = {"single_threaded": True}


for kind in (Named, Other, AtHome):
    gym.register(f"tests/Mixed{kind.__name__}-v0", kind)
ONE, OTHER = EnvConfig("tests/MixedNamed-v0"), EnvConfig("tests/MixedOther-v0")
BOTH = Mixture.of([ONE, OTHER], "2, 1")


def played(policy: Policy, pool: EnvPool, rows: int = 3, workers: int = 0) -> list[Trajectory]:
    config = RolloutConfig(rows=rows, max_new_tokens=2, max_tokens=96, workers=workers)
    with pool:
        return collect(policy.generation_model(), policy.template, pool, KEYS, config)


def test_the_seed_alone_decides_and_weights_are_kept() -> None:
    seeds = [episode_seeds(0, Purpose.TRAIN, 0, i)[0] for i in range(3000)]
    chosen = [BOTH.choose(seed) for seed in seeds]
    assert 1900 < chosen.count(0) < 2100
    assert chosen == [BOTH.choose(seed) for seed in seeds]
    assert {Mixture.of([ONE]).choose(seed) for seed in seeds} == {0}


@pytest.mark.parametrize(("rows", "workers"), [(1, 0), (4, 0), (3, 2)])
def test_who_plays_does_not_matter(rows: int, workers: int, policy: Policy) -> None:
    """Each episode is the one that its environment alone would have had."""
    alone = [played(policy, EnvPool(config), 3) for config in (ONE, OTHER)]
    mixed = played(policy, BOTH.pool(), rows, workers)
    assert Named.open_ones == []
    assert set(Counter(t.env for t in mixed)) == set(BOTH.names)
    for trajectory in mixed:
        number = BOTH.choose(trajectory.seed)
        own = alone[number][trajectory.index]
        assert trajectory.env == BOTH.names[number] and own.env == ""
        assert trajectory.conversation == own.conversation
        assert (trajectory.ids, trajectory.parts) == (own.ids, own.parts)


def test_one_that_bears_the_main_thread_keeps_all_there(policy: Policy) -> None:
    mixture = Mixture.of([ONE, EnvConfig("tests/MixedAtHome-v0")])
    pool = mixture.pool()
    assert len(played(policy, pool)) == len(KEYS) and not pool.threads
    with pytest.raises(UserError, match=r"expected --rollout\.workers 0"):
        played(policy, mixture.pool(), workers=2)


def test_ours_and_others_play_in_one_run(policy: Policy) -> None:
    """What one of ours hides is not taken for what another's does."""
    mixture = Mixture.of([EnvConfig("rlchat/GuessNumber-v0"), ONE])
    assert mixture.ours == Mixture.of([EnvConfig("rlchat/GuessNumber-v0")])
    mixed = played(policy, mixture.pool(), rows=1)
    for trajectory in mixed:
        ours = trajectory.env == "rlchat/GuessNumber-v0"
        assert (trajectory.success is not None) == ours
        assert all(bool(facts) == ours for facts in trajectory.privileged)
    assert len({t.env for t in mixed}) == 2
    assert Mixture.of([ONE, OTHER]).ours is None


def test_one_environment_is_played_as_ever(policy: Policy) -> None:
    pool = Mixture.of([ONE], "3").pool("dev")
    assert type(pool) is EnvPool and (pool.config, pool.split) == (ONE, "dev")
    assert TrainConfig().mixture.envs == (TrainConfig().env_config,)


def test_demonstrations_are_drawn_from_each_by_weight() -> None:
    envs = [EnvConfig(f"rlchat/{name}-v0") for name in ("Support", "Tutoring")]
    mixture = Mixture.of(envs, "3,1")
    both = demonstrate(mixture, 40, seed=1)
    alone = [demonstrate(env, 40, seed=1) for env in envs]
    chosen = [mixture.choose(episode_seeds(1, Purpose.DEMONSTRATE, i)[0]) for i in range(40)]
    assert both == [alone[number][i] for i, number in enumerate(chosen)]
    assert 22 <= chosen.count(0) <= 38


@pytest.mark.parametrize(
    ("env", "weights", "said"),
    [
        ("a:A-v0,B-v0", "2,1,1", "a number above 0 for each of 2 environments .* got 2,1,1; leave"),
        ("A-v0,B-v0", "2,0", "got 2,0"),
        ("A-v0,B-v0", "2,nan", "got 2,nan"),
        ("A-v0", "1,2", "for each of 1 environments"),
        ("A-v0,B-v0", "twice,once", "expected numbers in --env-weights, as in 2,1; got 'twice,onc"),
        ("A-v0,B-v0,a:A-v0", "", "expected different environments; got --env A-v0,B-v0,a:A-v0"),
    ],
)
def test_what_is_no_mixture_is_refused(env: str, weights: str, said: str) -> None:
    for options in (TrainConfig, SFTConfig):
        with pytest.raises(UserError, match=said):
            options(env=env, env_weights=weights)


def test_each_has_the_users_and_the_discount_of_the_run() -> None:
    config = TrainConfig(env="rlchat/Support-v0, rlchat/Medical-v0", users="terse")
    assert config.mixture.weights == (1.0, 1.0)
    assert [e.env for e in config.mixture.envs] == ["rlchat/Support-v0", "rlchat/Medical-v0"]
    assert all(e.users == ("terse",) for e in config.mixture.envs)
