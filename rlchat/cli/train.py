"""Verbs `train`, `sft`, `eval` and `eval inspect`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel

from rlchat import files
from rlchat.cli.live.pace import minutes
from rlchat.cli.live.progress import Progress
from rlchat.cli.options import EvalOptions, InspectOptions
from rlchat.cli.tables import dialogue, difference_table, ending, results_table, show_curve
from rlchat.errors import UserError
from rlchat.evaluation.evaluate import EvaluationResult, difference, evaluate
from rlchat.evaluation.inspect_log import read_results, write_logs
from rlchat.inference.load_agent import load_agent
from rlchat.models.device import peak_memory
from rlchat.rollout.probe import probe
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


def run_evaluation(options: EvalOptions, console: Console) -> None:
    """Evaluate an agent, and another beside it if one was named."""
    place = options.json
    if place is not None and (place.is_dir() or not place.resolve().parent.is_dir()):
        raise UserError(f"expected a file in a folder that exists; got --json {place}")
    envs = options.envs_of(options.agent)
    for env in envs:
        probe(env, options.rollout, options.split)
    results: list[list[EvaluationResult]] = [[] for _ in envs]
    with Progress(console) as progress:
        for name in (options.agent, options.against) if options.against else (options.agent,):
            agent = load_agent(name, options.policy, options.adapter, progress.say)
            for env, own in zip(envs, results, strict=True):
                where = f" in {env.env}" if len(envs) > 1 else ""
                on_episode = progress.counter(f"evaluating {name}{where}", options.episodes)
                own.append(evaluate(agent, env, options, name, on_episode))
    answers = [_tell(own, options, console) for own in results]
    if options.json is not None:
        several = len(answers) > 1
        files.write_json(options.json, {"environments": answers} if several else answers[0])


def _tell(
    results: Sequence[EvaluationResult], options: EvalOptions, console: Console
) -> dict[str, Any]:
    """Print what was measured in one environment, and give it as JSON."""
    console.print(results_table(results))
    answer = results[0].to_json()
    if options.against:
        differences = difference(results[0], results[1])
        console.print(difference_table(options.agent, options.against, differences))
        answer["against"] = results[1].to_json()
        answer["difference"] = {k: asdict(v) for k, v in differences.items()}
    return answer


def run_inspect(options: InspectOptions, console: Console) -> None:
    """Write an evaluation as logs of Inspect."""
    results = read_results(options.results)
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"expected a folder after --out; {options.out} is a file; name another")
    made = datetime.fromtimestamp(options.results.stat().st_mtime, UTC)
    for path in write_logs(results, options.out, made):
        console.print(str(path), highlight=False, markup=False, soft_wrap=True)
    last = f"Look at them:  inspect view --log-dir {options.out}"
    console.print(last, highlight=False, markup=False, soft_wrap=True)


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
    yield f"Read it:        {run.transcripts} has every conversation of its practice"
    if run.iterations == config.iterations:
        yield (
            f"Practise more:  {command} train --config {run.folder} --run {run.folder} --resume "
            f"--iterations {more}"
        )


def program() -> str:
    """The command as it was started, which need not be on the path."""
    return sys.argv[0] if Path(sys.argv[0]).name == "rlchat" else "rlchat"
