"""Conversations of a scenario's demonstrator."""

from __future__ import annotations

from dataclasses import replace

from rlchat.errors import UserError
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.episodes import conversation_settings, play_episode, speaking
from rlchat.rollout.making import WRITTEN
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat_envs import Conversation


def demonstrate(
    config: EnvConfig, count: int, seed: int, split: str = "train"
) -> list[Conversation]:
    """Collect the conversations of the scenario's demonstrator with ``count`` users.

    Raises:
        UserError: the environment has no demonstrator.
    """
    # Language models as users would cost time and money: thousands of calls.
    plain = tuple(dict.fromkeys("agenda" if u.startswith(WRITTEN) else u for u in config.users))
    with TextEnv(replace(config, users=plain), split) as env:
        return _played(env, count, seed)


def _played(env: TextEnv, count: int, seed: int) -> list[Conversation]:
    """The demonstrator's conversations in an environment."""
    if env.scenario is None or "demonstrator" not in env.scenario.agents:
        raise UserError(
            f"expected an environment with a demonstrator to warm-start from; {env.config.env} has "
            "none; set --warm-start.demonstrations 0 to train without, or give sft --data"
        )
    settings = conversation_settings(env, 0.0, RolloutConfig())
    conversations = []
    for i in range(count):
        env_seed, noise = episode_seeds(seed, Purpose.DEMONSTRATE, i)
        demonstrator = ScenarioAgent("demonstrator").start(int(noise.integers(2**31)), settings)
        episode = play_episode(env, speaking(demonstrator), i, env_seed)
        conversations.append(episode.conversation)
    return conversations
