"""Products idle and beside a busy process, under one policy of how OpenMP's threads wait.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/speed/waiting.py 3

OpenMP reads its policy as torch loads it, so that each policy needs a process of its own. This one
prints ``{"idle": …, "loaded": …}``, GFLOP/s of products of 256 x 576 x 1536.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

SHAPE = (256, 576, 1536)
# GNU's OpenMP reads the first two, LLVM's the first and the last.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
# By default threads without work spin for a while, and then sleep.
POLICIES: dict[str, dict[str, str]] = {"passive": PASSIVE, "spinning": {}}
# It also ends by itself, should whoever started it be killed and have no time to end it.
SPIN = """
import os, sys
print(flush=True)
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def busy_process() -> Iterator[int]:
    """Keep one core busy; give the id of the process that does."""
    command = [sys.executable, "-c", SPIN, str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()  # it has begun
            yield child.pid
        finally:
            child.kill()


def environment(policy: str, current: Mapping[str, str]) -> dict[str, str]:
    """The current environment with a waiting policy in the place of its own."""
    return {k: v for k, v in current.items() if k not in PASSIVE} | POLICIES[policy]


def told(current: Mapping[str, str]) -> str:
    """The waiting policy of an environment, for people."""
    words = [f"{name}={current[name]}" for name in PASSIVE if name in current]
    return " ".join(words) or "OpenMP's default"


def ask(policy: str, seconds: float) -> dict[str, float]:
    """GFLOP/s of products in a process with that policy, idle and loaded."""
    done = subprocess.run(
        [sys.executable, __file__, str(seconds)],
        env=environment(policy, os.environ),
        stdout=subprocess.PIPE,
        check=True,
    )
    rates: dict[str, float] = json.loads(done.stdout)
    return rates


def rate(seconds: float) -> float:
    """GFLOP/s of products for so many seconds."""
    rows, inner, columns = SHAPE
    a, b = torch.ones(rows, inner), torch.ones(inner, columns)
    begun, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < seconds:
        a @ b
        count += 1
    return 2 * rows * inner * columns * count / spent / 1e9


def main(seconds: float) -> None:
    """Measure both, and print them."""
    rate(0.5)  # threads start, and the processor comes to its speed
    idle = rate(seconds)
    with busy_process():
        loaded = rate(seconds)
    sys.stdout.write(json.dumps({"idle": idle, "loaded": loaded}) + "\n")


if __name__ == "__main__":
    main(float(sys.argv[1]))
