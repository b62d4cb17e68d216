"""Counterfactuals: an episode goes on from one of its turns again, with another message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rlchat.errors import UserError
from rlchat.inference.agents import Agent
from rlchat.rollout.branching import BranchingRollouts, Snapshot, replay
from rlchat.rollout.env_pool import replays
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.statistics import Interval, mean_interval, wilson
from rlchat_envs import Conversation


@dataclass(frozen=True)
class Outcome:
    """What becomes of an episode after a message, in repeated rollouts.

    Attributes:
        text: the message.
        times: rollouts; 1 where the message itself ends the episode, so that no chance is left.
        returns: the environment's score from this turn to the end, with its 95% interval.
        success: with its 95% interval (Wilson); None where the environment tells none.
        difference: of the return, less that of the first outcome that it is compared with, paired
            by the noise of the rollouts; None for that one itself.
    """

    text: str
    times: int
    returns: Interval
    success: Interval | None
    difference: Interval | None = None


@dataclass(frozen=True)
class _Played:
    """Returns and successes of one message's rollouts; one of each if it ended the episode."""

    returns: list[float]
    successes: list[bool | None]


def snapshot_of(
    config: EnvConfig, split: str, seed: int, conversation: Conversation, turn: int
) -> Snapshot:
    """The point of an episode before one of the agent's messages.

    Args:
        config: its environment.
        split: its side.
        seed: of the environment.
        conversation: the episode's.
        turn: number of the agent's message, from 0.

    Raises:
        UserError: there is no such message, or the environment does not play the episode again.
    """
    places = [i for i, m in enumerate(conversation) if m.role == "assistant"]
    if not 0 <= turn < len(places):
        raise UserError(
            f"expected a turn from 0 to {len(places) - 1}; the episode has no turn {turn}; name "
            "another with --turn"
        )
    if not replays(config):
        raise UserError(
            f"expected an environment that plays an episode again; {config.env} does not say that "
            'its seed decides all; set metadata = {"deterministic": True} in it if it does'
        )
    snapshot = Snapshot(seed, tuple(conversation[i].content for i in places[:turn]))
    with TextEnv(config, split) as env:
        replay(env, snapshot)
        if env.conversation != conversation[: places[turn]]:
            raise UserError(
                f"expected {config.env} to play the episode again; other things were said than in "
                "the record; use the version of the environment, and the users, that it was made "
                "with"
            )
    return snapshot


def outcomes(
    rollouts: BranchingRollouts,
    agent: Agent,
    snapshot: Snapshot,
    texts: Sequence[str],
    times: int,
) -> list[Outcome]:
    """What becomes of an episode after each of some messages, compared with the first of them.

    Every message meets the same noise, so that their differences are paired.

    Args:
        rollouts: environment, side and budgets.
        agent: goes on after the message, sampling as in training.
        snapshot: where the message is said.
        texts: the messages.
        times: rollouts of each that does not end the episode.
    """
    played: list[_Played | None] = []
    firsts: list[float] = []
    with TextEnv(rollouts.env, rollouts.split) as env:
        for text in texts:
            result = replay(env, snapshot.then(text))
            firsts.append(sum(result.parts.values()))
            over = result.terminated or result.truncated
            played.append(_Played([firsts[-1]], [result.success]) if over else None)
    left = [i for i, known in enumerate(played) if known is None]
    many = [snapshot.then(texts[i]) for i in left for _ in range(times)]
    noises = [noise for _ in left for noise in range(times)]
    episodes = rollouts.play_on(agent, many, noises=noises) if many else []
    for number, i in enumerate(left):
        own = episodes[number * times : (number + 1) * times]
        returns = [firsts[i] + episode.score for episode in own]
        played[i] = _Played(returns, [episode.success for episode in own])
    known = [one for one in played if one is not None]
    return [
        Outcome(text, len(one.returns), _mean(one.returns), _rate(one.successes), against)
        for text, one, against in zip(texts, known, _differences(known), strict=True)
    ]


def alternatives(
    rollouts: BranchingRollouts, agent: Agent, snapshot: Snapshot, samples: int
) -> list[tuple[str, int]]:
    """What the agent itself would say at a snapshot, sampled: texts and how often, most first."""
    played = rollouts.play_on(agent, [snapshot] * samples, once=True)
    return Counter(episode.conversation[-1].content for episode in played).most_common()


def _differences(played: Sequence[_Played]) -> list[Interval | None]:
    """Of each message's returns less the first message's, noise by noise."""
    against = played[0].returns

    def pairs(returns: Sequence[float]) -> list[float]:
        count = max(len(returns), len(against))
        mine, theirs = (x * count if len(x) == 1 else x for x in (list(returns), against))
        return [a - b for a, b in zip(mine, theirs, strict=True)]

    return [None, *(_mean(pairs(one.returns)) for one in played[1:])]


def _mean(values: Sequence[float]) -> Interval:
    return mean_interval(values)


def _rate(successes: Sequence[bool | None]) -> Interval | None:
    told = [success for success in successes if success is not None]
    if not told:
        return None
    if len(told) == 1:  # the message ended the episode: nothing is left to chance
        return Interval(float(told[0]), float(told[0]), float(told[0]))
    return wilson(sum(told), len(told))
