"""Verbs `train`, `sft` and `eval`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from rich.panel import Panel

from rlchat import files
from rlchat.cli.curve import show_curve
from rlchat.cli.pace import minutes
from rlchat.cli.progress import Progress
from rlchat.cli.tables import dialogue, difference_table, ending, results_table
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.evaluation.evaluate import EvaluationResult, check_range, difference, evaluate
from rlchat.inference.load_agent import load_agent
from rlchat.models.adapter_io import adapter_folder, base_spec
from rlchat.models.adapters import AdapterConfig, leave_shape
from rlchat.models.device import peak_memory
from rlchat.models.policy import Policy
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.conversations import read_conversations
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.environment import EnvConfig, EnvPool, TextEnv
from rlchat.settings import SEEDS, expect, names
from rlchat.training.comparison import before_and_after
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.metrics import Clock
from rlchat.training.pipeline import _refuse_to_overwrite, _train, resumed, warm
from rlchat.training.run_folder import RunFolder
from rlchat.training.tracking import Tracking, chosen


def run_training(config: TrainConfig, console: Console) -> list[EvaluationResult]:
    """Train as configured, and evaluate before and after.

    Returns:
        The evaluation, if one was asked for: what PPO started from, PPO, demonstrator and expert.
    """
    ranks = Distributed(cpu=config.adapter.device == "cpu" or not torch.cuda.is_available())
    run = RunFolder(config.run)
    TextEnv(config.world)  # a mistake in the environment's name is better told before anything long
    trackers = chosen(config.track)
    if config.episodes < ranks.count:
        raise UserError(
            f"expected at least one episode for each process; got --episodes {config.episodes} "
            f"and {ranks.count} processes"
        )
    if config.resume:
        if ranks.main:
            files.recover_folder(run.checkpoint)
        ranks.wait()
        config = resumed(config, run)
    elif ranks.main:
        _refuse_to_overwrite(run)
    clock = Clock()
    with (
        Tracking(trackers, run, ranks, config.resume) as tracking,
        Progress(console, config.iterations, not ranks.main, config.episodes) as progress,
    ):
        results = _train(config, run, ranks, clock, progress, lambda: tracking.watching(progress))
    if ranks.main:
        show_curve(run, results, config, console)
        show(results, run, config, console)
        console.print(spent(clock), highlight=False, soft_wrap=True)
    ranks.end()
    return results


def spent(clock: Clock) -> str:
    """What a training took: time of each phase, and memory."""
    phases = {name.removeprefix("seconds/"): s for name, s in clock.seconds.items()}
    each = ", ".join(f"{name} {minutes(seconds)}" for name, seconds in phases.items())
    total = minutes(sum(phases.values()))
    return f"Took {total} minutes ({each}) and at most {peak_memory():.1f} GiB of memory."


@dataclass(frozen=True)
class SftOptions:
    """Warm-start a model on demonstrations, or on conversations from a file."""

    env: str = "rlchat/Support-v0"
    """Environment whose demonstrator is imitated."""
    knowledge: str = ""
    """What the desk looks up, comma-separated: bm25, dense or hybrid (the scenario's documents, or
    bm25:FOLDER of text files), graph (its facts, or graph:FILE.tsv or .ttl); nothing if empty."""
    data: Path | None = None
    """Conversations instead: JSON lines of {"messages": [{"role", "content"}, …]}."""
    policy: str = "smollm2-135m"
    """What is trained: a model, a Hugging Face id, a folder, or a run."""
    out: Path = Path("runs/warm-start")
    """Where the adapter goes."""
    seed: int = 0
    """Decides demonstrations, initial weights and order."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "seed", 0 <= self.seed < SEEDS, f"of at least 0 and below {SEEDS}")


def run_sft(options: SftOptions, console: Console) -> None:
    """Train an adapter by imitation and write it."""
    if options.out.exists():
        raise UserError(f"expected a new folder; {options.out} exists; name another with --out")
    files.check_place(options.out)
    if options.data is not None:
        conversations = read_conversations(options.data)
    else:
        world = EnvConfig(options.env, knowledge=names(options.knowledge))
        conversations = demonstrate(world, options.warm_start.demonstrations, options.seed)
    base, start = options.policy, adapter_folder(options.policy)
    if start is not None:
        leave_shape(options.adapter, start)
        base = base_spec(start)
    with Progress(console) as progress:
        policy = Policy.create(base, options.adapter, start, options.seed, progress.say)
        warm(policy, conversations, options.warm_start, options.seed, options.out, progress)
    console.print(f"Talk to it:  {program()} chat {options.out}", highlight=False, markup=False)


@dataclass(frozen=True)
class EvalOptions:
    """Measure an agent against simulated users, with intervals."""

    agent: Annotated[str, tyro.conf.Positional]
    """A run or adapter folder, or a name: base, expert, demonstrator, random."""
    env: str = "rlchat/Support-v0"
    """Environment: a Gymnasium id, or module:Id."""
    users: str = ""
    """Families of users, comma-separated; `rlchat envs` lists them."""
    knowledge: str = ""
    """What the desk looks up, comma-separated: bm25, dense or hybrid (the scenario's documents, or
    bm25:FOLDER of text files), graph (its facts, or graph:FILE.tsv or .ttl); nothing if empty."""
    split: Literal["train", "dev", "test"] = "dev"
    """Side: tune on dev; touch test only for what you publish."""
    episodes: int = 100
    """How many users."""
    seed: int = 0
    """Decides users and goals; the same for every agent."""
    temperature: float = 0.0
    """0 is greedy; 1 is how it was trained."""
    against: str = ""
    """Another agent, for paired differences on the same users."""
    policy: str = "smollm2-135m"
    """The model that `base` stands for."""
    json: Path | None = None
    """Write everything there, every episode included."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        check_range(self.episodes, self.temperature)


def run_evaluation(options: EvalOptions, console: Console) -> None:
    """Evaluate an agent, and another beside it if one was named."""
    place = options.json
    if place is not None and (place.is_dir() or not place.resolve().parent.is_dir()):
        raise UserError(f"expected a file in a folder that exists; got --json {place}")
    world = EnvConfig(options.env, names(options.users), knowledge=names(options.knowledge))
    TextEnv(world, options.split)
    results = []
    with Progress(console) as progress:
        for name in (options.agent, options.against) if options.against else (options.agent,):
            agent = load_agent(name, options.policy, options.adapter, progress.say)
            watch = progress.counter(f"evaluating {name}", options.episodes)
            results.append(
                evaluate(
                    name,
                    agent,
                    world,
                    options.split,
                    options.episodes,
                    options.seed,
                    options.temperature,
                    options.rollout,
                    watch,
                )
            )
    console.print(results_table(results))
    answer = results[0].to_json()
    if options.against:
        differences = difference(results[0], results[1])
        console.print(difference_table(options.agent, options.against, differences))
        answer["against"] = results[1].to_json()
        answer["difference"] = {k: asdict(v) for k, v in differences.items()}
    if options.json is not None:
        files.write_json(options.json, answer)


def show(
    results: Sequence[EvaluationResult], run: RunFolder, config: TrainConfig, console: Console
) -> None:
    """Print the table, one dialogue before and after, and how to go on."""
    if results:
        before, after = before_and_after(results)
        console.print(results_table(results))
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
    """What can be done with a trained agent: commands, one a line."""
    command, ours = program(), EnvPool(config.world).ours
    # In a foreign environment nobody can be the user: people talk to that agent without one.
    place_to_talk = config.env if ours else "''"
    more = config.iterations + 10
    policy = "" if config.policy == TrainConfig.policy else f" --policy {config.policy}"
    yield f"Talk to it:     {command} chat {run.folder} --env {place_to_talk}"
    yield f"Measure it:     {command} eval {run.folder} --env {config.env}"
    yield f"Read it:        {run.transcripts} has every conversation of its practice"
    if run.iterations == config.iterations:
        yield (
            f"Practise more:  {command} train --run {run.folder}{policy} --resume "
            f"--iterations {more} and the other options of this training"
        )


def program() -> str:
    """The command as it was started, which need not be on the path."""
    return sys.argv[0] if Path(sys.argv[0]).name == "rlchat" else "rlchat"
