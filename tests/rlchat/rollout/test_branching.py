from typing import Any

import gymnasium as gym
import pytest
from gymnasium.spaces import Text

from rlchat.errors import UserError
from rlchat.inference.model_agent import ModelAgent
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.models.adapters import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rewards.comparisons import compare
from rlchat.rollout.branching import Branch, BranchConfig, BranchingRollouts, Snapshot, live
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat_envs import Message
from rlchat_reward_models.preferences import tidy, weight

DEMONSTRATOR, EXPERT = ScenarioAgent("demonstrator"), ScenarioAgent("expert")
FEW = BranchConfig(dialogues=12, replies=4, continuations=3)


def test_a_moment_comes_back_as_it_was() -> None:
    world = TextEnv(EnvConfig(), "train")
    said = ("Could you tell me your order number, please?", "And the reason?")
    live(world, Snapshot(7, said))
    first, state = world.conversation, world.hidden
    live(world, Snapshot(8, said))
    assert world.conversation != first
    live(world, Snapshot(7, said))
    assert (world.conversation, world.hidden) == (first, state)


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
    found = BranchingRollouts(EnvConfig()).preferences(DEMONSTRATOR, EXPERT, FEW, "simulator")
    kept = tidy(found).preferences
    assert kept
    decided = [p for p in kept if p.difference is not None and p.difference > 1]
    assert decided and all(p.clear for p in decided)
    assert {p.source for p in kept} == {"simulator"}
    assert all(p.prompt[-1].role in ("user", "tool") for p in kept)
    again = BranchingRollouts(EnvConfig()).preferences(DEMONSTRATOR, EXPERT, FEW, "simulator")
    assert again == found


def test_sides_say_different_things() -> None:
    def contexts(split: str) -> set[str]:
        branches = BranchingRollouts(EnvConfig(), split).branches(DEMONSTRATOR, FEW)
        return {alike[0].context[1].content for alike in branches}

    assert not contexts("train") & contexts("test")


def test_whole_conversations_with_one_customer_are_compared() -> None:
    config = BranchConfig(dialogues=8, replies=3, whole=True)
    found = BranchingRollouts(EnvConfig()).preferences(
        DEMONSTRATOR, DEMONSTRATOR, config, "conversations"
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
    live(world, Snapshot(seed, tuple(chosen)))
    assert world.conversation == (*kept[0].prompt, *kept[0].chosen)


def test_a_model_speaks_and_follows() -> None:
    config = AdapterConfig(rank=4, alpha=8, dtype="float32", device="cpu")
    policy = Policy.create("tiny", config)
    agent = ModelAgent.of(policy)
    few = BranchConfig(dialogues=3, replies=2, continuations=2)
    forest = BranchingRollouts(EnvConfig())
    branches = forest.branches(agent, few)
    assert [len(alike) for alike in branches] == [2, 2, 2]
    flat = [b for alike in branches for b in alike]
    forest.follow(flat, agent, 2)
    assert all(len(b.returns) in (1, 2) for b in flat)


class Echo(gym.Env[str, str]):
    """A world that is not ours."""

    observation_space = action_space = Text(64)

    def reset(self, **_: Any) -> tuple[str, dict[str, Any]]:
        return "hi", {}


gym.register("tests/Echo-v0", Echo)


def test_foreign_worlds_are_refused() -> None:
    forest = BranchingRollouts(EnvConfig("tests/Echo-v0"))
    with pytest.raises(UserError, match="give preferences as files instead"):
        forest.branches(DEMONSTRATOR, FEW)


@pytest.mark.parametrize("wrong", [{"dialogues": 0}, {"replies": 1}, {"continuations": 1}])
def test_settings_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="of at least"):
        BranchConfig(**wrong)
