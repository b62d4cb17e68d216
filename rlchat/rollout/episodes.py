"""Episodes of any agent: batched where it is a language model here, else one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlchat.inference.agents import Agent, AgentConversation, ConversationSettings
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvPool, StepResult, TextEnv
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.rollout.trajectory import Trajectory

OnEpisode = Callable[[Trajectory], None]
NextMessage = Callable[[TextEnv], str]


def play_episodes(
    agent: Agent,
    pool: EnvPool,
    indices: Sequence[int],
    seed: int,
    temperature: float,
    rollout: RolloutConfig,
    on_episode: OnEpisode | None = None,
) -> list[Trajectory]:
    """Let an agent play episodes; episode i has the same user and goal for every agent.

    Returns:
        Their trajectories, in order; those that no batched model played have no tokens.
    """
    if (model := agent.batched) is not None:
        keys = [(i, (seed, Purpose.EVALUATE, i), (seed, Purpose.ANSWER, i)) for i in indices]
        return collect(
            model.generation, model.template, pool, keys, rollout, temperature, on_episode
        )
    played = []
    for i in indices:
        env_seed, _ = episode_seeds(seed, Purpose.EVALUATE, i)
        settings = conversation_settings(pool[0], temperature, rollout)
        speak = speaking(agent.start(env_seed, settings))
        played.append(play_episode(pool[0], speak, i, env_seed))
        if on_episode is not None:
            on_episode(played[-1])
    return played


def conversation_settings(
    env: TextEnv, temperature: float, rollout: RolloutConfig
) -> ConversationSettings:
    """What an agent needs to know of a conversation in an environment."""
    return ConversationSettings(
        env.scenario, env.config.env, temperature, rollout.max_tokens, rollout.max_new_tokens
    )


def speaking(conversation: AgentConversation) -> NextMessage:
    """An agent's replies as messages for `play_episode`."""

    def speak(env: TextEnv) -> str:
        return conversation.reply(env.conversation, env.privileged, lambda piece: None).text

    return speak


def play_episode(
    env: TextEnv,
    speak: NextMessage,
    index: int,
    seed: int,
    on_step: Callable[[StepResult], None] = lambda result: None,
) -> Trajectory:
    """Play one episode from its start, in text.

    Args:
        env: where.
        speak: gives the agent's next message.
        index: the episode's number.
        seed: of the environment.
        on_step: told of each step.

    Returns:
        The episode, without tokens.
    """
    env.reset(seed)
    return go_on(env, speak, Trajectory(index, seed, []), on_step)


def go_on(
    env: TextEnv,
    speak: NextMessage,
    episode: Trajectory,
    on_step: Callable[[StepResult], None] = lambda result: None,
) -> Trajectory:
    """Play an episode on from where its environment stands, to its end; see `play_episode`."""
    episode.conversation = env.conversation
    while not (episode.terminated or episode.truncated):
        result = env.step(speak(env))
        episode.parts.append(result.parts)
        episode.costs.append(result.costs)
        episode.knowledge, episode.conversation = result.knowledge, env.conversation
        episode.terminated, episode.truncated = result.terminated, result.truncated
        episode.success = result.success
        on_step(result)
    return episode
