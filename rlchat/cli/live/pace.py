"""Estimates of the time left, and a thread that calls a function at intervals meanwhile."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from rlchat.cli.tables import bounds
from rlchat.listener import FinishedTrajectory
from rlchat.statistics import wilson

_FIRST = 64  # as many are under way at once by default


class Pace:
    """Time spent on something, and the time left as far as that tells."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """Start measuring time now."""
        self._clock, self._begun = clock, clock()

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._begun

    def left(self, share: float) -> str:
        """``", 1:20 left"`` while a share is done; nothing before and nothing at the end."""
        return f", {minutes(self.spent * (1 - share) / share)} left" if 0 < share < 1 else ""

    def left_of(self, done: int, total: int) -> str:
        """``", 1:20 left"`` of things that are counted, once a quarter of them or 64 are done.

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
        """Stop the thread; the function is not called again."""
        self._over.set()
        self.join()


def minutes(seconds: float) -> str:
    """Write seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Tally:
    """Episodes that have ended: how many, how many of them were solved, how fast they came."""

    def __init__(self, total: int, pace: Pace):
        """Count from none of ``total``; ``pace`` began with the first."""
        self.total, self.pace = total, pace
        self._scores: list[float] = []
        self._successes: list[bool] = []
        self._tokens = 0

    def add(self, episode: FinishedTrajectory) -> None:
        """Count an episode that has ended."""
        self._scores.append(episode.score)
        self._tokens += len(episode.ids)
        if episode.success is not None:
            self._successes.append(episode.success)

    def line(self) -> str:
        """Describe the episodes so far in one line."""
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


MATTERS = 0.25  # of a core, used by others


@dataclass(frozen=True, slots=True)
class Used:
    """Seconds so far: by the clock, of all processors in use, and of those the part that is own."""

    clock: float
    everybody: float
    own: float


class Load:
    """Cores that other processes use, from one sample to the next."""

    def __init__(self, read: Callable[[], Used] | None = None, cores: int | None = None):
        """Take the first sample now.

        Args:
            read: gives the counters; the system's if left out.
            cores: how many there are; those that this process may use if left out.
        """
        self.cores = cores or len(processors())
        self._read = read or read_used
        self._last = self._now()

    def sample(self) -> float:
        """Cores used by others since the last sample; NaN where the system does not tell."""
        last, now = self._last, self._now()
        if last is None or now is None or now.clock <= last.clock:
            return math.nan
        self._last = now
        others = (now.everybody - last.everybody) - (now.own - last.own)
        return min(float(self.cores), max(0.0, others / (now.clock - last.clock)))

    def _now(self) -> Used | None:
        try:
            return self._read()
        except (OSError, psutil.Error):
            return None


def slowed(others: float, cores: int, speed: float | None = None) -> str:
    """A sentence about other processes for people, or nothing where they use little.

    Args:
        others: cores that other processes use.
        cores: how many there are.
        speed: of practice now, as a share of its fastest so far, if that is known.
    """
    if math.isnan(others) or others < MATTERS:
        return ""
    line = f"other processes use {others:.2f} of {cores} core{'s' * (cores != 1)}"
    if speed is None:
        return line
    share = "" if speed > 0.995 else f"{speed:.2g} of "
    return f"{line}; practice runs at {share}its fastest speed"


def read_used() -> Used:
    """The system's counters, of the processors that this process may use.

    Time that a hypervisor gave to others counts as used.
    """
    times, allowed = psutil.cpu_times(percpu=True), processors()
    used = [_busy(t) for number, t in enumerate(times) if number in allowed]
    return Used(time.monotonic(), sum(used), _own())


def processors() -> set[int]:
    """The numbers of the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(psutil.cpu_count() or 1))


def _busy(times: Any) -> float:
    """Seconds that a processor was in use; what it did for guests is in user and nice already."""
    extra = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(times) - sum(getattr(times, name, 0.0) for name in extra))


def _own() -> float:
    """Seconds of this process and its children, those that have ended included.

    Processes that a launcher started to train together are one: theirs are the launcher's children.
    """
    root = psutil.Process()
    if "LOCAL_RANK" in os.environ:
        root = root.parent() or root
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has just ended
            t = process.cpu_times()
            total += t.user + t.system + t.children_user + t.children_system
    return total
