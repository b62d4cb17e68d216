"""Episodes of an iteration that failed in their environment: told, counted, or too many."""

from __future__ import annotations

from typing import NoReturn

from rlchat.distributed import Distributed
from rlchat.errors import RunError
from rlchat.listener import Listener
from rlchat.rollout.collect import Failures
from rlchat.rollout.hosting.answers import EnvError
from rlchat.training.config import TrainConfig
from rlchat.training.run_folder import RunFolder


def count_failures(
    config: TrainConfig,
    failures: Failures,
    played: int,
    run: RunFolder,
    iteration: int,
    ranks: Distributed,
    listener: Listener,
) -> dict[str, float]:
    """Add up what failed in all processes, and warn of what is left out.

    Args:
        config: says how much may fail.
        failures: this process's.
        played: episodes that it has played to their end.
        run: where the checkpoint is.
        iteration: its number.
        ranks: all processes.
        listener: is warned.

    Returns:
        The metrics of it.

    Raises:
        RunError: too many episodes were left out, or all of a process's.
    """
    everyone = ranks.gather([(failures.retried, failures.left_out, played)])
    left_out = [error for _, errors, _ in everyone for error in errors]
    if len(left_out) > failures.allowed or any(errors and not n for _, errors, n in everyone):
        give_up(config, left_out[-1], run, iteration)
    if left_out and ranks.main:
        listener.warn(
            f"iteration {iteration}: {len(left_out)} of {config.episodes} episodes failed twice in "
            f"{config.env} and are left out; the first: {left_out[0]}"
        )
    retried = sum(count for count, _, _ in everyone)
    return {"retried_episodes": float(retried), "failed_episodes": float(len(left_out))}


def give_up(config: TrainConfig, error: EnvError, run: RunFolder, iteration: int) -> NoReturn:
    """End a run whose environment fails too often; nothing of the iteration was learned.

    Raises:
        RunError: always.
    """
    learned = f"what was learned before is in {run.folder}; " if run.checkpoint.is_dir() else ""
    raise RunError(
        f"expected at most {config.rollout.max_failed:.0%} of the episodes to fail twice in "
        f"{config.env} (--rollout.max-failed); got more in iteration {iteration}, the last: "
        f"{error}; {learned}go on with --resume once that is mended"
    ) from error
