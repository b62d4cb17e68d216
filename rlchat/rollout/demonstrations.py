"""Conversations of a scenario's demonstrator."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from rlchat.errors import UserError
from rlchat.inference.agents import ConversationSettings
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.episodes import conversation_settings, play_episode, speaking
from rlchat.rollout.hosting.making import WRITTEN
from rlchat.rollout.mixture import Mixture
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat_envs import Conversation
from rlchat_reward_models.stated_style import hindsight_styles


def demonstrate(
    source: EnvConfig | Mixture, count: int, seed: int, split: str = "train"
) -> list[Conversation]:
    """Collect the conversations of the scenario's demonstrator with ``count`` users.

    Where a style is to be stated, each states what the demonstrator, who knows of none, has spoken
    like; see `rlchat_reward_models.stated_style.hindsight_styles`.

    Args:
        source: an environment, or several, which have a share of the users each by their weights.
        count: of users.
        seed: of users and of what the demonstrator says.
        split: side of goals and users.

    Raises:
        UserError: an environment has no demonstrator.
    """
    mixture = Mixture.of([source]) if isinstance(source, EnvConfig) else source
    with ExitStack() as stack:
        envs = [stack.enter_context(TextEnv(_plain(c), split)) for c in mixture.envs]
        settings = [_settings(env) for env in envs]
        played: list[list[tuple[int, int, Conversation]]] = [[] for _ in envs]
        for i in range(count):
            env_seed, noise = episode_seeds(seed, Purpose.DEMONSTRATE, i)
            chosen = mixture.choose(env_seed)
            demonstrator = ScenarioAgent("demonstrator")
            said = speaking(demonstrator.start(int(noise.integers(2**31)), settings[chosen]))
            conversation = play_episode(envs[chosen], said, i, env_seed).conversation
            played[chosen].append((i, env_seed, conversation))
    told = [
        numbered
        for config, own in zip(mixture.envs, played, strict=True)
        for numbered in _told_style(config, own, split)
    ]
    return [conversation for _, conversation in sorted(told, key=lambda numbered: numbered[0])]


def _told_style(
    config: EnvConfig, played: Sequence[tuple[int, int, Conversation]], split: str
) -> list[tuple[int, Conversation]]:
    """Numbered conversations of one environment, each asked for the style that it turned out in.

    Args:
        config: of the environment.
        played: number, seed and conversation of each.
        split: whose words ask for it.
    """
    if not config.stated_style:
        return [(i, conversation) for i, _, conversation in played]
    styles = hindsight_styles([conversation for *_, conversation in played])
    return [
        (i, replace(config, stated_style=style).styled(conversation, seed, split))
        for (i, seed, conversation), style in zip(played, styles, strict=True)
    ]


def _plain(config: EnvConfig) -> EnvConfig:
    """The environment without a style, and without language models as users, which are slow."""
    users = dict.fromkeys("agenda" if u.startswith(WRITTEN) else u for u in config.users)
    return replace(config, users=tuple(users), stated_style=())


def _settings(env: TextEnv) -> ConversationSettings:
    """What the demonstrator needs to know of its environment.

    Raises:
        UserError: it has none.
    """
    if env.scenario is None or "demonstrator" not in env.scenario.agents:
        raise UserError(
            f"expected an environment with a demonstrator to warm-start from; {env.config.env} has "
            "none; set --warm-start.demonstrations 0 to train without, or give sft --data"
        )
    return conversation_settings(env, 0.0, RolloutConfig())
