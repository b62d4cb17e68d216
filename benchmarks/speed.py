"""Time one iteration's phases on this machine.

    make bench

Plays, annotates and updates the same way as `rlchat train`, from a fresh adapter, and prints
seconds and tokens a second, medians over repeats. Measure alone: on a small machine a second
busy process costs far more than half.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from rlchat.cli import quiet
from rlchat.config import TrainConfig, WarmStartConfig
from rlchat.machine import peak_memory
from rlchat.policy import Policy
from rlchat.ranks import Ranks
from rlchat.runs import Run, read_metrics
from rlchat.train import train

PHASES = ("rollout", "annotate", "update")


@dataclass(frozen=True)
class SpeedOptions:
    """Time rollouts, annotation and updates."""

    policy: str = "smollm2-135m"
    """The model."""
    episodes: int = 32
    """Episodes an iteration."""
    repeats: int = 3
    """Timed iterations, after one that is not."""


def main(options: SpeedOptions) -> None:
    """Run the iterations and print the table."""
    config = TrainConfig(
        policy=options.policy,
        episodes=options.episodes,
        iterations=options.repeats + 1,
        warm_start=WarmStartConfig(demonstrations=0),
    )
    policy = Policy.create(config.policy, config.adapter)
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(Path(scratch) / "run")
        run.folder.mkdir()
        train(replace(config, run=run.folder), policy, run, Ranks(cpu=True))
        rows = read_metrics(run.metrics)[1:]
    table = Table("phase", "seconds", "tokens/s", title=f"{options.episodes} episodes")
    for phase in PHASES:
        seconds = statistics.median(row[f"seconds/{phase}"] for row in rows)
        passes = config.ppo.epochs if phase == "update" else 1
        rate = statistics.median(passes * row["tokens"] / row[f"seconds/{phase}"] for row in rows)
        table.add_row(phase, f"{seconds:.1f}", f"{rate:.0f}")
    table.caption = (
        f"{policy.dtype}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{platform.machine()}, peak {peak_memory():.1f} GiB"
    )
    Console().print(table)


if __name__ == "__main__":
    quiet()
    main(tyro.cli(SpeedOptions))
