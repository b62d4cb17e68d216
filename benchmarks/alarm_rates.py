"""How often the reward monitor rings in runs whose success stays, and in runs whose success falls.

    make coverage

Simulated runs: the reward rises at every look, success on held-out users stays or falls. The looks
are compared by the monitor itself. The table goes into docs/method/rewards.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import tyro
from numpy.typing import NDArray
from pages import put

from rlchat.rewards.composite import CompositeReward
from rlchat.rewards.config import RewardConfig
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.mixture import Mixture
from rlchat.training.config import RewardMonitorConfig
from rlchat.training.reward_monitor import Checkup, Measured, RewardMonitor
from rlchat_reward_models.scorer import LearnedScorer

RATES = (0.05, 0.3, 0.5, 0.7, 0.9)  # nearer the ends it rings less
LOOKS = (7, 13)
USERS = (64, 256)
OWN = 0.5  # of what decides an episode, the user's part, which is the same at each look
BEFORE = 0.7  # success before it falls, at the last three looks of a run
FALLS = (0.1, 0.2, 0.3)
PAGE = Path(__file__).parent.parent / "docs/method/rewards.md"
BEGIN, END = "<!-- alarm rates, made by make coverage -->", "<!-- end -->"


@dataclass(frozen=True)
class AlarmOptions:
    """Simulate runs, and write how often the reward monitor rings into the docs."""

    runs: int = 4_000
    """Simulated runs of each kind."""
    seed: int = 0
    """Of what is drawn."""
    write: bool = True
    """Write the table into docs/method/rewards.md."""


def rings(
    rng: np.random.Generator,
    rates: Sequence[float],
    users: int,
    runs: int,
    second: bool = False,
) -> float:
    """The share of runs in which the alarm rings at any look.

    Args:
        rng: draws.
        rates: of success, at each look.
        users: of a look.
        runs: how many.
        second: whether another reward model is watched too, which stays as it is.
    """
    monitor, rung = _monitor(len(rates), second), 0
    for _ in range(runs):
        monitor.best = None
        rung += _rings(monitor, rng, rates, users)
    return rung / runs


def _rings(
    monitor: RewardMonitor, rng: np.random.Generator, rates: Sequence[float], users: int
) -> bool:
    own, liking = rng.random(users), rng.standard_normal(users)
    for look, rate in enumerate(rates):
        decided = np.where(rng.random(users) < OWN, own, rng.random(users))
        gold = {"success": _measured((decided < rate).astype(float))}
        if monitor.second is not None:
            fresh = rng.standard_normal(users)
            gold["second model"] = _measured(OWN**0.5 * liking + (1 - OWN) ** 0.5 * fresh)
        if monitor.compare(Checkup(look, Measured(float(look), 0.01), gold)):
            return True
    return False


def _measured(values: NDArray[np.float64]) -> Measured:
    """`Measured.of`, which takes its time to be exact."""
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    return Measured(float(values.mean()), error, tuple(values.tolist()))


def _monitor(looks: int, second: bool) -> RewardMonitor:
    """A monitor of a run with so many looks."""
    every = RewardMonitorConfig.every
    monitor = RewardMonitor(
        RewardMonitorConfig(),
        Mixture.of([EnvConfig()]),
        CompositeReward(RewardConfig()),
        seed=0,
        iterations=(looks - 1) * every + 1,
    )
    if second:  # only whether there is one is asked for here
        monitor.second = cast(LearnedScorer, object())
    return monitor


def report(options: AlarmOptions) -> str:
    """The table, whose rows are simulated side by side."""
    falls = [f"falls from {BEFORE} to {BEFORE - fall:.1f}" for fall in FALLS]
    head = ["looks", "users", "success stays", "so does a second model's score", *falls]
    cases = [(options, looks, users) for looks in LOOKS for users in USERS]
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(row, *zip(*cases, strict=True)))
    return "\n".join(
        [
            f"Share of runs in which the alarm rings: {options.runs:,} simulated runs a number "
            f"(seed {options.seed}). Success that stays is at {', '.join(map(str, RATES))}.",
            "",
            f"| {' | '.join(head)} |",
            f"|{'---|' * len(head)}",
            *rows,
        ]
    )


def row(options: AlarmOptions, looks: int, users: int) -> str:
    """One row of the table, with draws of its own."""
    rng, runs = np.random.default_rng([options.seed, looks, users]), options.runs
    cells = []
    for second in (False, True):
        found = [rings(rng, [rate] * looks, users, runs, second) for rate in RATES]
        cells.append(f"{min(found):.1%} to {max(found):.1%}")
    for fall in FALLS:
        rates = [BEFORE] * (looks - 3) + [BEFORE - fall] * 3
        cells.append(f"{rings(rng, rates, users, runs):.0%}")
    return f"| {looks} | {users} | {' | '.join(cells)} |"


def main(options: AlarmOptions) -> None:
    """Simulate, print, and write."""
    text = report(options)
    print(text)
    if options.write:
        put(PAGE, text, BEGIN, END)


if __name__ == "__main__":
    main(tyro.cli(AlarmOptions))
