"""A sweep from its settings to its aggregates: what is finished is kept, the rest goes on."""

from __future__ import annotations

import gc
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlchat import files
from rlchat.errors import RunError, UserError
from rlchat.listener import Listener
from rlchat.models.adapter_io import adapter_folder
from rlchat.models.fetching.catalog import resolve
from rlchat.rewards.rubric.judges import try_judge
from rlchat.rewards.rubric.questions import read_rubric
from rlchat.rollout.probe import probe
from rlchat.training.pipeline import differing, train_agent, without_patience
from rlchat.training.run_folder import to_json
from rlchat.training.sweep.aggregates import Aggregates, FinishedRun, aggregate
from rlchat.training.sweep.config import SweepConfig
from rlchat.training.sweep.runs import Evaluations, PlannedRun, planned_runs
from rlchat.training.tracking.tracking import chosen

RECORD = "sweep.json"
_FREE = {"out", "split", "evaluation", "against", "track", "run", "seed", "resume"}
"""Options that change no training."""


@dataclass
class Sweep:
    """The runs of a sweep, and what is known of them.

    Attributes:
        config: its settings.
        runs: all of them, in the order in which they are trained.
        seconds: that each has taken so far, by name.
        failures: why runs could not go on, by name.
    """

    config: SweepConfig
    runs: list[PlannedRun]
    seconds: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, config: SweepConfig, listener: Listener | None = None) -> Sweep:
        """Check everything that can be before the first training, and write the record.

        Raises:
            UserError: settings that do not fit, or others than those of the folder's sweep.
        """
        listener = listener or Listener()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("expected one process; a sweep does not run under torchrun; start one")
        recorded = _recorded(config)
        sweep = cls(config, planned_runs(config))
        listener.phase("checking settings")
        _check_settings(config, listener)
        if recorded is not None:
            sweep.seconds = {r["name"]: float(r["seconds"]) for r in recorded["runs"]}
        files.check_place(config.out)
        config.out.mkdir(parents=True, exist_ok=True)
        sweep.write()
        return sweep

    @property
    def evaluations(self) -> Evaluations:
        """What measures finished runs."""
        return Evaluations(self.config)

    def waiting(self) -> list[PlannedRun]:
        """Runs that are not trained and measured yet."""
        return [r for r in self.runs if not r.finished or self.evaluations.kept(r) is None]

    def execute(self, planned: PlannedRun, listener: Listener | None = None) -> None:
        """Train a run, or go on with it, and measure it on the users of the sweep.

        A run that cannot go on is recorded as such; the same command tries it again.

        Raises:
            UserError: settings that do not fit.
        """
        listener, begun = listener or Listener(), time.monotonic()
        before = self.seconds.get(planned.name, 0.0)
        try:
            if not planned.finished:
                train_agent(planned.resumable, listener)
            self.evaluations.measure(planned, listener)
            self.failures.pop(planned.name, None)
        except UserError as error:
            raise UserError(f"{error}, in the run {planned.name}") from error
        except RunError as error:
            self.failures[planned.name] = str(error)
            listener.warn(f"{planned.name} failed: {error}")
        finally:
            self.seconds[planned.name] = before + time.monotonic() - begun
            gc.collect()  # one run's model, before there is another
            self.write()

    def left(self) -> float:
        """Seconds that the rest takes, as far as runs so far tell; NaN before the first.

        Runs count by their episodes.
        """
        waiting = {run.name for run in self.waiting()}
        done = [r for r in self.runs if r.name not in waiting and r.name in self.seconds]
        spent = sum(self.seconds[r.name] for r in done)
        weight = sum(_weight(r) for r in done)
        if not weight:
            return math.nan
        rest = (r for r in self.runs if r.name in waiting and r.name not in self.failures)
        return sum(
            max(0.0, _weight(r) * spent / weight - self.seconds.get(r.name, 0.0)) for r in rest
        )

    def finished(self) -> list[FinishedRun]:
        """Runs that are trained and measured."""
        found = []
        for planned in self.runs:
            results = self.evaluations.kept(planned) if planned.finished else None
            if results is not None:
                found.append(FinishedRun(planned.setting, planned.seed, results, planned.metrics()))
        return found

    def aggregates(self) -> Aggregates | None:
        """What finished runs come to together; None if there is none."""
        finished = self.finished()
        return aggregate(finished, self.config.first) if finished else None

    def write(self) -> None:
        """Write the record: settings, runs, and what those that are finished come to."""
        finished = self.finished()
        found = aggregate(finished, self.config.first) if finished else None
        means = {(f.setting, f.seed): _means(f) for f in finished}
        record = {
            "settings": _wanted(self.config),
            "env": [env.env for env in self.config.mixture.envs],
            "split": self.config.split,
            "users": self.config.evaluation,
            "against": self.config.first,
            "runs": [self._told(r, means.get((r.setting, r.seed))) for r in self.runs],
            "aggregates": None if found is None else asdict(found),
        }
        files.write_json(self.config.out / RECORD, _finite(record))

    def _told(self, planned: PlannedRun, means: Any) -> dict[str, Any]:
        state = "waiting" if means is None else "finished"
        return {
            "name": planned.name,
            "setting": planned.setting,
            "seed": planned.seed,
            "folder": str(planned.run.folder.relative_to(self.config.out)),
            "agent": str(planned.run.folder),
            "state": "failed" if planned.name in self.failures else state,
            "failure": self.failures.get(planned.name, ""),
            "seconds": self.seconds.get(planned.name, 0.0),
            "results": means or [],
        }


def _means(run: FinishedRun) -> list[dict[str, Any]]:
    """What a run reached in each environment."""
    kept = ("success", "score", "turns", "cost", "style followed")
    return [
        {
            "env": result.env.env,
            **{k: asdict(v) for k, v in result.metrics.items() if k in kept},
        }
        for result in run.results
    ]


def _weight(planned: PlannedRun) -> int:
    """How much work a run is, in episodes."""
    return planned.config.iterations * planned.config.episodes


def _wanted(config: SweepConfig) -> dict[str, Any]:
    """Settings that decide what runs are."""
    wanted = {k: v for k, v in to_json(asdict(config)).items() if k not in _FREE}
    return wanted | {"rollout": without_patience(wanted["rollout"])}


def _recorded(config: SweepConfig) -> dict[str, Any] | None:
    """The record of the folder's sweep, if there is one, which has to be of the same settings.

    Raises:
        UserError: it is not, or it cannot be read, or the folder is something else.
    """
    path = config.out / RECORD
    if (config.out / "config.json").exists() or (config.out.exists() and not config.out.is_dir()):
        raise UserError(
            f"expected a folder for a sweep; {config.out} is a run or a file; name another with "
            "--out"
        )
    if not path.exists():
        return None
    record = read_record(config.out)
    for name, old, new in differing(record["settings"], _wanted(config)):
        raise UserError(
            f"expected the settings of the sweep in {config.out}; --{name} was {_shown(old)} and "
            f"is {_shown(new)} now; give the same or name another folder with --out"
        )
    return record


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a sweep.

    Raises:
        UserError: it cannot be read.
    """
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        _ = record["settings"]["seeds"], [(r["name"], float(r["seconds"])) for r in record["runs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"expected the record of a sweep in {folder / RECORD}; it cannot be read; restore it, "
            "or delete it: finished runs are kept"
        ) from error
    found: dict[str, Any] = record
    return found


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) or "empty" if isinstance(value, list) else repr(value)


def _check_settings(config: SweepConfig, listener: Listener) -> None:
    """Find what is wrong with environments, models and trackers of any run."""
    chosen(config.track)
    for env in config.mixture.envs:
        probe(env, config.rollout, config.split)
    policies: set[str] = set()
    checked: list[Any] = []
    judges: list[Any] = []
    for setting in config.settings:
        own = setting.config
        for env in own.mixture.envs:
            if (env, own.rollout) not in checked:
                checked.append((env, own.rollout))
                probe(env, own.rollout)
        policies.add(own.policy)
        asked = own.reward.rubric, own.reward.judge, own.reward.judging
        if own.reward.judged and asked not in judges:
            judges.append(asked)
            read_rubric(own.reward.rubric)
            try_judge(own.reward.judge, own.reward.judging)
    for policy in sorted(policies):
        if adapter_folder(policy) is None:
            resolve(policy, listener.say)


def _finite(value: Any) -> Any:
    """JSON knows no NaN: what is not a number becomes null."""
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
