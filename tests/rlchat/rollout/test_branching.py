from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Text

from rlchat.errors import UserError
from rlchat.inference.model_agent import ModelAgent
from rlchat.inference.scripted_agent import ObjectAgent, ScenarioAgent
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rewards.comparisons import compare, compare_outcomes
from rlchat.rollout import collect as collect_module
from rlchat.rollout.branching import Branch, BranchingRollouts, Snapshot, replay
from rlchat.rollout.config import BranchConfig
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat_envs import Conversation, Message
from rlchat_reward_models.preferences import tidy, weight

DEMONSTRATOR, EXPERT = ScenarioAgent("demonstrator"), ScenarioAgent("expert")
FEW = BranchConfig(dialogues=12, replies=4, continuations=3)


def test_a_moment_comes_back_as_it_was() -> None:
    world = TextEnv(EnvConfig(), "train")
    said = ("Could you tell me your order number, please?", "And the reason?")
    replay(world, Snapshot(7, said))
    first, state = world.conversation, world.privileged
    replay(world, Snapshot(8, said))
    assert world.conversation != first
    replay(world, Snapshot(7, said))
    assert (world.conversation, world.privileged) == (first, state)


def test_labels_by_hand() -> None:
    moment = Snapshot(0)
    a = Branch(
        moment, (), (Message("assistant", "a"),), [1.0, 0.0, 1.0, 0.0]
    )  # mean .5, squared error (1/3)/4 = 1/12
    b = Branch(moment, (), (Message("assistant", "b"),), [0.2])  # it ended there: no error
    (p,) = compare([b, a], 0.25, "simulator", "d0")
    assert p.chosen == (Message("assistant", "a"),)
    assert p.difference == pytest.approx(0.3)
    assert p.error == pytest.approx((1 / 12) ** 0.5)
    assert p.weight == pytest.approx(weight(0.3, (1 / 12) ** 0.5, 0.25))
    assert not p.clear


def test_the_right_offer_is_preferred_to_the_wrong_one() -> None:
    found = compare_outcomes(BranchingRollouts(EnvConfig()), DEMONSTRATOR, EXPERT, FEW, "simulator")
    kept = tidy(found).preferences
    assert kept
    decided = [p for p in kept if p.difference is not None and p.difference > 1]
    assert decided and all(p.clear for p in decided)
    assert {p.source for p in kept} == {"simulator"}
    assert all(p.prompt[-1].role in ("user", "tool") for p in kept)
    again = compare_outcomes(BranchingRollouts(EnvConfig()), DEMONSTRATOR, EXPERT, FEW, "simulator")
    assert again == found


def test_sides_say_different_things() -> None:
    def contexts(split: str) -> set[str]:
        branches = BranchingRollouts(EnvConfig(), split).branches(DEMONSTRATOR, FEW)
        return {alike[0].context[1].content for alike in branches}

    assert not contexts("train") & contexts("test")


def test_whole_conversations_with_one_customer_are_compared() -> None:
    config = BranchConfig(dialogues=8, replies=3, whole=True)
    found = compare_outcomes(
        BranchingRollouts(EnvConfig()), DEMONSTRATOR, DEMONSTRATOR, config, "conversations"
    )
    kept = tidy(found).preferences
    assert kept and len(found) == 8 * 3
    world = TextEnv(EnvConfig(), "train")
    for p in kept:
        assert [m.role for m in p.prompt] == ["system", "user"]
        assert p.chosen[0].role == "assistant"
        assert p.chosen[-1].role == "user"  # how the customer took it is part of it
        assert p.clear
    seeds = {p.dialogue: p for p in kept}
    assert len(seeds) > 1 and len({p.prompt for p in kept}) == len(seeds)
    chosen = [m.content for m in kept[0].chosen if m.role == "assistant"]
    seed = episode_seeds(0, Purpose.BRANCH, int(kept[0].dialogue.rpartition("-")[2]))[0]
    replay(world, Snapshot(seed, tuple(chosen)))
    assert world.conversation == (*kept[0].prompt, *kept[0].chosen)


def test_a_model_speaks_and_follows() -> None:
    config = AdapterConfig(rank=4, alpha=8, dtype="float32", device="cpu")
    policy = Policy.create("tiny", config)
    agent = ModelAgent.of(policy)
    few = BranchConfig(dialogues=3, replies=2, continuations=2)
    rollouts = BranchingRollouts(EnvConfig())
    branches = rollouts.branches(agent, few)
    assert [len(alike) for alike in branches] == [2, 2, 2]
    flat = [b for alike in branches for b in alike]
    rollouts.follow(flat, agent, 2)
    assert all(len(b.returns) in (1, 2) for b in flat)


class Echo(gym.Env[str, str]):
    """A world that is not ours."""

    observation_space = action_space = Text(64)

    def reset(self, **_: Any) -> tuple[str, dict[str, Any]]:
        return "hi", {}


gym.register("tests/Echo-v0", Echo)


def test_foreign_worlds_are_refused() -> None:
    rollouts = BranchingRollouts(EnvConfig("tests/Echo-v0"))
    with pytest.raises(UserError, match="give preferences as files instead"):
        rollouts.branches(DEMONSTRATOR, FEW)


@pytest.mark.parametrize("wrong", [{"dialogues": 0}, {"replies": 1}, {"continuations": 1}])
def test_settings_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="of at least"):
        BranchConfig(**wrong)


def test_snapshots_are_told_apart_where_seeds_collide(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keyed by seeds of 32 bits, two returns would be swapped without a word."""
    policy = make_policy()
    one, other = (Snapshot(seed, ("Could you tell me your order number?",)) for seed in (7, 8))
    monkeypatch.setattr(
        collect_module, "episode_seeds", lambda *keys: (5, np.random.default_rng(0))
    )
    agent = ModelAgent.of(policy)
    played = BranchingRollouts(EnvConfig()).play_on(agent, [one, other], once=True)
    expected = []
    for snapshot in (one, other):
        env = TextEnv(EnvConfig())
        replay(env, snapshot)
        expected.append(env.conversation)
    assert [episode.conversation[:-1] for episode in played] == expected


def test_scripted_replies_and_continuations_draw_from_streams_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: dict[bool, list[int]] = {True: [], False: []}
    start = ScenarioAgent.start
    for once in drawn:
        monkeypatch.setattr(
            ScenarioAgent,
            "start",
            lambda agent, seed, settings, once=once: (
                drawn[once].append(seed) or start(agent, seed, settings)
            ),
        )
        BranchingRollouts(EnvConfig()).play_on(DEMONSTRATOR, [Snapshot(i) for i in range(3)], once)
    assert len({*drawn[True], *drawn[False]}) == 6


class Patient:
    """Says the same all the time."""

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        return "Let me see."


def test_a_branch_returns_what_its_reply_and_all_after_it_score() -> None:
    branch = Branch(Snapshot(7), (), (Message("assistant", "Where?"),))
    BranchingRollouts(EnvConfig()).follow([branch], ObjectAgent(Patient()), 2)
    env = TextEnv(EnvConfig())
    env.reset(7)
    result = env.step("Where?")
    total = first = sum(result.parts.values())
    while not (result.terminated or result.truncated):
        result = env.step("Let me see.")
        total += sum(result.parts.values())
    assert first != 0
    assert branch.returns == [pytest.approx(total)] * 2
