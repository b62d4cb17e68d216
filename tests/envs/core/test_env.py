"""The contract of the environment, whatever the scenario says."""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from rlchat_envs import SPLITS, DialogueEnv, Message, Reaction, Utterance, as_text
from rlchat_envs.scenarios.support import SupportScenario
from rlchat_envs.scenarios.support.agents import Expert, MediocreDesk
from rlchat_envs.users.personas import FAMILIES, PERSONAS
from rlchat_reward_models import RuleScorer

Play = Callable[..., Any]

LINES = (
    "Could you tell me your order number, please?",
    "Postcode?",
    "Could you describe the fault, please?",
    "How did you pay?",
    "Why are you returning it?",
    "Which one do you want instead?",
    "New address?",
    "What did you receive?",
    "I need your full name.",
    "You get a refund.",
    "We send a replacement.",
    "Just wait, it is on its way.",
    "You get a refund and we send a replacement.",
    "Hello.",
    "",
)
SAID = st.sampled_from(LINES) | st.text(max_size=40)


def potential(privileged: dict[str, Any]) -> float:
    return 0.2 * privileged["has_record"] + 0.2 * privileged["has_policy"]


@pytest.mark.parametrize("split", SPLITS)
def test_gymnasium_accepts_the_environment(split: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("rlchat/Support-v0", split=split).unwrapped)


@pytest.mark.parametrize("split", SPLITS)
def test_the_seed_alone_decides_the_transcript(split: str, play: Play) -> None:
    for seed in range(20):
        one, two = (play(MediocreDesk(seed), split, seed) for _ in range(2))
        assert one.infos[-1]["conversation"] == two.infos[-1]["conversation"]
        assert one.scores == two.scores
    first = {play([""], split, seed).seen[0] for seed in range(20)}
    assert len(first) > 15


def test_a_reset_without_a_seed_goes_on_to_other_episodes() -> None:
    env, again = DialogueEnv(SupportScenario()), DialogueEnv(SupportScenario())
    seen = [env.reset(seed=3)[0], env.reset()[0], env.reset()[0]]
    assert seen == [again.reset(seed=3)[0], again.reset()[0], again.reset()[0]]
    assert len(set(seen)) == 3


def test_global_random_states_are_left_alone(play: Play) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), pickle.dumps(np.random.get_state())
    Utterance(seed=0).sample()
    play(MediocreDesk(0))
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == before


def test_step_needs_a_reset() -> None:
    env = DialogueEnv(SupportScenario())
    with pytest.raises(gym.error.ResetNeeded, match="before reset"):
        env.step("hello")
    env.reset(seed=0)
    while not env.step("hello")[2]:
        pass
    with pytest.raises(gym.error.ResetNeeded, match="after the episode's end"):
        env.step("hello")
    env.reset()
    env.step("hello")


def test_a_truncated_episode_is_over_too() -> None:
    env = DialogueEnv(SupportScenario(), max_turns=1)
    env.reset(seed=0)
    _, score, terminated, truncated, info = env.step("hello")
    assert (terminated, truncated, info["turn"]) == (False, True, 1)
    assert score == 0.0
    with pytest.raises(gym.error.ResetNeeded):
        env.step("hello")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"split": "holdout"}, "expected a split out of train, dev, test; got 'holdout'"),
        ({"max_turns": 0}, "expected max_turns of at least 1; got 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        DialogueEnv(SupportScenario(), **arguments)
    assert str(error.value) == sentence


def test_unknown_users_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected users out of agenda, terse, .*; got 'nobody'"):
        DialogueEnv(SupportScenario(), users=("nobody",)).reset(seed=0)


def test_named_users_are_the_ones_who_come(play: Play) -> None:
    came = {
        play([""], seed=i, users=("terse", "impatient")).infos[0]["privileged"]["persona"]
        for i in range(20)
    }
    assert came == {"laconic", "grumpy"}


def test_reset_gives_the_opening_without_the_system_message() -> None:
    observation, info = DialogueEnv(SupportScenario()).reset(seed=0)
    assert [m.role for m in info["conversation"]] == ["system", "user"]
    assert observation == info["conversation"][1].content
    assert (info["parts"], info["success"], info["turn"]) == ({}, False, 0)


def test_a_step_appends_what_was_said_and_what_it_caused(play: Play) -> None:
    episode = play(Expert(0), seed=5)
    for turn, (before, after) in enumerate(
        zip(episode.infos[:-1], episode.infos[1:], strict=True), start=1
    ):
        old, new = before["conversation"], after["conversation"]
        assert new[: len(old)] == old
        assert [m.role for m in new[len(old) : len(old) + 2]] == ["assistant", "user"]
        assert all(m.role == "tool" for m in new[len(old) + 2 :])
        assert episode.seen[turn] == as_text(new[len(old) + 1 :])
        assert after["turn"] == turn


def test_a_reaction_is_calm_by_default() -> None:
    reaction = Reaction((Message("user", "hm"),))
    assert (reaction.terminated, reaction.resolution) == (False, 0.0)


def test_containers_in_info_are_fresh_each_call() -> None:
    env, twin = (DialogueEnv(SupportScenario(), scorer=RuleScorer()) for _ in range(2))
    _, spoilt = env.reset(seed=4)
    twin.reset(seed=4)
    for _ in range(2):
        spoilt["parts"]["mine"] = 1.0
        spoilt["privileged"].clear()
        spoilt.clear()
        *ours, spoilt = env.step("Could you tell me your order number, please?")
        *theirs, clean = twin.step("Could you tell me your order number, please?")
        assert ours == theirs
        assert spoilt == clean


@settings(deadline=None, max_examples=100)
@given(
    lines=st.lists(SAID, max_size=10),
    seed=st.integers(0, 10_000),
    split=st.sampled_from(SPLITS),
    gamma=st.sampled_from([1.0, 0.99, 0.5]),
    max_turns=st.sampled_from([1, 3, 16]),
)
def test_progress_telescopes(
    play: Play, lines: list[str], seed: int, split: str, gamma: float, max_turns: int
) -> None:
    """Sum of gamma^t (gamma Phi(s') - Phi(s)) = gamma^T Phi(s_T) - Phi(s_0); Phi_T = 0 at the end.

    A truncated episode's last state keeps its potential: its value is bootstrapped.
    """
    episode = play(lines, split, seed, gamma=gamma, max_turns=max_turns)
    privileged = [info["privileged"] for info in episode.infos]
    discounted = sum(
        gamma**t * info["parts"]["progress"] for t, info in enumerate(episode.infos[1:])
    )
    last = 0.0 if episode.terminated else gamma**episode.turns * potential(privileged[-1])
    assert discounted == pytest.approx(last - potential(privileged[0]))
    assert potential(privileged[0]) == 0.0


@settings(deadline=None, max_examples=50)
@given(lines=st.lists(SAID, max_size=10), seed=st.integers(0, 10_000))
def test_the_score_is_the_sum_of_its_parts(play: Play, lines: list[str], seed: int) -> None:
    episode = play(lines, seed=seed, scorer=RuleScorer())
    for score, info in zip(episode.scores, episode.infos[1:], strict=True):
        assert isinstance(score, float)
        assert score == pytest.approx(sum(info["parts"].values()))
        assert list(info["parts"]) == [
            "progress",
            "resolution",
            "courtesy",
            "brevity",
            "repetition",
            "cut_off",
        ]


def test_an_experts_score_by_hand(play: Play) -> None:
    """Both facts in one turn: 0.4 of progress, taken back as the right offer brings 1."""
    episode = play(Expert(0), "train", 0, users=("terse",))
    assert episode.scores == pytest.approx([0.4, 0.6])
    assert [i["parts"]["resolution"] for i in episode.infos[1:]] == [0.0, 1.0]
    assert episode.success


@settings(deadline=None, max_examples=100)
@given(
    lines=st.lists(SAID, max_size=16),
    seed=st.integers(0, 10_000),
    user=st.sampled_from(sorted(FAMILIES)),
)
def test_patience_ends_every_episode_before_the_turn_budget(
    play: Play, lines: list[str], seed: int, user: str
) -> None:
    """At most four turns are free: each fact may be told wrongly first."""
    episode = play(lines, seed=seed, users=(user,))
    assert episode.terminated
    assert not episode.truncated
    patience = max(p.patience for p in PERSONAS.values() if p.family == user)
    assert episode.turns <= patience + 4 < 16
