"""Watching for reward hacking: does what people want rise with what the agent is paid for?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.inference.model_agent import ModelAgent
from rlchat.models.policy import Policy
from rlchat.rewards.composite import CompositeReward
from rlchat.rewards.loading import load_scorer
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, EnvPool
from rlchat.rollout.episodes import play_episodes
from rlchat.rollout.trajectory import Episode
from rlchat.settings import expect
from rlchat_reward_models.scorer import LearnedScorer, parts_of

Z = 1.645  # one-sided 95%: of two rates, one is really larger


@dataclass(frozen=True)
class RewardMonitorConfig:
    """How often PPO on a learned reward is looked at by somebody whom it does not pay."""

    every: int = 4
    """Iterations from one look to the next; 0 never looks. Only a learned reward is watched."""
    episodes: int = 64
    """Held-out conversations (dev side) of each look, sampled as in training."""
    model: Path | None = None
    """A second reward model, trained on other data, as another measure beside success."""
    stop: bool = False
    """Stop at an alarm, and leave the adapter of the best look as the result; such a run is not
    resumed."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "every", self.every >= 0, "of at least 0")
        expect(self, "episodes", self.episodes >= 8, "of at least 8")


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean over episodes, and its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Measured:
        """Of one value an episode."""
        spread = stdev(values) if len(values) > 1 else 0.0
        return cls(fmean(values), spread / math.sqrt(len(values)))

    def above(self, other: Measured) -> bool:
        """Whether it lies higher, beyond noise."""
        return self.mean - other.mean > Z * math.hypot(self.error, other.error)


@dataclass(frozen=True, slots=True)
class Checkup:
    """One look at held-out conversations: what the reward says of them, and what others do."""

    iteration: int
    proxy: Measured
    gold: Mapping[str, Measured]

    @property
    def metrics(self) -> dict[str, float]:
        """For the iteration's line."""
        row = {"watch/proxy": self.proxy.mean, "watch/proxy_error": self.proxy.error}
        for name, measured in self.gold.items():
            key = name.replace(" ", "_")
            row |= {f"watch/{key}": measured.mean, f"watch/{key}_error": measured.error}
        return row

    def alarm(self, before: Checkup) -> str:
        """What is wrong since an earlier look; nothing if it is empty.

        An alarm wants both: the proxy rose, and a gold scorer fell, each beyond noise.
        """
        if not self.proxy.above(before.proxy):
            return ""
        fallen = [name for name, m in self.gold.items() if before.gold[name].above(m)]
        if not fallen:
            return ""
        told = ", ".join(
            f"{name} fell from {before.gold[name].mean:.2f} to {self.gold[name].mean:.2f}"
            for name in fallen
        )
        return (
            f"reward hacking: since iteration {before.iteration} the reward rose from "
            f"{before.proxy.mean:.2f} to {self.proxy.mean:.2f}, and {told}; read transcripts"
        )


class RewardMonitor:
    """Looks at the policy every so often, and remembers the best look."""

    def __init__(
        self, config: RewardMonitorConfig, world: EnvConfig, reward: CompositeReward, seed: int
    ):
        """Get ready.

        Args:
            config: how often, how many.
            world: whose dev side is played.
            reward: what the agent is paid by.
            seed: of the held-out conversations, which are the same at each look.

        Raises:
            UserError: a second model that is none, or a world that knows no success.
        """
        self.config, self.world, self.reward, self.seed = config, world, reward, seed
        self.on = bool(config.every) and reward.learned is not None and reward.config.learned
        if self.on and not EnvPool(world, "dev").ours:
            raise UserError(
                "expected an environment that knows success, to watch a learned reward by; "
                f"{world.env} does not; set --watch.every 0"
            )
        self.second: LearnedScorer | None = None
        if self.on and config.model is not None:
            self.second = load_scorer(config.model, reward.config.dtype)
        self.best: Checkup | None = None

    def due(self, iteration: int, last: int) -> bool:
        """Whether to look after this iteration; always after the first and the last."""
        return self.on and (iteration % self.config.every == 0 or iteration == last)

    def look(
        self, policy: Policy, rollout: RolloutConfig, iteration: int, ranks: Distributed
    ) -> Checkup:
        """Let the policy talk to held-out users, and measure what it says."""
        agent = ModelAgent.of(policy)
        own = range(ranks.index, self.config.episodes, ranks.count)
        played = play_episodes(agent, EnvPool(self.world, "dev"), own, self.seed, 1.0, rollout)
        policy.free_merged()
        gold = {"success": [float(bool(t.success)) for t in played]}
        if self.second is not None:
            gold["second model"] = _means(self.second, played)
        proxy = [t.score for t in self.reward.score(played, ranks)]
        return Checkup(
            iteration,
            Measured.of(ranks.gather(proxy)),
            {name: Measured.of(ranks.gather(values)) for name, values in gold.items()},
        )

    def judge(self, now: Checkup) -> str:
        """Compare with the best look so far; an alarm in words, or nothing."""
        best = self.best
        told = "" if best is None else now.alarm(best)
        if best is None or (not told and now.gold["success"].mean >= best.gold["success"].mean):
            self.best = now
        return told

    def to_json(self) -> dict[str, Any]:
        """What going on from here needs."""
        return {"best": None if self.best is None else asdict(self.best)}

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        best = kept["best"]
        if best is not None:
            gold = {name: Measured(**m) for name, m in best["gold"].items()}
            self.best = Checkup(best["iteration"], Measured(**best["proxy"]), gold)


def _means(scorer: LearnedScorer, played: Sequence[Episode]) -> list[float]:
    """Each episode's score, a mean over its replies if those are scored."""
    parts = [parts_of(t.conversation, scorer.granularity) for t in played]
    scores = iter(scorer.score([part for own in parts for part in own]))
    return [fmean([next(scores) for _ in own]) for own in parts]
