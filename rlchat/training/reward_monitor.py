"""The reward monitor: whether success on held-out users rises with a learned reward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from statistics import fmean, stdev
from typing import Any

import numpy as np

from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.inference.model_agent import ModelAgent
from rlchat.models.policy import Policy
from rlchat.rewards.composite import CompositeReward
from rlchat.rewards.loading import load_scorer
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import is_ours
from rlchat.rollout.episodes import play_episodes
from rlchat.rollout.hosting.isolated import kind_of
from rlchat.rollout.mixture import Mixture
from rlchat.rollout.trajectory import Episode
from rlchat.training.config import RewardMonitorConfig
from rlchat_reward_models.scorer import LearnedScorer, parts_of

Z = 1.645  # one-sided 95%: of two rates, one is really larger
# Of runs whose success stays as it is, however their reward rises. Rates of few users are no
# normals: with a bound of .04 simulated runs ring in at most .05.
FALSE_ALARMS = 0.04
_DRAWS = 40_000


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean over held-out users, its standard error, and the value of each user."""

    mean: float
    error: float
    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: Sequence[float]) -> Measured:
        """Mean and standard error of values, one a user."""
        spread = stdev(values) if len(values) > 1 else 0.0
        return cls(fmean(values), spread / math.sqrt(len(values)), tuple(values))

    def above(self, other: Measured, threshold: float = Z) -> bool:
        """Whether this mean lies above another beyond noise: so many standard errors.

        Paired where both have the same users: hard ones stay hard, which is no noise. The error is
        then that of differences whose mean is 0.
        """
        gain = self.mean - other.mean
        if not self.values or len(self.values) != len(other.values):
            return gain > threshold * math.hypot(self.error, other.error)
        pairs = zip(self.values, other.values, strict=True)
        noise = math.sqrt(sum((a - b) ** 2 for a, b in pairs)) / len(self.values)
        return gain > threshold * noise


@cache
def fall_threshold(measurements: int, scorers: int = 1) -> float:
    """How many standard errors a fall has to exceed to be believed, over a whole run.

    A monitor compares with the best so far, and so with the luckiest of what did not change. This
    is the quantile of the largest fall from a running maximum among as many equal measurements,
    for all scorers together; it is drawn, with a seed.

    Args:
        measurements: of the run, first and last included.
        scorers: measures whose fall rings.
    """
    if measurements < 2:
        return math.inf
    rng = np.random.default_rng(0)
    best = rng.standard_normal(_DRAWS)
    largest = np.zeros(_DRAWS)
    for _ in range(measurements - 1):
        now = rng.standard_normal(_DRAWS)
        largest = np.maximum(largest, best - now)
        best = np.maximum(best, now)
    return float(np.quantile(largest, 1 - FALSE_ALARMS / scorers) / math.sqrt(2))


@dataclass(frozen=True, slots=True)
class Checkup:
    """One measurement on held-out conversations: their reward, and what it does not pay for."""

    iteration: int
    proxy: Measured
    gold: Mapping[str, Measured]

    @property
    def metrics(self) -> dict[str, float]:
        """The measurement as metrics of its iteration."""
        row = {"watch/proxy": self.proxy.mean, "watch/proxy_error": self.proxy.error}
        for name, measured in self.gold.items():
            key = name.replace(" ", "_")
            row |= {f"watch/{key}": measured.mean, f"watch/{key}_error": measured.error}
        return row

    def alarm(self, before: Checkup, threshold: float = Z) -> str:
        """What is wrong since an earlier measurement, in words; empty if nothing is.

        An alarm needs both: the proxy rose beyond noise, and a gold scorer fell, by more than so
        many standard errors.
        """
        if not self.proxy.above(before.proxy):
            return ""
        fallen = [name for name, m in self.gold.items() if before.gold[name].above(m, threshold)]
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
    """Measures the policy on held-out users every so often, and remembers the best measurement."""

    def __init__(
        self,
        config: RewardMonitorConfig,
        envs: Mixture,
        reward: CompositeReward,
        seed: int,
        iterations: int,
    ):
        """Open what the measurements need.

        Args:
            config: how often, how many.
            envs: whose dev split is played.
            reward: what the agent is paid by.
            seed: of the held-out conversations, which are the same in each measurement.
            iterations: of the run, which say how many measurements there will be.

        Raises:
            UserError: a second model that is none, or an environment that tells no success.
        """
        self.config, self.envs, self.reward, self.seed = config, envs, reward, seed
        learned = reward.learned is not None and reward.config.learned
        self.on = bool(config.every) and (learned or reward.rubric is not None)
        for env in envs.envs if self.on else ():
            if not is_ours(env):
                raise UserError(
                    "expected an environment that tells success, to measure a learned reward by; "
                    f"{env.env} does not; set --watch.every 0"
                )
        self.second: LearnedScorer | None = None
        if self.on and config.model is not None:
            self.second = load_scorer(config.model, reward.config.dtype)
        self.best: Checkup | None = None
        self.measurements = measurements(iterations, config.every)

    @property
    def threshold(self) -> float:
        """How many standard errors a fall has to exceed to ring."""
        return fall_threshold(self.measurements, 1 if self.second is None else 2)

    def due(self, iteration: int, last: int) -> bool:
        """Whether to measure after this iteration; always after the first and the last."""
        return self.on and (iteration % self.config.every == 0 or iteration == last)

    def evaluate(
        self, policy: Policy, rollout: RolloutConfig, iteration: int, ranks: Distributed
    ) -> Checkup:
        """Let the policy talk to held-out users, and measure what it says."""
        agent = ModelAgent.of(policy)
        own = range(ranks.index, self.config.episodes, ranks.count)
        with self.envs.pool("dev", kind_of(rollout)) as pool:
            played = play_episodes(agent, pool, own, self.seed, 1.0, rollout)
        policy.free_merged()
        gold = {"success": [float(bool(t.success)) for t in played]}
        if self.second is not None:
            gold["second model"] = _means(self.second, played)
        proxy = [t.score for t in self.reward.score(played, ranks)]

        def everyone(values: Sequence[float]) -> Measured:
            """Users in their order, whichever process each was played in."""
            found = ranks.gather(list(zip(own, values, strict=True)))
            return Measured.of([value for _, value in sorted(found)])

        return Checkup(
            iteration,
            everyone(proxy),
            {name: everyone(values) for name, values in gold.items()},
        )

    def compare(self, now: Checkup) -> str:
        """Compare with the best measurement so far; an alarm in words, or nothing."""
        best = self.best
        told = "" if best is None else now.alarm(best, self.threshold)
        if best is None or (not told and now.gold["success"].mean >= best.gold["success"].mean):
            self.best = now
        return told

    def to_json(self) -> dict[str, Any]:
        """The state that `take_up` reads: the best measurement."""
        return {"best": None if self.best is None else asdict(self.best)}

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        best = kept["best"]
        if best is not None:
            gold = {name: _measured(m) for name, m in best["gold"].items()}
            self.best = Checkup(best["iteration"], _measured(best["proxy"]), gold)


def measurements(iterations: int, every: int) -> int:
    """How often a run is measured: every so many iterations from the first, and after the last."""
    return 0 if not every else len({*range(0, iterations, every), iterations - 1})


def _measured(kept: Mapping[str, Any]) -> Measured:
    """Read a measurement back; runs of before kept no values."""
    return Measured(kept["mean"], kept["error"], tuple(kept.get("values", ())))


def _means(scorer: LearnedScorer, played: Sequence[Episode]) -> list[float]:
    """Each episode's score, a mean over its replies if those are scored."""
    parts = [parts_of(t.conversation, scorer.granularity) for t in played]
    scores = iter(scorer.score([part for own in parts for part in own]))
    return [fmean([next(scores) for _ in own]) for own in parts]
