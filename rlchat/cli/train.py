"""Verbs `train` and `sft`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from rlchat.cli.live.pace import minutes
from rlchat.cli.live.progress import Progress
from rlchat.cli.tables import dialogue, difference_table, ending, results_table, show_curve
from rlchat.evaluation.evaluate import EvaluationResult, difference
from rlchat.models.device import peak_memory
from rlchat.training.comparison import before_and_after, by_environment
from rlchat.training.config import SFTConfig, TrainConfig
from rlchat.training.metrics import Clock
from rlchat.training.pipeline import Training, sft
from rlchat.training.run_folder import RunFolder


def run_training(config: TrainConfig, console: Console) -> list[EvaluationResult]:
    """Train as configured, and evaluate before and after.

    Returns:
        The evaluation, if one was asked for: what PPO started from, PPO, demonstrator and expert.
    """
    training = Training.begin(config)
    config, main = training.config, training.distributed.main
    with Progress(console, config.iterations, not main, config.episodes) as progress:
        training.execute(progress)
    if main:
        show_curve(training.run, config, console)
        show(training.results, training.run, config, console)
        console.print(spent(training.clock), highlight=False, soft_wrap=True)
    training.distributed.end()
    return training.results


def spent(clock: Clock) -> str:
    """Say what a training took: time of each phase, and memory."""
    phases = {name.removeprefix("seconds/"): s for name, s in clock.seconds.items()}
    each = ", ".join(f"{name} {minutes(seconds)}" for name, seconds in phases.items())
    total = minutes(sum(phases.values()))
    return f"Took {total} minutes ({each}) and at most {peak_memory():.1f} GiB of memory."


def run_sft(config: SFTConfig, console: Console) -> None:
    """Train an adapter by imitation and write it."""
    with Progress(console) as progress:
        out = sft(config, progress)
    console.print(f"Talk to it:  {program()} chat {out}", highlight=False, markup=False)


def show(
    results: Sequence[EvaluationResult], run: RunFolder, config: TrainConfig, console: Console
) -> None:
    """Print the table, one dialogue before and after, and how to go on."""
    for own in by_environment(results):
        before, after = before_and_after(own)
        console.print(results_table(own))
        console.print(difference_table("PPO", before.agent, difference(after, before)))
        pairs = list(zip(before.episodes, after.episodes, strict=True))
        gained = [p for p in pairs if p[1].success and not p[0].success]
        for title, episode in zip(("before PPO", "after PPO"), (gained or pairs)[0], strict=True):
            console.print(
                Panel(dialogue(episode.conversation), title=f"{title}: {ending(episode)}")
            )
    for line in next_steps(run, config):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def next_steps(run: RunFolder, config: TrainConfig) -> Iterator[str]:
    """Commands that a trained agent can be used with, one a line."""
    command, more = program(), config.iterations + 10
    # In a foreign environment nobody can be the user: people talk to that agent without one.
    ours = config.mixture.ours
    named = " --env ''" if ours is None else f" --env {ours.envs[0].env}"
    where = named if ours is None or config.mixture.several else ""
    yield f"Talk to it:     {command} chat {run.folder}{where}"
    yield f"Measure it:     {command} eval {run.folder}"
    yield f"Look into it:   {command} report {run.folder}"
    yield f"Read it:        {run.transcripts} has every conversation of its practice"
    if run.iterations == config.iterations:
        yield (
            f"Practise more:  {command} train --config {run.folder} --run {run.folder} --resume "
            f"--iterations {more}"
        )


def program() -> str:
    """The command as it was started, which need not be on the path."""
    return sys.argv[0] if Path(sys.argv[0]).name == "rlchat" else "rlchat"
