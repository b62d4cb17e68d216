"""What is said of episodes while they are played."""

from __future__ import annotations

from rlchat.cli.pace import Pace
from rlchat.cli.sparkline import bounds
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import wilson


class Tally:
    """Episodes that have ended: how many, how many of them were solved, how fast they came."""

    def __init__(self, total: int, pace: Pace):
        """Nothing of ``total`` has ended yet; ``pace`` began with the first."""
        self.total, self.pace = total, pace
        self._scores: list[float] = []
        self._successes: list[bool] = []
        self._tokens = 0

    def add(self, trajectory: Trajectory) -> None:
        """Count an episode."""
        self._scores.append(trajectory.score)
        self._tokens += len(trajectory.ids)
        if trajectory.success is not None:
            self._successes.append(trajectory.success)

    def line(self) -> str:
        """What there is to say of them."""
        done = len(self._scores)
        if not done:
            return f"{self.total} episodes"
        rate = self._tokens / self.pace.spent if self.pace.spent > 0 else 0.0
        speed = f", {rate:.0f} tokens/s" if rate else ""
        left = self.pace.left_of(done, self.total)
        return f"episode {done} of {self.total}, {self._outcome()}{speed}{left}"

    def _outcome(self) -> str:
        if not self._successes:
            return f"return {sum(self._scores) / len(self._scores):+.2f}"
        solved = wilson(sum(self._successes), len(self._successes))
        return f"{sum(self._successes)} solved ({solved.mean:.0%}, {bounds(solved)})"
