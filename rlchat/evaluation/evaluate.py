"""Honest numbers: the same users for every agent, and an interval for everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from rlchat.errors import UserError
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.stated_style import share_followed
from rlchat.inference.agents import Agent
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.episodes import OnEpisode, play_episodes
from rlchat.rollout.hosting.isolated import kind_of
from rlchat.rollout.trajectory import Ending, Episode
from rlchat.statistics import Interval, by_cluster, mean_interval, pass_power
from rlchat.statistics.intervals import interval_of_rate, reach
from rlchat.statistics.significance import mcnemar, sign_flip
from rlchat_envs.core.messages import of_row, to_row
from rlchat_envs.wrappers.knowledge import hit_rate

# More cost than any episode had: with it, that of n episodes without any is below 3.7 / n, as a
# Poisson count of none has it.
HALF_AN_ACT = 0.5
FULL = 1.0  # a task solved scores about so much, one failed at most so much less than nothing


@dataclass(frozen=True)
class EvaluationResult:
    """One agent's episodes on one side of one environment."""

    agent: str
    env: EnvConfig
    split: str
    seed: int
    temperature: float
    episodes: Sequence[Episode]
    optimum: float | None = None  # turns that the best strategy takes on average
    trials: int = 1  # episodes with the same user and goal

    @cached_property
    def metrics(self) -> dict[str, Interval]:
        """Each metric with its 95% interval: of success, score, turns, and what else there is.

        Cost, regret (turns above the optimum) and hit rate are there where the environment has
        them, the share of a stated style that is followed where one is stated, ``pass^k`` (k
        episodes with one user all succeed) where each user was met several times. Episodes with the
        same user count as one observation. The intervals are made once: tables, lines and files ask
        for them again and again.
        """
        out: dict[str, Interval] = {}
        told = [t for t in self.episodes if t.success is not None]
        if told:
            out["success"] = interval_of_rate(_clustered(told, solved))
        scores = _clustered(self.episodes, lambda t: t.score)
        out["score"] = mean_interval(scores, *((-FULL, FULL) if told else ()))
        turns = _clustered(self.episodes, lambda t: float(len(t.parts)))
        out["turns"] = mean_interval(turns, *_a_turn_beyond(turns))
        if told:
            costs = _clustered(self.episodes, lambda t: t.cost)
            out["cost"] = mean_interval(costs, 0.0, max((1.0, *costs)) + HALF_AN_ACT)
        if self.optimum is not None:
            regrets = [n - self.optimum for n in turns]
            out["regret"] = mean_interval(regrets, *_a_turn_beyond(regrets))
        sought = [t for t in self.episodes if _hits(t) is not None]
        if sought:
            out["hit rate"] = mean_interval(_clustered(sought, lambda t: _hits(t) or 0.0), 0.0, 1.0)
        if self.env.stated_style and (followed := share_followed(self)):
            out["style followed"] = mean_interval(list(followed.values()), 0.0, 1.0)
        return out | self._pass_powers()

    def _pass_powers(self) -> dict[str, Interval]:
        """``pass^2`` to ``pass^trials``: the chance that so many episodes of a goal all succeed."""
        if self.trials < 2 or any(t.success is None for t in self.episodes):
            return {}
        rates = _clustered(self.episodes, solved)
        out = {}
        for k in range(2, self.trials + 1):
            each = [pass_power(round(r * self.trials), self.trials, k) for r in rates]
            out[f"pass^{k}"] = interval_of_rate(each)
        return out

    def minus(self, other: EvaluationResult) -> dict[str, Interval]:
        """Compare with another agent's result, user by user.

        Returns:
            Paired differences of success, score, turns and cost, each with its 95% interval.

        Raises:
            UserError: the other agent talked to other users.
        """
        if [e.seed for e in self.episodes] != [e.seed for e in other.episodes]:
            raise UserError(
                f"expected results of the same users; {self.agent} and {other.agent} have other "
                "seeds or numbers of episodes; evaluate both alike"
            )
        return difference(self, other)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> EvaluationResult:
        """Take back what `to_json` gave."""
        episodes = [episode_from_json(e) for e in kept["per_episode"]]
        env = EnvConfig(
            kept["env"],
            tuple(kept["users"]),
            knowledge=tuple(kept["knowledge"]),
            user_max_new_tokens=kept.get("user_max_new_tokens", EnvConfig.user_max_new_tokens),
            stated_style=tuple(kept.get("stated_style", ())),
        )
        return cls(
            kept["agent"],
            env,
            kept["split"],
            kept["seed"],
            kept["temperature"],
            episodes,
            kept["optimum"],
            kept.get("trials", 1),
        )

    def to_json(self) -> dict[str, Any]:
        """The file that ``--json`` writes."""
        return {
            "agent": self.agent,
            "env": self.env.env,
            "users": list(self.env.users),
            "knowledge": list(self.env.knowledge),
            "user_max_new_tokens": self.env.user_max_new_tokens,
            "stated_style": list(self.env.stated_style),
            "split": self.split,
            "episodes": len(self.episodes),
            "seed": self.seed,
            "temperature": self.temperature,
            "optimum": self.optimum,
            "trials": self.trials,
            "metrics": {name: asdict(interval) for name, interval in self.metrics.items()},
            "per_episode": [episode_to_json(t) for t in self.episodes],
        }


def evaluate(
    agent: Agent,
    env: EnvConfig,
    config: EvalConfig | None = None,
    name: str = "",
    on_episode: OnEpisode | None = None,
) -> EvaluationResult:
    """Let an agent talk to users it has not met, and write down how it went.

    Args:
        agent: is measured.
        env: environment and users.
        config: which side, how many users, how it samples.
        name: of the agent in the result; its own if left out.
        on_episode: told of each episode as it ends.
    """
    config = config or EvalConfig()
    indices = range(config.episodes * config.trials)
    played, optimum = play(agent, env, config, indices, on_episode)
    return EvaluationResult(
        name or agent.name,
        env,
        config.split,
        config.seed,
        config.temperature,
        played,
        optimum,
        config.trials,
    )


def play(
    agent: Agent,
    env: EnvConfig,
    config: EvalConfig,
    indices: Sequence[int],
    on_episode: OnEpisode | None = None,
) -> tuple[list[Episode], float | None]:
    """Play some of an evaluation's episodes; give them and the environment's optimum."""
    with EnvPool(env, config.split, kind_of(config.rollout)) as pool:
        played = play_episodes(
            agent,
            pool,
            indices,
            config.seed,
            config.temperature,
            config.rollout,
            on_episode,
            config.trials,
        )
        return played, pool[0].optimum if pool.ours else None


def difference(result: EvaluationResult, against: EvaluationResult) -> dict[str, Interval]:
    """Paired differences, user by user, with their intervals."""
    known = _both_told(result, against)

    def pairs(read: Callable[[Episode], float], least: float) -> Interval:
        found = _differences(result, against, read)
        return mean_interval(found, **reach(found, least))

    out = {"success": pairs(solved, 1.0)} if known else {}
    out["score"] = pairs(lambda t: t.score, 2 * FULL if known else 0.0)
    out["turns"] = pairs(lambda t: float(len(t.parts)), 1.0)
    if known:
        out["cost"] = pairs(lambda t: t.cost, 1.0)
    return out


def p_value(result: EvaluationResult, against: EvaluationResult) -> float:
    """How likely so large a difference of success is, either way, between agents that are alike.

    McNemar's test; where users were met several times, or no success is told, a permutation test of
    each user's difference of success or else of score.
    """
    known = _both_told(result, against)
    found = _differences(result, against, solved if known else lambda t: t.score)
    if known and result.trials == 1:
        return mcnemar(sum(d > 0 for d in found), sum(d < 0 for d in found))
    return sign_flip(found)


def discordance(result: EvaluationResult, against: EvaluationResult) -> float:
    """The mean squared difference of success per user: of single episodes, who differ."""
    found = _differences(result, against, solved)
    return sum(d * d for d in found) / len(found)


def solved(episode: Episode) -> float:
    """Success as a number."""
    return float(bool(episode.success))


def _both_told(result: EvaluationResult, against: EvaluationResult) -> bool:
    return all(t.success is not None for t in (*result.episodes, *against.episodes))


def _differences(
    result: EvaluationResult, against: EvaluationResult, read: Callable[[Episode], float]
) -> list[float]:
    """One difference a user; of several episodes with one, their mean."""
    seeds = [t.seed for t in result.episodes]
    assert seeds == [t.seed for t in against.episodes]
    pairs = zip(result.episodes, against.episodes, strict=True)
    return by_cluster([read(a) - read(b) for a, b in pairs], seeds)


def _clustered(episodes: Sequence[Episode], read: Callable[[Episode], float]) -> list[float]:
    return by_cluster([read(t) for t in episodes], [t.seed for t in episodes])


def _a_turn_beyond(turns: Sequence[float]) -> tuple[float, float]:
    """What might have been seen of turns, besides what was."""
    return (min(turns, default=0.0) - 1.0, max(turns, default=0.0) + 1.0)


def _hits(episode: Episode) -> float | None:
    return hit_rate(episode.knowledge) if episode.knowledge else None


def episode_from_json(kept: Mapping[str, Any]) -> Episode:
    """Take back what `episode_to_json` gave."""
    return Episode(
        kept["index"],
        kept["seed"],
        parts=kept["parts"],
        costs=kept["costs"],
        knowledge=kept["knowledge"],
        success=kept["success"],
        conversation=of_row(kept),
        answers=kept.get("answers", {}),
        **_ended(kept.get("ending")),
    )


def _ended(ending: str | None) -> dict[str, Any]:
    """What an episode has that ended so; files of earlier versions do not tell."""
    if ending is None:
        return {}
    if ending in (Ending.GOAL, Ending.GAVE_UP):
        return {"terminated": True}
    own = ending == Ending.TURN_LIMIT
    return {"truncated": True, "stopped_by": None if own else Ending(ending)}


def episode_to_json(episode: Episode) -> dict[str, Any]:
    """One episode in the file that ``--json`` writes."""
    return {
        "index": episode.index,
        "seed": episode.seed,
        "success": episode.success,
        "score": episode.score,
        "turns": len(episode.parts),
        "parts": [dict(p) for p in episode.parts],
        "costs": [dict(c) for c in episode.costs],
        "knowledge": dict(episode.knowledge),
        **to_row(episode.conversation),
        "ending": episode.ending,
        **({"answers": episode.answers} if episode.answers else {}),
    }
