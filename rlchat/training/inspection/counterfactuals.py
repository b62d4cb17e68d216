"""Counterfactuals of a run's episode: another message at a turn, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

from rlchat.evaluation.attribution.counterfactual import (
    Outcome,
    alternatives,
    outcomes,
    snapshot_of,
)
from rlchat.listener import Listener
from rlchat.rollout.branching import BranchingRollouts
from rlchat.training.inspection.episodes import Episodes
from rlchat.training.inspection.opened_run import OpenedRun

SAMPLES = 4  # replies that are sampled for each alternative that is tried


@dataclass(frozen=True)
class WhatIf:
    """What becomes of an episode after other messages at one of its turns.

    Attributes:
        recorded_return: the score that the episode had from that turn to its end.
        recorded_success: how it ended.
        outcomes: of the message that was said, and then of others.
        sampled: of the messages that the agent itself would say, how often it said each of them
            among `samples`; none if a message was given.
        samples: how many replies were sampled.
    """

    recorded_return: float
    recorded_success: bool | None
    outcomes: list[Outcome]
    sampled: dict[str, int]
    samples: int


def what_if(
    opened: OpenedRun,
    episodes: Episodes,
    turn: int,
    say: str | None,
    times: int,
    most: int = 3,
    listener: Listener | None = None,
) -> WhatIf:
    """Let an episode go on from one of its turns again, with the same and with other messages.

    Args:
        opened: the run, whose agent goes on.
        episodes: the one that is asked about.
        turn: number of the turn, from 0.
        say: the message in its place; None for the agent's own alternatives.
        times: rollouts after each message.
        most: alternatives that are tried.
        listener: told how it goes.

    Raises:
        UserError: there is no such turn, or the environment does not play the episode again.
    """
    chosen, agent = episodes.chosen, opened.agent
    config = opened.env_of(chosen.env)
    snapshot = snapshot_of(config, episodes.split, chosen.seed, chosen.conversation, turn)
    rollouts = BranchingRollouts(
        config, episodes.split, chosen.index, opened.config.rollout, listener or Listener()
    )
    said = [m.content for m in chosen.conversation if m.role == "assistant"][turn]
    sampled: dict[str, int] = {}
    others = [] if say is None else [say]
    samples = SAMPLES * most if say is None else 0
    if say is None:
        sampled = dict(alternatives(rollouts, agent, snapshot, samples))
        others = [text for text in sampled if text != said][:most]
    found = outcomes(rollouts, agent, snapshot, [said, *others], times)
    opened.policy.free_merged()
    later = sum(sum(parts.values()) for parts in chosen.parts[turn:])
    return WhatIf(later, chosen.success, found, sampled, samples)
