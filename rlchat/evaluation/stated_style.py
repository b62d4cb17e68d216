"""How far a stated style is followed, and what that costs in success."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rlchat.rollout.trajectory import Episode
from rlchat.statistics import Interval, by_cluster, mean_interval
from rlchat.statistics.intervals import reach
from rlchat_reward_models.stated_style import SIDES, follows, replies_of

if TYPE_CHECKING:
    from rlchat.evaluation.evaluate import EvaluationResult

ON_THE_SIDE = 0.5  # of a reply that follows a side farther than so


@dataclass(frozen=True, slots=True)
class StyleRow:
    """One side of an axis, as one agent follows it.

    Attributes:
        agent: who replies.
        env: the environment.
        users: families of users.
        stated: what the evaluation states: sides, or any.
        side: one of them.
        episodes: how many state it.
        followed: the share of their replies that are on that side.
        otherwise: the same share where it is not asked for: of the same users where nothing was
            stated, if they were met so; else of the users for whom this axis was left open.
        gained: followed less otherwise, user by user; None if the users are not the same.
        success: success less that of the same users where nothing was stated; None where they were
            not met so, or no success is told.
    """

    agent: str
    env: str
    users: tuple[str, ...]
    stated: tuple[str, ...]
    side: str
    episodes: int
    followed: Interval
    otherwise: Interval | None
    gained: Interval | None
    success: Interval | None

    def to_json(self) -> dict[str, Any]:
        """The row in the file that ``--json`` writes."""
        return asdict(self)


def share_on_side(side: str, episode: Episode) -> float | None:
    """The share of an episode's replies that are on one side of an axis; None if it has none."""
    found = [follows(side, c, r) > ON_THE_SIDE for c, r in replies_of(episode.conversation)]
    return sum(found) / len(found) if found else None


def share_followed(result: EvaluationResult) -> dict[int, float]:
    """For each user's seed, the share of what was stated that replies follow."""
    shares: list[tuple[int, float]] = []
    for episode in result.episodes:
        found = [share_on_side(side, episode) for side in result.env.style_of(episode.seed)]
        told = [share for share in found if share is not None]
        if told:
            shares.append((episode.seed, sum(told) / len(told)))
    return _by_user(shares)


def style_rows(results: Iterable[EvaluationResult]) -> list[StyleRow]:
    """What is followed, and what it costs, of every agent in every environment that states a style.

    Args:
        results: of one call: the same users for all.
    """
    groups: dict[tuple[object, ...], list[EvaluationResult]] = {}
    for result in results:
        unstated = replace(result.env, stated_style=())
        groups.setdefault((result.agent, unstated), []).append(result)
    rows: list[StyleRow] = []
    for group in groups.values():
        plain = next((r for r in group if not r.env.stated_style), None)
        for result in group:
            if result.env.stated_style:
                rows += filter(None, (_row(result, plain, side) for side in SIDES))
    return rows


def _row(result: EvaluationResult, plain: EvaluationResult | None, side: str) -> StyleRow | None:
    """One side, as a result follows it; None if no episode states it."""
    own = [e for e in result.episodes if side in result.env.style_of(e.seed)]
    shares = _shares(side, own)
    if not shares:
        return None
    users, about = {e.seed for e in own}, (side, len(own), _rate(shares))
    named = result.agent, result.env.env, result.env.users, result.env.stated_style
    if plain is None:
        open_ones = _shares(side, [e for e in result.episodes if _left_open(result, e, side)])
        otherwise = _rate(open_ones) if open_ones else None
        return StyleRow(*named, *about, otherwise, None, None)
    same = [e for e in plain.episodes if e.seed in users]
    known = all(e.success is not None for e in (*own, *same))
    without = _shares(side, same)
    return StyleRow(
        *named,
        *about,
        _rate(without) if without else None,
        _paired(shares, without) if shares.keys() & without.keys() else None,
        _paired(_means(own, _solved), _means(same, _solved)) if known and same else None,
    )


def _left_open(result: EvaluationResult, episode: Episode, side: str) -> bool:
    return SIDES[side] not in {SIDES[s] for s in result.env.style_of(episode.seed)}


def _solved(episode: Episode) -> float:
    return float(bool(episode.success))


def _shares(side: str, episodes: Sequence[Episode]) -> dict[int, float]:
    found = [(e.seed, share_on_side(side, e)) for e in episodes]
    return _by_user([(seed, share) for seed, share in found if share is not None])


def _means(episodes: Sequence[Episode], read: Callable[[Episode], float]) -> dict[int, float]:
    return _by_user([(e.seed, read(e)) for e in episodes])


def _by_user(values: Sequence[tuple[int, float]]) -> dict[int, float]:
    """Each user's mean, by seed: several episodes with one are one observation."""
    seeds = [seed for seed, _ in values]
    means = by_cluster([value for _, value in values], seeds)
    return dict(zip(dict.fromkeys(seeds), means, strict=True))


def _rate(shares: Mapping[int, float]) -> Interval:
    return mean_interval(list(shares.values()), 0.0, 1.0)


def _paired(values: Mapping[int, float], against: Mapping[int, float]) -> Interval:
    found = [value - against[user] for user, value in values.items() if user in against]
    return mean_interval(found, **reach(found, 1.0))
