"""How much of the processors other processes use."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

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
        """Begin now.

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
