"""How long something takes yet, and a thread that ticks meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rlchat.cli.curve import bounds
from rlchat.listener import FinishedTrajectory
from rlchat.statistics import wilson

_FIRST = 64  # as many are under way at once by default


class Pace:
    """Time spent on something, and the time left as far as that tells."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """Begin now."""
        self._clock, self._begun = clock, clock()

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._begun

    def left(self, share: float) -> str:
        """``", 1:20 left"`` while a share is done; nothing before and nothing at the end."""
        return f", {minutes(self.spent * (1 - share) / share)} left" if 0 < share < 1 else ""

    def left_of(self, done: int, total: int) -> str:
        """The same of things that are counted, once a quarter of them or 64 are done.

        Many are under way at once, so the first to end say little about when the others will.
        """
        return self.left(done / total) if done >= min(_FIRST, total / 4) else ""


class Beat(threading.Thread):
    """Calls a function again and again, in a thread of its own, until it is ended."""

    def __init__(self, tick: Callable[[], None], seconds: float = 1.0):
        """Call ``tick`` with so many seconds between; `start` begins."""
        super().__init__(name="beat", daemon=True)
        self._tick, self._seconds = tick, seconds
        self._over = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Tick until the end, or until a tick fails."""
        try:
            while not self._over.wait(self._seconds):
                self._tick()
        except BaseException as error:  # rich leaves a closed pipe by SystemExit
            self._failure = error

    def check(self) -> None:
        """Raise what a tick raised, in the thread that calls this."""
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """Tick no more."""
        self._over.set()
        self.join()


def minutes(seconds: float) -> str:
    """Seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Tally:
    """Episodes that have ended: how many, how many of them were solved, how fast they came."""

    def __init__(self, total: int, pace: Pace):
        """Nothing of ``total`` has ended yet; ``pace`` began with the first."""
        self.total, self.pace = total, pace
        self._scores: list[float] = []
        self._successes: list[bool] = []
        self._tokens = 0

    def add(self, episode: FinishedTrajectory) -> None:
        """Count an episode."""
        self._scores.append(episode.score)
        self._tokens += len(episode.ids)
        if episode.success is not None:
            self._successes.append(episode.success)

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
