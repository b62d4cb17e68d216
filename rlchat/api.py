"""Functions of the public API that bring rooms together; `rlchat` itself lists all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.evaluation.evaluate import evaluate as measure
from rlchat.inference.agents import Agent
from rlchat.inference.load_agent import load_agent
from rlchat.inference.scripted_agent import Replies
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.episodes import OnEpisode

Split = Literal["train", "dev", "test"]


def make_env(
    env: str = "rlchat/Support-v0",
    *,
    split: Split = "train",
    users: Sequence[str] = (),
    knowledge: Sequence[str] = (),
    gamma: float = 1.0,
    user_max_new_tokens: int = EnvConfig.user_max_new_tokens,
    stated_style: Sequence[str] = (),
) -> TextEnv:
    """Make an environment in which an agent talks to a user.

    Args:
        env: a Gymnasium id, or module:Id; text in, text out. ``rlchat envs`` lists ours.
        split: which goals, phrasings and personas: train, dev or test.
        users: families of users; the usual ones if none is named.
        knowledge: sources that are looked up for the agent: bm25, dense, hybrid or graph, each with
            or without :PLACE.
        gamma: discount per turn that progress is shaped with.
        user_max_new_tokens: of one message of a user that a language model speaks for, its
            thoughts included.
        stated_style: style that the system message asks for: brief or detailed, formal or friendly,
            plain or advanced; or any, which draws it for each episode.

    Returns:
        The environment, one episode at a time: ``reset(seed)`` gives the opening messages,
        ``step(text)`` takes the agent's message.

    Raises:
        UserError: no such environment, split or user, or one that does not exchange text.

    Example:
        >>> import rlchat
        >>> env = rlchat.make_env("rlchat/Support-v0", split="dev", users=("terse",))
        >>> opening = env.reset(seed=0)
        >>> opening[-1].role
        'user'
    """
    config = EnvConfig(
        env,
        _several(users),
        gamma,
        _several(knowledge),
        user_max_new_tokens,
        _several(stated_style),
    )
    return TextEnv(config, split)


def evaluate(
    agent: str | Path | Agent | Replies,
    env: TextEnv | EnvConfig,
    *,
    episodes: int = 100,
    seed: int = 0,
    temperature: float = 0.0,
    trials: int = 1,
    rollout: RolloutConfig | None = None,
    on_episode: OnEpisode | None = None,
) -> EvaluationResult:
    """Let an agent talk to users, and measure how it does; the same users for every agent.

    Args:
        agent: what `load_agent` gives or takes.
        env: what `make_env` gave; or its settings, whose dev users are taken then.
        episodes: how many users the agent talks to.
        seed: decides users and goals.
        temperature: of the agent's sampling; 0 is greedy, 1 is how it was trained.
        trials: episodes with each user and goal; with several, they count as one observation in
            all intervals, and ``pass^k`` tells how often k of them all succeed.
        rollout: budgets of turns and episodes.
        on_episode: called with each episode as it ends.

    Returns:
        Metrics with 95% intervals, and the episodes. ``result.minus(other)`` compares two agents
        user by user.

    Raises:
        UserError: no such agent, or one that cannot take part in this environment.

    Example:
        >>> import rlchat
        >>> env = rlchat.make_env("rlchat/Support-v0", split="dev")
        >>> expert = rlchat.evaluate("expert", env, episodes=5)
        >>> random = rlchat.evaluate("random", env, episodes=5)
        >>> expert.minus(random)["score"].mean > 0
        True
    """
    settings, split = (env.config, env.split) if isinstance(env, TextEnv) else (env, "dev")
    config = EvalConfig(
        cast(Split, split), episodes, seed, temperature, rollout or RolloutConfig(), trials
    )
    return measure(load_agent(agent), settings, config, on_episode=on_episode)


def _several(names: Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple; a string alone is one name, not its letters."""
    return (names,) if isinstance(names, str) else tuple(names)
