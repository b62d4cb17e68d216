"""Episodes of any agent: batched where it is a language model here, else one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlchat.inference.agents import Agent, AgentConversation, ContextFull, ConversationSettings
from rlchat.inference.load_agent import load_agent
from rlchat.inference.scripted_agent import Replies
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig, StepResult, TextEnv
from rlchat.rollout.hosting.answers import EnvError
from rlchat.rollout.hosting.isolated import kind_of
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.rollout.trajectory import Ending, Episode

OnEpisode = Callable[[Episode], None]
NextMessage = Callable[[TextEnv], str]
Call = Callable[..., Any]
"""Calls its first argument with the others."""
MOST_TURNS = 256
"""Truncation of what is played without a budget of tokens: agents made of rules, and those behind a
server, would go on for ever where an environment never ends an episode."""


def rollout(
    agent: str | Path | Agent | Replies,
    env: TextEnv | EnvConfig,
    *,
    episodes: int = 16,
    seed: int = 0,
    temperature: float = 1.0,
    config: RolloutConfig | None = None,
    on_episode: OnEpisode | None = None,
) -> list[Episode]:
    """Let an agent talk to users, and keep what was said and what it was worth.

    Args:
        agent: what `load_agent` gives or takes.
        env: what `make_env` gave; or its settings, whose training users are taken then.
        episodes: how many users the agent talks to.
        seed: decides users, goals and sampling.
        temperature: of the agent's sampling; 1 is how it is trained.
        config: budgets of turns and episodes.
        on_episode: called with each episode as it ends.

    Returns:
        The episodes in order; of a local language model, trajectories: episodes with their tokens
        and the logprobs that these were sampled with.

    Raises:
        UserError: no such agent, or one that cannot take part in this environment.

    Example:
        >>> import rlchat
        >>> played = rlchat.rollout("expert", rlchat.make_env(), episodes=2)
        >>> [str(episode.ending) for episode in played]
        ['goal', 'goal']
    """
    config = config or RolloutConfig()
    settings, split = (env.config, env.split) if isinstance(env, TextEnv) else (env, "train")
    with EnvPool(settings, split, kind_of(config)) as pool:
        loaded, numbers = load_agent(agent), range(episodes)
        return play_episodes(loaded, pool, numbers, seed, temperature, config, on_episode)


def directly(question: Callable[..., Any], *about: Any) -> Any:
    """Call an environment in this thread, without a limit of time: enough for those of ours."""
    return question(*about)


def caller(pool: EnvPool, timeout: float) -> Call:
    """A function that calls what is given to it in the thread of a pool's first row, and waits.

    For episodes that are played one after the other; no such call takes longer than so many
    seconds. What the environment fails at is raised, after which the row has a fresh one.
    """
    workers = pool.worker_pool(0, timeout)

    def call(question: Callable[..., Any], *about: Any) -> Any:
        workers.ask(0, question, *about)
        ((_, answer),) = workers.answers(block=True)
        if isinstance(answer, EnvError):
            pool.drop(0)
            raise answer
        return answer

    return call


def play_episodes(
    agent: Agent,
    pool: EnvPool,
    indices: Sequence[int],
    seed: int,
    temperature: float,
    rollout: RolloutConfig,
    on_episode: OnEpisode | None = None,
    trials: int = 1,
) -> list[Episode]:
    """Let an agent play episodes; episode i has the same user and goal for every agent.

    So many ``trials`` in a row share user and goal, and differ in what is sampled.

    Returns:
        Them in order; those that a batched model played are trajectories, and have tokens.
    """
    played: list[Episode] = []
    if (model := agent.batched) is not None:
        from rlchat.rollout.collect import collect  # which brings torch; scripts need none

        keys = [
            (i, (seed, Purpose.EVALUATE, i // trials), (seed, Purpose.ANSWER, i)) for i in indices
        ]
        played += collect(
            model.generation, model.template, pool, keys, rollout, temperature, on_episode
        )
        return played
    call = caller(pool, rollout.timeout)
    for i in indices:
        env_seed, _ = episode_seeds(seed, Purpose.EVALUATE, i // trials)
        own_seed = episode_seeds(seed, Purpose.ANSWER, i)[0] if i % trials else env_seed
        env = call(pool.__getitem__, 0)
        speak = speaking(agent.start(own_seed, conversation_settings(env, temperature, rollout)))
        played.append(play_episode(env, speak, i, env_seed, call=call))
        if on_episode is not None:
            on_episode(played[-1])
    return played


def conversation_settings(
    env: TextEnv, temperature: float, rollout: RolloutConfig
) -> ConversationSettings:
    """Settings that an agent needs before a conversation in an environment."""
    return ConversationSettings(
        env.scenario,
        env.config.env,
        temperature,
        rollout.max_tokens,
        rollout.max_new_tokens,
        rollout.thinking,
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
    call: Call = directly,
) -> Episode:
    """Play one episode from its start, in text.

    Args:
        env: where.
        speak: gives the agent's next message.
        index: the episode's number.
        seed: of the environment.
        on_step: told of each step.
        call: calls the environment; made by `caller`, or else this thread.

    Returns:
        The episode.
    """
    call(env.reset, seed)
    return go_on(env, speak, Episode(index, seed), on_step, call)


def go_on(
    env: TextEnv,
    speak: NextMessage,
    episode: Episode,
    on_step: Callable[[StepResult], None] = lambda result: None,
    call: Call = directly,
) -> Episode:
    """Play an episode on from where its environment stands, to its end; see `play_episode`.

    It is truncated after `MOST_TURNS` turns.
    """
    episode.conversation = env.conversation
    while not (episode.terminated or episode.truncated):
        try:
            said = speak(env)
        except ContextFull:
            episode.truncated, episode.stopped_by = True, Ending.CONTEXT_FULL
            break
        result = call(env.step, said)
        episode.parts.append(result.parts)
        episode.costs.append(result.costs)
        episode.knowledge, episode.conversation = result.knowledge, env.conversation
        episode.terminated, episode.truncated = result.terminated, result.truncated
        episode.success = result.success
        episode.dropped += result.dropped
        on_step(result)
        if len(episode.parts) >= MOST_TURNS and not episode.terminated:
            episode.truncated = True
    return episode
