"""What the verbs train, sft and eval do, from options to what is printed."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from rlchat import files
from rlchat.cli.progress import Progress
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.listener import Listener
from rlchat.models.adapter_io import adapter_folder, base_spec
from rlchat.models.adapters import leave_shape
from rlchat.models.policy import Policy
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.environment import EnvPool
from rlchat.training.comparison import measure_end, measure_start
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.loop import train
from rlchat.training.metrics import Clock
from rlchat.training.run_folder import RunFolder, to_json
from rlchat.training.sft import warm_start
from rlchat_envs import Conversation


def _train(
    config: TrainConfig,
    run: RunFolder,
    ranks: Distributed,
    clock: Clock,
    progress: Progress,
    watching: Callable[[], Listener],
) -> list[EvaluationResult]:
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


def prepare(config: TrainConfig, run: RunFolder, ranks: Distributed, progress: Progress) -> Policy:
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
    config: TrainConfig,
    run: RunFolder,
    ranks: Distributed,
    progress: Progress,
    base: str,
    start: Path | None,
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
    if start is None and config.warm_start.demonstrations and EnvPool(config.world).ours:
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


def resumed(config: TrainConfig, run: RunFolder) -> TrainConfig:
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


def _refuse_to_overwrite(run: RunFolder) -> None:
    if run.checkpoint.is_dir() or run.warm_start.is_dir():
        raise UserError(
            f"expected a new run folder; {run.folder} holds a run; go on with --resume, name "
            "another with --run, or delete it"
        )
    run.folder.mkdir(parents=True, exist_ok=True)
    if not os.access(run.folder, os.W_OK):
        raise UserError(f"expected a run folder that can be written; {run.folder} cannot")
