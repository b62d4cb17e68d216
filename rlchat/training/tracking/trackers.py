"""Settings of each experiment tracker: TensorBoard, wandb, trackio and mlflow."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from textwrap import indent
from typing import Any

from huggingface_hub import constants

from rlchat.errors import UserError


def as_markdown(table: Sequence[Sequence[Any]]) -> str:
    """Transcripts as text for TensorBoard, which shows Markdown: a heading, then what was said."""
    return "\n\n".join(
        f"### episode {episode}: score {score:+.2f}, success {success}, turns {turns}\n\n"
        + indent(conversation, "    ")
        for episode, score, success, turns, conversation in table
    )


@contextlib.contextmanager
def environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that have no value, for as long as the block lasts."""
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def configure(tracker: Any, settings: Mapping[str, Any]) -> None:
    """Give a tracker the settings."""
    if tracker.name == "mlflow":  # refuses another value for a parameter that it has
        known = import_module("mlflow").get_run(tracker.tracker.info.run_id).data.params
        settings = {name: value for name, value in settings.items() if name not in known}
    tracker.store_init_configuration(dict(settings))


def log_metrics(
    tracker: Any, metrics: Mapping[str, Any], table: Sequence[Sequence[Any]], step: int
) -> None:
    """Give a tracker an iteration, in one message where it takes tables among metrics."""
    shown: dict[str, Any] = {}
    if tracker.name == "tensorboard":
        shown["transcripts"] = as_markdown(table)
    elif tracker.name == "mlflow":
        columns = dict(zip(COLUMNS, map(list, zip(*table, strict=True)), strict=True))
        import_module("mlflow").log_table(columns, f"transcripts/{step:04d}.json")
    else:
        kind = import_module(tracker.name).Table
        shown["transcripts"] = kind(columns=list(COLUMNS), data=table)
    tracker.log({**metrics, **shown}, step=step)


def identities(trackers: Sequence[Any]) -> dict[str, str]:
    """By what wandb and mlflow will know this run again."""
    ids = {t.name: t.tracker.id for t in trackers if t.name == "wandb"}
    return ids | {t.name: t.tracker.info.run_id for t in trackers if t.name == "mlflow"}


def wandb_settings() -> dict[str, str | None]:
    """Settings that wandb would read from the environment itself, but only once in a process."""
    variables = {"name": "NAME", "dir": "DIR", "mode": "MODE", "resume": "RESUME", "id": "RUN_ID"}
    return {key: os.environ.get(f"WANDB_{name}") for key, name in variables.items()}


def check_trackio_folder() -> None:
    """Refuse to write elsewhere: trackio reads its folder once, when it is first imported."""
    wanted, used = Path(os.environ["TRACKIO_DIR"]), import_module("trackio.utils").TRACKIO_DIR
    if used != wanted:
        raise UserError(
            f"expected trackio to write to {wanted}; this process has it write to {used}; "
            "start another process, or set TRACKIO_DIR before this one starts"
        )


@contextlib.contextmanager
def quietly(name: str) -> Iterator[None]:
    """Keep trackio from printing, and, if it writes to a folder, from asking the hub who we are."""
    remote = os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL")
    if name != "trackio" or remote:
        yield
        return
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        constants.HF_HUB_OFFLINE = before


COLUMNS = ("episode", "score", "success", "turns", "conversation")  # of the transcripts
