"""Experiment trackers of others, through accelerate: TensorBoard, wandb, trackio and mlflow."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from accelerate import tracking as accelerates

from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.files import write_json
from rlchat.listener import FinishedEpisode, FinishedTrajectory, Listener
from rlchat.settings import names
from rlchat.training.run_folder import RunFolder, finite
from rlchat.training.tracking.trackers import (
    check_trackio_folder,
    configure,
    environment,
    identities,
    log_metrics,
    quietly,
    wandb_settings,
)

PROJECT = "rlchat"  # under which runs stand beside each other
# The trackers, and how each is installed.
INSTALL = {
    "tensorboard": '"rlchat[track]"',
    "wandb": "wandb",
    "trackio": '"rlchat[track]"',
    "mlflow": "mlflow",
}


def chosen(comma_separated: str) -> tuple[str, ...]:
    """The trackers that ``--track`` names, each once.

    Raises:
        UserError: one is unknown, or its package is not installed.
    """
    trackers = tuple(dict.fromkeys(names(comma_separated)))
    installed = {str(kind) for kind in accelerates.get_available_trackers()}
    for name in trackers:
        if name not in INSTALL:
            raise UserError(
                f"expected trackers out of {', '.join(INSTALL)}, comma-separated; got {name!r}; "
                "correct --track or leave it out"
            )
        if name not in installed:
            raise UserError(
                f"expected an installed tracker; {name} is not installed; "
                f"pip install {INSTALL[name]} brings it"
            )
    return trackers


class Tracking:
    """The trackers of one run; only the main rank has any.

    Use it as a context manager: it starts them, and finishes them whatever happens. Nothing
    leaves the machine unless the user's environment variables say so; without them, files go to
    RUN/tracking.
    """

    def __init__(
        self, trackers: Sequence[str], run: RunFolder, ranks: Distributed, resume: bool = False
    ):
        """Remember what to start.

        Args:
            trackers: their names, as `chosen` gives them.
            run: its folder's name is the run's name; files go to a folder inside.
            ranks: the processes that train together.
            resume: whether the run goes on, in the same entry of each tracker.
        """
        self.run, self.resume = run, resume
        self.folder = (run.folder / "tracking").resolve()
        self.trackers: list[Any] = []
        self._names = tuple(trackers) if ranks.main else ()
        self._watcher = Listener()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Tracking:
        """Start the trackers that were asked for.

        Raises:
            UserError: one does not start.
        """
        with contextlib.ExitStack() as opened:
            if self._names:
                self.folder.mkdir(parents=True, exist_ok=True)
                opened.enter_context(environment(self._defaults()))
            for name in self._names:
                self.trackers.append(self._start(name))
                opened.callback(self._finish, self.trackers[-1])
            if self._names:
                write_json(self.folder / "ids.json", self._ids() | identities(self.trackers))
            self._open = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """Finish the trackers, after a failure too."""
        self._open.close()

    def listening(self, listener: Listener) -> Listener:
        """Tell the trackers the settings in RUN/config.json, and from now on of every iteration.

        Args:
            listener: is told what it would be told without trackers, and of their troubles.

        Returns:
            What to give to the training.
        """
        self._watcher = listener
        if not self.trackers:
            return listener
        settings = flat(self.run.read_config())
        self._each(lambda tracker: configure(tracker, settings), "the settings")
        return _Both(self, listener)

    def log(self, row: Mapping[str, Any]) -> None:
        """Log an iteration: its metrics that have a value, and its transcripts in the run folder.

        Args:
            row: the metrics, under the names of docs/method/metrics.md.
        """
        iteration = int(row["iteration"])
        metrics = {name: value for name, value in finite(row).items() if value is not None}
        table = transcripts(self.run.transcripts / f"{iteration:04d}.jsonl")
        self._each(lambda t: log_metrics(t, metrics, table, iteration), f"iteration {iteration}")

    def _start(self, name: str) -> Any:
        """Start one tracker, without what it prints."""
        try:
            tracker = self._create(name)
            with quietly(name):
                tracker.start()
        except UserError:
            raise
        except Exception as error:  # each library has its own for a wrong address, key or mode
            raise UserError(
                f"expected {name} to start; it says: {error}; correct that or leave it out of "
                "--track"
            ) from error
        return tracker

    def _create(self, name: str) -> Any:
        """Make accelerate's tracker of that name, which has not started."""
        kind: Any = accelerates.LOGGER_TYPE_TO_CLASS[name]
        if name == "tensorboard":
            # What an interrupted iteration left is hidden, since it comes again.
            purge = self.run.iterations if self.resume else None
            return kind("tensorboard", self.folder, purge_step=purge)
        if name == "wandb":
            return kind(os.environ["WANDB_PROJECT"], **wandb_settings())
        if name == "trackio":
            check_trackio_folder()
            resume = "allow" if self.resume else "never"
            return kind(PROJECT, name=self._title, resume=resume, embed=False)
        local = os.environ["MLFLOW_TRACKING_URI"] == self._defaults()["MLFLOW_TRACKING_URI"]
        artifacts = (self.folder / "mlruns").as_uri() if local else None
        return kind(PROJECT, logging_dir=artifacts, run_name=self._title)

    @property
    def _title(self) -> str:
        return self.run.folder.resolve().name

    def _defaults(self) -> dict[str, str]:
        """Environment variables that keep everything here, where the user has set none."""
        settings = {
            "TRACKIO_DIR": str(self.folder / "trackio"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{(self.folder / 'mlflow.db').as_posix()}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
            "WANDB_PROJECT": PROJECT,
            "WANDB_NAME": self._title,
            "WANDB_DIR": str(self.folder),
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_CONSOLE": "off",  # it would keep every picture of the live table
        }
        if "WANDB_MODE" not in os.environ:
            settings |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
        ids = self._ids() if self.resume else {}
        if "wandb" in ids:
            settings |= {"WANDB_RUN_ID": ids["wandb"], "WANDB_RESUME": "allow"}
        if "mlflow" in ids:
            settings["MLFLOW_RUN_ID"] = ids["mlflow"]
        return settings

    def _ids(self) -> dict[str, str]:
        """By what wandb and mlflow know this run from before."""
        try:
            ids: dict[str, str] = json.loads((self.folder / "ids.json").read_text("utf-8"))
            return ids
        except (OSError, ValueError):
            return {}

    def _each(self, work: Callable[[Any], None], what: str) -> None:
        """Do something with every tracker; what fails is told, since training need not fail."""
        for tracker in self.trackers:
            try:
                work(tracker)
            except Exception as error:
                self._watcher.warn(f"{tracker.name} did not take {what}: {error}")

    def _finish(self, tracker: Any) -> None:
        try:
            with quietly(tracker.name):
                tracker.finish()
                if tracker.name == "trackio":  # else it would be finished again at the end
                    import_module("trackio").finish()
        except Exception as error:
            self._watcher.warn(f"{tracker.name} did not finish: {error}")


class _Both(Listener):
    """Passes on what a listener is told, and logs iterations."""

    def __init__(self, tracking: Tracking, listener: Listener):
        self.tracking, self.listener = tracking, listener

    def say(self, line: str) -> None:
        self.listener.say(line)

    def phase(self, line: str) -> None:
        self.listener.phase(line)

    def status(self, line: str) -> None:
        self.listener.status(line)

    def counter(self, what: str, total: int) -> Callable[[object], None]:
        return self.listener.counter(what, total)

    def share(self, what: str) -> Callable[[float, str], None]:
        return self.listener.share(what)

    def rollout(self, iteration: int, episodes: int) -> Callable[[FinishedTrajectory], None]:
        return self.listener.rollout(iteration, episodes)

    def dialogue(self, iteration: int, episode: FinishedEpisode) -> None:
        self.listener.dialogue(iteration, episode)

    def iteration(self, row: Mapping[str, Any]) -> None:
        self.tracking.log(row)
        self.listener.iteration(row)

    def warn(self, line: str) -> None:
        self.listener.warn(line)


def flat(settings: Mapping[str, Any], of: str = "") -> dict[str, Any]:
    """Nested settings under their names on the command line, like ``ppo.learning-rate``.

    Lists become JSON, since trackers take only plain values.
    """
    out: dict[str, Any] = {}
    for key, value in settings.items():
        name = of + key.replace("_", "-")
        if isinstance(value, Mapping):
            out |= flat(value, f"{name}.")
        else:
            out[name] = json.dumps(value) if isinstance(value, list) else value
    return out


def transcripts(path: Path) -> list[list[Any]]:
    """A row an episode from a file of transcripts, with the columns `COLUMNS`."""
    episodes = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        [
            e["index"],
            e["score"],
            e["success"],
            len(e["parts"]),
            "\n".join(f"{m['role']}: {m['content']}" for m in e["messages"]),
        ]
        for e in episodes
    ]
