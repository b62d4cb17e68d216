"""Run folders: everything a person needs to believe a result, repeat it, or go on from it."""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlchat.errors import UserError
from rlchat.files import atomic_folder, recover_folder, write_json, write_text
from rlchat.rollout.trajectory import Trajectory
from rlchat.training.config import TrainConfig
from rlchat_envs.core.messages import to_row

_PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "gymnasium", "numpy")


@dataclass(frozen=True)
class RunFolder:
    """The places inside one run folder."""

    folder: Path

    @property
    def adapter(self) -> Path:
        """The result: one ordinary PEFT adapter."""
        return self.folder / "adapter"

    @property
    def warm_start(self) -> Path:
        """The adapter before PPO; the reference that KL is measured to."""
        return self.folder / "warm-start"

    @property
    def best(self) -> Path:
        """The adapter of the reward monitor's best measurement, if there is one."""
        return self.folder / "best"

    def take_best(self) -> None:
        """Make the adapter of the best measurement the result."""
        with atomic_folder(self.adapter) as new:
            shutil.copytree(self.best, new, dirs_exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """The state after the last finished iteration."""
        return self.folder / "checkpoint"

    @property
    def metrics(self) -> Path:
        """One JSON object an iteration."""
        return self.folder / "metrics.jsonl"

    @property
    def start(self) -> Path:
        """The evaluation of what PPO started from."""
        return self.folder / "start.json"

    @property
    def evaluation(self) -> Path:
        """The evaluation at the end, beside that of the start."""
        return self.folder / "evaluation.json"

    @property
    def transcripts(self) -> Path:
        """One JSON object an episode, named after the iteration."""
        return self.folder / "transcripts"

    @property
    def tokens(self) -> Path:
        """What PPO made of the tokens of some episodes, in files named as the transcripts."""
        return self.folder / "tokens"

    @property
    def iterations(self) -> int:
        """Number of iterations that are finished."""
        if not self.checkpoint.is_dir():
            return 0
        return int(self._checkpoint_state()["iteration"]) + 1

    @property
    def stopped(self) -> int | None:
        """The iteration after which the reward monitor stopped the run; None if it did not.

        Raises:
            UserError: this is no run folder.
        """
        rows = read_metrics(self.metrics)
        alarm = bool(rows and rows[-1].get("watch/alarm"))
        watch = self.read_config().get("watch", {})
        return int(rows[-1]["iteration"]) if alarm and watch.get("stop") else None

    def write_config(self, config: TrainConfig, resolved: Mapping[str, Any]) -> None:
        """Record settings, and what auto became."""
        write_json(self.folder / "config.json", {**to_json(asdict(config)), "resolved": resolved})

    def write_versions(self) -> None:
        """Record what all this was computed with."""
        versions = {name: metadata.version(name) for name in (*_PACKAGES, "rlchat")}
        write_json(
            self.folder / "versions.json",
            {"python": platform.python_version(), "machine": platform.machine(), **versions},
        )

    def append(
        self,
        iteration: int,
        row: Mapping[str, Any],
        episodes: Sequence[Trajectory],
        tokens: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Add an iteration's metrics and transcripts, and the records of its tokens.

        Lines of this iteration or a later one, left by a run that was stopped before its
        checkpoint, are dropped first.
        """
        kept = [r for r in read_metrics(self.metrics) if r["iteration"] < iteration]
        lines = [json.dumps(finite(entry)) for entry in (*kept, row)]
        write_text(self.metrics, "".join(f"{line}\n" for line in lines))
        said = [json.dumps(transcript(e), ensure_ascii=False) for e in episodes]
        path = self.transcripts / f"{iteration:04d}.jsonl"
        write_text(path, "".join(f"{line}\n" for line in said))
        numbers = [json.dumps(t, ensure_ascii=False, separators=(",", ":")) for t in tokens]
        write_text(self.tokens / path.name, "".join(f"{line}\n" for line in numbers))

    def save_checkpoint(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Replace the checkpoint as a whole."""
        with atomic_folder(self.checkpoint) as new:
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in tensors.items()},
                new / "state.safetensors",
            )
            write_json(new / "state.json", to_json(dict(state)))

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the tensors and the state of the checkpoint.

        Raises:
            UserError: there is none, or it is broken.
        """
        state = self._checkpoint_state()
        try:
            return load_file(self.checkpoint / "state.safetensors"), state
        except (OSError, ValueError, SafetensorError) as error:
            raise self.broken_checkpoint() from error

    def _checkpoint_state(self) -> dict[str, Any]:
        """Read the checkpoint's state without its tensors, which may take gigabytes.

        Raises:
            UserError: there is none, or it is broken.
        """
        recover_folder(self.checkpoint)
        try:
            state = json.loads((self.checkpoint / "state.json").read_text("utf-8"))
            if not isinstance(state, dict) or not isinstance(state.get("iteration"), int):
                raise ValueError
            return state
        except (OSError, ValueError) as error:
            raise self.broken_checkpoint() from error

    def broken_checkpoint(self) -> UserError:
        """The error for a checkpoint that cannot be gone on from."""
        return UserError(
            f"expected a whole checkpoint in {self.checkpoint} to resume from; delete that "
            "folder, and --resume starts again from the warm start"
        )

    def read_config(self) -> dict[str, Any]:
        """Read the settings that the run recorded.

        Raises:
            UserError: this is no run folder.
        """
        try:
            config = json.loads((self.folder / "config.json").read_text("utf-8"))
            if not isinstance(config, dict) or "dtype" not in config["resolved"]:
                raise ValueError
            return config
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"expected a run folder with a config.json; {self.folder} is none; train one with "
                "rlchat train --run"
            ) from error


def transcript(trajectory: Trajectory) -> dict[str, Any]:
    """An episode for people and for later: what was said, and what each turn was worth."""
    return {
        "index": trajectory.index,
        "seed": trajectory.seed,
        **to_row(trajectory.conversation),
        "parts": [dict(p) for p in trajectory.parts],
        "costs": [dict(c) for c in trajectory.costs],
        "score": trajectory.score,
        "success": trajectory.success,
        "terminated": trajectory.terminated,
        "truncated": trajectory.truncated,
        "dropped": trajectory.dropped,
        "ending": trajectory.ending,
        **({"answers": trajectory.answers} if trajectory.answers else {}),
        **({"thoughts": trajectory.thoughts} if any(trajectory.thoughts) else {}),
        **({"env": trajectory.env} if trajectory.env else {}),
    }


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; a last line that was cut off is left out."""
    rows: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def to_json(value: Any) -> Any:
    """Turn paths and tuples into what JSON knows."""
    if isinstance(value, dict):
        return {key: to_json(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    if isinstance(value, torch.dtype | torch.device | Path):
        return str(value)
    return value


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: what is not a number becomes null."""
    return {
        k: None if isinstance(v, float) and (v != v or v in (float("inf"), -float("inf"))) else v
        for k, v in row.items()
    }
