"""Episodes of agents that reply one conversation at a time, and how episodes end."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from rlchat.inference.agents import ContextFull
from rlchat.inference.load_agent import load_agent
from rlchat.inference.model_agent import ModelAgent
from rlchat.models.policy import Policy
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig, StepResult, TextEnv
from rlchat.rollout.episodes import conversation_settings, play_episode, play_episodes, speaking
from rlchat.rollout.hosting.answers import EnvError
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.rollout.trajectory import Ending, Episode
from rlchat_envs import Conversation


@pytest.fixture(scope="module")
def env() -> TextEnv:
    return TextEnv(EnvConfig(), "dev")


@dataclass
class Forgetful:
    """Has room for some turns only."""

    turns: int

    def reply(self, conversation: Conversation, privileged: object) -> str:
        if sum(m.role == "assistant" for m in conversation) >= self.turns:
            raise ContextFull
        return "Let me see."


def played(env: TextEnv, agent: str | Forgetful) -> Episode:
    conversation = load_agent(agent).start(0, conversation_settings(env, 0.0, RolloutConfig()))
    return play_episode(env, speaking(conversation), 0, 3)


def test_the_expert_reaches_the_goal(env: TextEnv) -> None:
    episode = played(env, "expert")
    assert episode.success and episode.ending is Ending.GOAL


def test_a_user_gives_up(env: TextEnv) -> None:
    episode = played(env, Forgetful(99))
    assert episode.terminated and episode.ending is Ending.GAVE_UP


def test_an_agent_without_room_ends_the_episode(env: TextEnv) -> None:
    episode = played(env, Forgetful(2))
    assert episode.truncated and not episode.terminated
    assert episode.ending is Ending.CONTEXT_FULL
    assert len(episode.parts) == 2
    assert sum(m.role == "assistant" for m in episode.conversation) == 2


def test_an_environment_that_raises_is_not_an_end(
    env: TextEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with an environment is told; half an episode is no result."""

    def fail(action: str) -> object:
        raise OSError("the desk is on fire")

    monkeypatch.setattr(env.env.unwrapped, "step", fail)
    with pytest.raises(EnvError, match="OSError: the desk is on fire"):
        played(env, "expert")


def test_limits() -> None:
    assert Episode(0, 0).ending is None
    assert Episode(0, 0, terminated=True).ending is None  # others' environments know no success
    assert Episode(0, 0, truncated=True, success=False).ending is Ending.TURN_LIMIT
    cut = Episode(0, 0, truncated=True, success=False, stopped_by=Ending.TOKEN_LIMIT)
    assert cut.ending is Ending.TOKEN_LIMIT


def test_an_episode_keeps_what_each_step_told(
    env: TextEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TextEnv.step

    def unsafe(env: TextEnv, text: str) -> StepResult:
        return replace(step(env, text), costs={"advice": 0.5}, dropped=3)

    monkeypatch.setattr(TextEnv, "step", unsafe)
    episode = played(env, Forgetful(2))
    assert episode.costs == [{"advice": 0.5}] * 2
    assert (episode.cost, episode.dropped) == (1.0, 6)


def test_an_episodes_user_is_its_numbers_whoever_plays(policy: Policy) -> None:
    """A script plays one at a time, a model many; of numbers 2 and 5, without those between."""
    pool, config = EnvPool(EnvConfig()), RolloutConfig(max_new_tokens=8, max_tokens=500)
    expected = [episode_seeds(7, Purpose.EVALUATE, i)[0] for i in (2, 5)]
    for agent in (load_agent("expert"), ModelAgent.of(policy)):
        episodes = play_episodes(agent, pool, (2, 5), 7, 0.0, config)
        assert [e.seed for e in episodes] == expected
        assert [e.index for e in episodes] == [2, 5]
