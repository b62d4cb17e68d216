"""Choice of how many threads compute and how they wait, made before torch loads.

OpenMP's threads spin while they wait for the slowest of them. On a machine that does something else
as well, a spinning thread takes the core that the slowest one needs: beside two busy processes on
two cores, products ran at a sixth of their speed, and at two thirds with threads that sleep. Alone,
sleeping costs nothing that could be measured (docs/lab.md). OpenMP reads all of this once, from the
environment, when it is loaded with torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, MutableMapping
from pathlib import Path

# GNU's OpenMP, which torch's wheels for Linux hold, and LLVM's, which those for macOS hold.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
THREADS = "OMP_NUM_THREADS"
_TOPOLOGY = Path("/sys/devices/system/cpu")
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def choose_threads(environment: MutableMapping[str, str]) -> None:
    """Set what OpenMP reads, unless the user has set it.

    Args:
        environment: is changed; ``os.environ``.
    """
    for name, value in WAITING.items():
        environment.setdefault(name, value)
    environment.setdefault(THREADS, str(usable_cores()))


def usable_cores() -> int:
    """Cores that this process may use at once, at least one.

    Hyperthreads of one core count once, since products keep a core busy. Of a container's quota
    the last fraction of a core counts whole: threads that sleep share it without loss.
    """
    if hasattr(os, "sched_getaffinity"):
        processors: Iterable[int] = os.sched_getaffinity(0)
    else:  # macOS and Windows
        processors = range(os.cpu_count() or 1)
    cores = {_siblings(processor) for processor in processors}
    return max(1, math.ceil(min(len(cores), quota())))


def _siblings(processor: int) -> str:
    """A key that processors share if they are hyperthreads of one core."""
    try:
        path = _TOPOLOGY / f"cpu{processor}" / "topology" / "thread_siblings_list"
        return path.read_text("ascii").strip()
    except OSError:
        return str(processor)


def quota() -> float:
    """Cores that control groups grant this process, the least of all that it is in."""
    try:
        lines = _OWN_GROUPS.read_text("utf-8").splitlines()
    except OSError:
        return math.inf
    granted = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            granted += [_quota_2(folder) for folder in _upwards(_GROUPS, path)]
        elif "cpu" in controllers.split(","):
            granted += [_quota_1(folder) for folder in _upwards(_GROUPS / "cpu", path)]
    return min(granted)


def _upwards(root: Path, path: str) -> list[Path]:
    """A group's folder and those above it, up to the root, whose limits hold as well."""
    folder = root / path.strip("/")
    return [folder, *(f for f in folder.parents if f == root or root in f.parents)]


def _quota_2(folder: Path) -> float:
    """Read ``cpu.max``: microseconds of computing, or max, and the period."""
    try:
        allowed, period = (folder / "cpu.max").read_text("ascii").split()
        return math.inf if allowed == "max" else int(allowed) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _quota_1(folder: Path) -> float:
    """Read ``cpu.cfs_quota_us``, which is -1 without a limit, and the period."""
    try:
        allowed = int((folder / "cpu.cfs_quota_us").read_text("ascii"))
        period = int((folder / "cpu.cfs_period_us").read_text("ascii"))
        return math.inf if allowed < 0 else allowed / period
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
