"""What the verbs train, sft and eval do, from options to what is printed."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console

from rlchat import files
from rlchat.cli.pace import minutes
from rlchat.cli.progress import Progress
from rlchat.cli.tables import difference_table, results_table
from rlchat.distributed import Ranks
from rlchat.errors import UserError
from rlchat.evaluation.evaluate import Result, check_range, difference, evaluate
from rlchat.inference.agents import adapter_folder, load_agent
from rlchat.listener import Watcher
from rlchat.models.adapter_io import base_spec
from rlchat.models.adapters import AdapterConfig, leave_shape
from rlchat.models.device import peak_memory
from rlchat.models.policy import Policy
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.conversations import read_conversations
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.environment import World, WorldConfig, Worlds
from rlchat.settings import SEEDS, expect, names
from rlchat.training.comparison import measure_end, measure_start, program, show
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.learning_curve import show_curve
from rlchat.training.loop import train
from rlchat.training.metrics import Clock
from rlchat.training.run_folder import Run, to_json
from rlchat.training.sft import warm_start
from rlchat.training.tracking import Tracking, chosen
from rlchat_envs import Conversation


def run_training(config: TrainConfig, console: Console) -> list[Result]:
    """Train as configured, and evaluate before and after.

    Returns:
        The evaluation, if one was asked for: what PPO started from, PPO, demonstrator and expert.
    """
    ranks = Ranks(cpu=config.adapter.device == "cpu" or not torch.cuda.is_available())
    run = Run(config.run)
    World(config.world)  # a mistake in the environment's name is better told before anything long
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


def _train(
    config: TrainConfig,
    run: Run,
    ranks: Ranks,
    clock: Clock,
    progress: Progress,
    watching: Callable[[], Watcher],
) -> list[Result]:
    """Prepare, measure, practise, measure again; the first process alone measures."""
    measured, results = bool(config.evaluation) and ranks.main, []
    policy = prepare(config, run, ranks, progress)
    clock.lap("preparing")
    if measured:
        before = measure_start(config, policy, run, progress)
        clock.lap("measuring")
    train(config, policy, run, ranks, watching())
    clock.lap("practice")
    if measured:
        results = measure_end(config, policy, run, progress, before)
        clock.lap("measuring again")
    return results


def spent(clock: Clock) -> str:
    """What a training took: time of each phase, and memory."""
    phases = {name.removeprefix("seconds/"): s for name, s in clock.seconds.items()}
    each = ", ".join(f"{name} {minutes(seconds)}" for name, seconds in phases.items())
    total = minutes(sum(phases.values()))
    return f"Took {total} minutes ({each}) and at most {peak_memory():.1f} GiB of memory."


def prepare(config: TrainConfig, run: Run, ranks: Ranks, progress: Progress) -> Policy:
    """Bring base and warm start together; leave the PPO reference in the run folder."""
    progress.phase(f"loading {config.policy}")
    start = adapter_folder(config.policy)
    base = config.policy if start is None else base_spec(start)
    if ranks.main and config.resume and run.warm_start.is_dir():
        recorded = run.read_config()
        if recorded["iterations"] != config.iterations:
            run.write_config(replace(config, resume=False), recorded["resolved"])
    elif ranks.main:
        _begin(config, run, ranks, progress, base, start)
        gc.collect()  # the policy of the warm start, before there is another
    ranks.wait()
    # One precision for warm start, PPO and all ranks: measuring it twice might give two.
    adapter = replace(config.adapter, dtype=run.read_config()["resolved"]["dtype"])
    return Policy.create(base, adapter, run.warm_start, config.seed, progress.say)


def _begin(
    config: TrainConfig, run: Run, ranks: Ranks, progress: Progress, base: str, start: Path | None
) -> None:
    """Write the settings and the adapter that PPO starts from."""
    if start is not None:
        leave_shape(config.adapter, start)
        progress.say(f"no warm start: {config.policy} is what PPO goes on from")
    policy = Policy.create(base, config.adapter, start, config.seed, progress.say)
    resolved = {
        "dtype": str(policy.dtype).removeprefix("torch."),
        "device": str(policy.device),
        "threads": torch.get_num_threads(),
        "processes": ranks.count,
        "base": asdict(policy.base),
    }
    run.write_versions()
    run.write_config(config, resolved)
    if start is None and config.warm_start.demonstrations and Worlds(config.world).ours:
        progress.phase("playing demonstrations")
        conversations = demonstrate(config.world, config.warm_start.demonstrations, config.seed)
        with ranks.alone():
            warm(policy, conversations, config.warm_start, config.seed, run.warm_start, progress)
    else:
        policy.save(run.warm_start)


def warm(
    policy: Policy,
    conversations: Sequence[Conversation],
    config: WarmStartConfig,
    seed: int,
    out: Path,
    progress: Progress,
) -> None:
    """Warm-start a policy on conversations, and record how the validation loss fell."""
    progress.phase(f"warm start: {len(conversations)} conversations")
    show_share = progress.share("warm start")

    def report(row: object) -> None:
        assert isinstance(row, dict)
        if "loss" in row:
            show_share(row["done"], f"loss {row['loss']:.3f}")
        if "eval_loss" in row:
            progress.say(f"warm start: validation loss {row['eval_loss']:.4f} nats a token")

    losses = warm_start(policy, conversations, config, seed, out, report=report)
    files.write_json(out / "validation_losses.json", losses)


def resumed(config: TrainConfig, run: Run) -> TrainConfig:
    """Check that a run can go on with these settings.

    Returns:
        The settings, with no fewer iterations than the run has behind it.

    Raises:
        UserError: settings other than the number of iterations differ from the run's.
    """
    free = {"iterations", "resume", "run", "evaluation", "track"}
    wanted = {k: v for k, v in to_json(asdict(config)).items() if k not in free}
    for name, old, new in differing(run.read_config(), wanted):
        raise UserError(
            f"expected the settings of the run in {run.folder}; --{name} was {old!r} and is "
            f"{new!r} now; give the same or start another run"
        )
    return replace(config, iterations=max(config.iterations, run.iterations))


def differing(
    recorded: Mapping[str, Any], wanted: Mapping[str, Any], of: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Settings that are not as recorded: their names as on the command line, old and new."""
    for key, new in wanted.items():
        if key not in recorded:  # an option that came later: the run had what is its default today
            continue
        old, name = recorded[key], of + key.replace("_", "-")
        if isinstance(new, dict) and isinstance(old, dict):
            yield from differing(old, new, f"{name}.")
        elif old != new:
            yield name, old, new


def _refuse_to_overwrite(run: Run) -> None:
    if run.checkpoint.is_dir() or run.warm_start.is_dir():
        raise UserError(
            f"expected a new run folder; {run.folder} holds a run; go on with --resume, name "
            "another with --run, or delete it"
        )
    run.folder.mkdir(parents=True, exist_ok=True)
    if not os.access(run.folder, os.W_OK):
        raise UserError(f"expected a run folder that can be written; {run.folder} cannot")


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
        world = WorldConfig(options.env, knowledge=names(options.knowledge))
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
    world = WorldConfig(options.env, names(options.users), knowledge=names(options.knowledge))
    World(world, options.split)
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
