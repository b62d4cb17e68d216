"""The verb `sweep`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro import conf

from rlchat.training.config import TrainConfig
from rlchat.training.sweep.config import SweepConfig

if TYPE_CHECKING:
    from rich.console import Console

    from rlchat.training.sweep.sweep import Sweep


@dataclass(frozen=True, kw_only=True)
class SweepOptions(SweepConfig):
    """Train several seeds, or a grid of settings, and say what they come to together.

    Options are those of rlchat train, and --seeds, --grid, --out, --split and --against besides.
    Each setting with each seed is trained as rlchat train does, one after the other, in a run
    folder that rlchat report, chat and eval take; every finished run is measured on the same users.
    The same command goes on where it was stopped.

    Three seeds of one setting:

        rlchat sweep --policy starter:warm-start --iterations 5 --seeds 0 1 2 --out runs/sweep

    Two learning rates with two prices of KL, so four settings and twelve runs:

        rlchat sweep --grid ppo.learning-rate=1e-4,2.5e-4 ppo.beta=0.01,0.1 --out runs/grid
    """

    run: Annotated[Path, conf.Suppress] = TrainConfig.run
    """Run folder, which the sweep names itself."""
    seed: Annotated[int, conf.Suppress] = TrainConfig.seed
    """Seed of one run, which --seeds names."""
    resume: Annotated[bool, conf.Suppress] = TrainConfig.resume
    """Going on, which a sweep always does."""


def run_sweep(options: SweepOptions, console: Console) -> None:
    """Train what is not trained yet, and print what all runs come to.

    Raises:
        RunError: some run could not be trained.
    """
    from rlchat.cli.analysis.sweep_tables import show_aggregates
    from rlchat.cli.live.progress import Progress
    from rlchat.cli.train import program
    from rlchat.errors import RunError
    from rlchat.training.sweep.sweep import RECORD, Sweep

    with Progress(console) as progress:
        sweep = Sweep.begin(options, progress)
    waiting = sweep.waiting()
    console.print(_beginning(sweep, len(waiting)), highlight=False, soft_wrap=True)
    for planned in waiting:
        number = sweep.runs.index(planned) + 1
        title = f"Run {number} of {len(sweep.runs)}: {planned.name}{_time_left(sweep)}"
        console.print(title, style="bold", highlight=False, markup=False, soft_wrap=True)
        with Progress(console, planned.config.iterations, episodes=options.episodes) as progress:
            sweep.execute(planned, progress)
    show_aggregates(sweep, console)
    lines = [
        f"Numbers:        {options.out / RECORD}",
        f"Look into it:   {program()} report {options.out}",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if failed := sweep.failures:
        raise RunError(
            f"{len(failed)} of {len(sweep.runs)} runs failed ({'; '.join(failed)}); the same "
            "command tries them again"
        )


def _beginning(sweep: Sweep, waiting: int) -> str:
    """Say how many runs there are, and how many are left."""
    settings, seeds = len({run.setting for run in sweep.runs}), len(sweep.config.seeds)
    told = f"{_count(settings, 'setting')} × {_count(seeds, 'seed')}: {len(sweep.runs)} runs"
    done = len(sweep.runs) - waiting
    return f"{told}, {done} of them finished" if done else told


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _time_left(sweep: Sweep) -> str:
    """The time that this run and the rest take, once one has been trained."""
    from rlchat.cli.live.pace import minutes

    left = sweep.left()
    return "" if math.isnan(left) else f"; about {minutes(left)} left for all runs"
