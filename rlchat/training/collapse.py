"""Signs that a policy has collapsed: nothing to compare, or replies that ignore what was heard."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlchat.rollout.trajectory import Episode
from rlchat.statistics.dependence import text_information

_ALIKE = 1e-9  # scores this close are one


def collapse(episodes: Sequence[Episode], group_size: int) -> dict[str, float]:
    """Metrics of collapse; docs/method/metrics.md explains each.

    Args:
        episodes: of an iteration.
        group_size: how many of them share a prompt.
    """
    pairs = [pair for episode in episodes if (pair := _opening(episode)) is not None]
    return {
        "same_reward": same_reward(episodes, group_size),
        "reply_information": text_information([h for h, _ in pairs], [s for _, s in pairs]),
    }


def same_reward(episodes: Sequence[Episode], group_size: int) -> float:
    """The share of prompts whose episodes all have the same reward.

    NaN where no prompt has two episodes.
    """
    groups: dict[int, list[float]] = {}
    for episode in episodes:
        groups.setdefault(episode.index // group_size, []).append(episode.score)
    several = [scores for scores in groups.values() if len(scores) > 1]
    if not several:
        return math.nan
    return sum(max(s) - min(s) <= _ALIKE for s in several) / len(several)


def _opening(episode: Episode) -> tuple[str, str] | None:
    """What was heard before the agent's first message, and that message."""
    heard: list[str] = []
    for message in episode.conversation:
        if message.role == "assistant":
            return " ".join(heard), message.content
        if message.role != "system":
            heard.append(message.content)
    return None
