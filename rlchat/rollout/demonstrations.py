"""Conversations of a scenario's demonstrator."""

from __future__ import annotations

from dataclasses import replace

from rlchat.errors import UserError
from rlchat.rollout.environment import WRITTEN, EnvConfig, TextEnv
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat_envs import Conversation, DialogueEnv


def demonstrate(
    world: EnvConfig, count: int, seed: int, split: str = "train"
) -> list[Conversation]:
    """Let the scenario's demonstrator talk to ``count`` users.

    Raises:
        UserError: the environment has no demonstrator.
    """
    plain = tuple(dict.fromkeys("agenda" if u.startswith(WRITTEN) else u for u in world.users))
    room = TextEnv(
        replace(world, users=plain), split
    )  # thousands of calls would cost time and money
    env = room.env.unwrapped
    if not isinstance(env, DialogueEnv) or "demonstrator" not in env.scenario.agents:
        raise UserError(
            f"expected an environment with a demonstrator to warm-start from; {world.env} has "
            "none; set --warm-start.demonstrations 0 to train without, or give sft --data"
        )
    conversations = []
    for i in range(count):
        world_seed, noise = episode_seeds(seed, Purpose.DEMONSTRATE, i)
        conversation = room.reset(world_seed)
        agent = env.scenario.agents["demonstrator"](int(noise.integers(2**31)))
        over = False
        while not over:
            outcome = room.step(agent.reply(conversation, room.hidden))
            conversation = room.conversation
            over = outcome.terminated or outcome.truncated
        conversations.append(conversation)
    return conversations
