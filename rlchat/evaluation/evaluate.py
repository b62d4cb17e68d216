"""Honest numbers: the same users for every agent, and an interval for everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from rlchat.errors import UserError
from rlchat.evaluation.config import EvalConfig
from rlchat.inference.agents import Agent
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.episodes import OnEpisode, play_episodes
from rlchat.rollout.hosting.isolated import kind_of
from rlchat.rollout.trajectory import Ending, Episode
from rlchat.statistics import Interval, bootstrap, paired, wilson
from rlchat_envs import Message
from rlchat_envs.wrappers.knowledge import hit_rate


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

    @cached_property
    def metrics(self) -> dict[str, Interval]:
        """Success (Wilson), and the others (bootstrap), each with its 95% interval.

        Cost, regret (turns above the optimum) and hit rate are there where the environment has
        them. They are drawn once: tables, lines and files ask for them again and again.
        """
        out: dict[str, Interval] = {}
        successes = [t.success for t in self.episodes if t.success is not None]
        if successes:
            out["success"] = wilson(sum(successes), len(successes))
        out["score"] = bootstrap([t.score for t in self.episodes])
        turns = [float(len(t.parts)) for t in self.episodes]
        out["turns"] = bootstrap(turns)
        if successes:
            out["cost"] = bootstrap([t.cost for t in self.episodes])
        if self.optimum is not None:
            out["regret"] = bootstrap([n - self.optimum for n in turns])
        rates = [hit_rate(t.knowledge) for t in self.episodes if t.knowledge]
        if sought := [rate for rate in rates if rate is not None]:
            out["hit rate"] = bootstrap(sought)
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
        episodes = [
            Episode(
                e["index"],
                e["seed"],
                parts=e["parts"],
                costs=e["costs"],
                knowledge=e["knowledge"],
                success=e["success"],
                conversation=tuple(Message(m["role"], m["content"]) for m in e["messages"]),
                **_ended(e.get("ending")),
            )
            for e in kept["per_episode"]
        ]
        env = EnvConfig(
            kept["env"],
            tuple(kept["users"]),
            knowledge=tuple(kept["knowledge"]),
            user_max_new_tokens=kept.get("user_max_new_tokens", EnvConfig.user_max_new_tokens),
        )
        return cls(
            kept["agent"],
            env,
            kept["split"],
            kept["seed"],
            kept["temperature"],
            episodes,
            kept["optimum"],
        )

    def to_json(self) -> dict[str, Any]:
        """The file that ``--json`` writes."""
        return {
            "agent": self.agent,
            "env": self.env.env,
            "users": list(self.env.users),
            "knowledge": list(self.env.knowledge),
            "user_max_new_tokens": self.env.user_max_new_tokens,
            "split": self.split,
            "episodes": len(self.episodes),
            "seed": self.seed,
            "temperature": self.temperature,
            "optimum": self.optimum,
            "metrics": {name: asdict(interval) for name, interval in self.metrics.items()},
            "per_episode": [_episode(t) for t in self.episodes],
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
    with EnvPool(env, config.split, kind_of(config.rollout)) as pool:
        played = play_episodes(
            agent,
            pool,
            range(config.episodes),
            config.seed,
            config.temperature,
            config.rollout,
            on_episode,
        )
        optimum = pool[0].optimum if pool.ours else None
    return EvaluationResult(
        name or agent.name,
        env,
        config.split,
        config.seed,
        config.temperature,
        played,
        optimum,
    )


def difference(result: EvaluationResult, against: EvaluationResult) -> dict[str, Interval]:
    """Paired differences, episode by episode, with bootstrap intervals."""
    assert [t.seed for t in result.episodes] == [t.seed for t in against.episodes]

    def pairs(read: Callable[[Episode], float]) -> Interval:
        return paired([read(t) for t in result.episodes], [read(t) for t in against.episodes])

    out = {}
    if all(t.success is not None for t in (*result.episodes, *against.episodes)):
        out["success"] = pairs(lambda t: float(bool(t.success)))
    out["score"] = pairs(lambda t: t.score)
    out["turns"] = pairs(lambda t: float(len(t.parts)))
    if "success" in out:
        out["cost"] = pairs(lambda t: t.cost)
    return out


def _ended(ending: str | None) -> dict[str, Any]:
    """What an episode has that ended so; files of earlier versions do not tell."""
    if ending is None:
        return {}
    if ending in (Ending.GOAL, Ending.GAVE_UP):
        return {"terminated": True}
    own = ending == Ending.TURN_LIMIT
    return {"truncated": True, "stopped_by": None if own else Ending(ending)}


def _episode(episode: Episode) -> dict[str, Any]:
    return {
        "index": episode.index,
        "seed": episode.seed,
        "success": episode.success,
        "score": episode.score,
        "turns": len(episode.parts),
        "parts": [dict(p) for p in episode.parts],
        "costs": [dict(c) for c in episode.costs],
        "knowledge": dict(episode.knowledge),
        "messages": [{"role": m.role, "content": m.content} for m in episode.conversation],
        "ending": episode.ending,
    }
