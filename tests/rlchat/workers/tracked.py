"""Trains for two iterations with a tracker, resumes for a third, and prints what was tracked.

Run as ``tracked.py TRACKER FOLDER``. It is a process of its own, since trackio reads the folder
that it writes to only once.
"""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console
from test_resume import CONFIG

from rlchat.cli.train import run_training


def of_trackio(folder: Path) -> dict[str, Any]:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    runs = list(trackio.Api().runs("rlchat"))
    logs = SQLiteStorage.get_logs("rlchat", folder.name)
    return {"names": [r.name for r in runs], "config": runs[0].config, "logs": logs}


def of_mlflow(folder: Path) -> dict[str, Any]:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'tracking' / 'mlflow.db'}")
    mlflow.set_experiment("rlchat")
    runs = mlflow.search_runs(output_format="list")
    client, run_id = mlflow.MlflowClient(), runs[0].info.run_id
    logs: dict[int, dict[str, Any]] = {}
    for name in runs[0].data.metrics:
        for point in client.get_metric_history(run_id, name):
            logs.setdefault(point.step, {"step": point.step})[name] = point.value
    for step in logs:
        table = mlflow.load_table(f"transcripts/{step:04d}.json", run_ids=[run_id])
        logs[step]["transcripts"] = {"_value": json.loads(table.to_json(orient="records"))}
    names = [run.info.run_name for run in runs]
    return {"names": names, "config": runs[0].data.params, "logs": list(logs.values())}


def of_wandb(folder: Path) -> dict[str, Any]:
    files = sorted((folder / "tracking" / "wandb").glob("offline-run-*/*.wandb"))
    return {
        "files": [file.name for file in files],
        "ids": json.loads((folder / "tracking" / "ids.json").read_text("utf-8")),
        "text": "".join(file.read_bytes().decode("latin-1") for file in files),
    }


def main(tracker: str, folder: Path) -> None:
    import_module("text_envs")
    for changed in ({"iterations": 2}, {"iterations": 3, "resume": True}):
        config = replace(CONFIG, run=folder, track=tracker, **changed)
        run_training(config, Console(file=io.StringIO()))
    for name in ("TRACKIO_DIR", "MLFLOW_TRACKING_URI", "WANDB_DIR", "WANDB_MODE"):
        assert name not in os.environ, "the next run in this process has its own folder"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    read = {"trackio": of_trackio, "mlflow": of_mlflow, "wandb": of_wandb}[tracker]
    print(json.dumps(read(folder)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
