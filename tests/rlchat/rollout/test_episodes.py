"""Episodes of agents that reply one conversation at a time, and how episodes end."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from rlchat.inference.agents import ContextFull
from rlchat.inference.load_agent import load_agent
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.episodes import conversation_settings, play_episode, speaking
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
    """What is wrong with an environment is told as it is; half an episode is no result."""

    def fail(action: str) -> object:
        raise OSError("the desk is on fire")

    monkeypatch.setattr(env.env.unwrapped, "step", fail)
    with pytest.raises(OSError, match="on fire"):
        played(env, "expert")


def test_limits() -> None:
    assert Episode(0, 0).ending is None
    assert Episode(0, 0, terminated=True).ending is None  # others' environments know no success
    assert Episode(0, 0, truncated=True, success=False).ending is Ending.TURN_LIMIT
    cut = Episode(0, 0, truncated=True, success=False, stopped_by=Ending.TOKEN_LIMIT)
    assert cut.ending is Ending.TOKEN_LIMIT
