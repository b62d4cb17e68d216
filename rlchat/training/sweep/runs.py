"""The runs of a sweep: where each lies, whether it is finished, and its evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rlchat.evaluation.blocks import Where
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.evaluation.kept import KeptEpisodes
from rlchat.evaluation.matrix import MatrixConfig, evaluate_matrix
from rlchat.listener import Listener
from rlchat.models.adapter_io import adapter_hash
from rlchat.models.config import AdapterConfig
from rlchat.training.config import TrainConfig
from rlchat.training.inspection.model_card import CARD
from rlchat.training.run_folder import RunFolder, read_metrics
from rlchat.training.sweep.config import SweepConfig

EVALUATIONS = "evaluations"
"""Folder of a sweep that the episodes of its evaluations are kept in."""
_USERS = 0  # seed of the users of evaluations, as that of rlchat eval is


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
        setting: name of its setting.
        seed: of its training.
        config: of its training, in its own folder.
    """

    setting: str
    seed: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.setting}, seed {self.seed}"

    @property
    def run(self) -> RunFolder:
        """Its folder."""
        return RunFolder(self.config.run)

    @property
    def finished(self) -> bool:
        """Whether its training is over."""
        run = self.run
        if not (run.folder / "config.json").is_file():
            return False
        if run.stopped is not None:
            return True
        return run.iterations >= self.config.iterations and (run.folder / CARD).is_file()

    @property
    def resumable(self) -> TrainConfig:
        """Settings with which its training begins, or goes on if it has begun."""
        return replace(self.config, resume=self.run.warm_start.is_dir())

    def metrics(self) -> list[dict[str, Any]]:
        """The metrics of its iterations."""
        return read_metrics(self.run.metrics)


def planned_runs(config: SweepConfig) -> list[PlannedRun]:
    """All runs: every setting with the first seed, then with the next."""
    settings, found = config.settings, []
    for seed in config.seeds:
        for setting in settings:
            place = config.out / setting.folder / f"seed-{seed}"
            own = replace(setting.config, run=place, seed=seed, evaluation=0)
            found.append(PlannedRun(setting.name, seed, own))
    return found


class Evaluations:
    """Finished runs on the same users, in the environments of the sweep; episodes are kept."""

    def __init__(self, config: SweepConfig):
        """Measure as the sweep's settings say."""
        self._config, self._folder = config, config.out / EVALUATIONS
        self._envs = list(config.mixture.envs)

    def kept(self, planned: PlannedRun) -> list[EvaluationResult] | None:
        """The evaluation of a run, a result for each environment; None if some is missing."""
        if not self._folder.is_dir() or not planned.run.adapter.is_dir():
            return None
        matrix, results = self._matrix(planned), []
        version, name = adapter_hash(planned.run.adapter), str(planned.run.folder)
        settings = matrix.evaluation
        for env in self._envs:
            where = Where(name, env, settings, matrix.base, matrix.adapter)
            episodes = KeptEpisodes(self._folder).read(where, version, matrix.block)
            if len(episodes) < settings.episodes:
                return None
            results.append(
                EvaluationResult(
                    name,
                    env,
                    settings.split,
                    settings.seed,
                    settings.temperature,
                    episodes[: settings.episodes],
                )
            )
        return results

    def measure(self, planned: PlannedRun, listener: Listener) -> list[EvaluationResult]:
        """Play what is missing of a run's evaluation."""
        if kept := self.kept(planned):
            return kept
        names = [str(planned.run.folder)]
        rows = evaluate_matrix(names, self._envs, self._matrix(planned), listener)
        return [result for row in rows for result in row if result is not None]

    def _matrix(self, planned: PlannedRun) -> MatrixConfig:
        """How a run is measured: in its own precision, with as much room to talk and to think."""
        own = planned.config
        settings = EvalConfig(self._config.split, self._config.evaluation, _USERS, 0.0, own.rollout)
        adapter = AdapterConfig(
            dtype=planned.run.read_config()["resolved"]["dtype"],
            device=own.adapter.device,
            max_message_tokens=own.adapter.max_message_tokens,
        )
        return MatrixConfig(settings, out=self._folder, adapter=adapter)
