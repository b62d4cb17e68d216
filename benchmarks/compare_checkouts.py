"""Whether two checkouts of rlchat train the same, bit for bit: ``compare_checkouts.py OLD NEW``.

Each checkout trains the tiny policy in a few settings; then the new one resumes what the old one
began. Compared are metrics (without times and memory), adapters and transcripts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

SETTINGS = {
    "ppo": "",
    "rloo": "--ppo.estimator rloo --ppo.group-size 2",
    "top third": "--ppo.layers 0.5 --critic.states detached",
    "look-ups": "--knowledge bm25 --users terse",
    "prefix tuning": "--adapter.method prefix --warm-start.demonstrations 0",
}
COMMON = (
    "train --policy tiny --iterations 2 --episodes 8 --warm-start.demonstrations 12 "
    "--warm-start.epochs 1 --evaluation 4 --adapter.dtype float32 --adapter.device cpu "
    "--rollout.max-new-tokens 8 --rollout.max-tokens 512"
)
# Times and memory differ from run to run; the others came later than what is compared with.
NOT_COMPARED = ("seconds", "tokens_per_second", "peak_memory", "return_std", "ending")


@dataclass(frozen=True)
class CompareOptions:
    """Train in two checkouts and compare what they leave, byte by byte."""

    old: Annotated[Path, tyro.conf.Positional]
    """Folder of one checkout."""
    new: Annotated[Path, tyro.conf.Positional]
    """Folder of the other."""
    only: str = ""
    """Settings to compare, comma-separated; all if empty: ppo, rloo, top third, look-ups, prefix
    tuning."""


def run(checkout: Path, words: str, folder: Path) -> str:
    """Run a checkout's ``rlchat``; give what it complained of, empty if it did not."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, function = project["scripts"]["rlchat"].partition(":")
    path = os.pathsep.join(str(checkout / part) for part in (".", "envs", "reward_models"))
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split(), "--run", str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )
    return "" if done.returncode == 0 else done.stderr.strip()[-600:] or "it failed"


def left(folder: Path) -> dict[str, bytes]:
    """What a training left that has to be the same."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "adapter_model.safetensors":
            found[name] = path.read_bytes()
        elif path.parent.name == "transcripts" or path.name == "metrics.jsonl":
            found[name] = _compared(path)
    return found


def _compared(path: Path) -> bytes:
    """The lines of a file without what is not compared."""
    rows: list[dict[str, Any]] = [
        {k: v for k, v in json.loads(line).items() if not k.startswith(NOT_COMPARED)}
        for line in path.read_text("utf-8").splitlines()
    ]
    return json.dumps(rows).encode()


def differences(one: Path, other: Path) -> list[str]:
    """Names of what is not the same in two run folders."""
    a, b = left(one), left(other)
    return [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]


def compare(options: CompareOptions, console: Console) -> bool:
    """Compare in every setting; give whether all is the same."""
    same = True
    names = [n.strip() for n in options.only.split(",") if n.strip()] or list(SETTINGS)
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            old, new, resumed = (Path(scratch) / n for n in ("old", "new", "resumed"))
            words = f"{COMMON} {SETTINGS[name]}"
            shorter = words.replace("--iterations 2", "--iterations 1")
            failed = (
                run(options.old.resolve(), words, old)
                or run(options.new.resolve(), words, new)
                or run(options.old.resolve(), shorter, resumed)
                or run(options.new.resolve(), f"{words} --resume", resumed)
            )
            if failed:
                console.print(f"{name}: {failed}", style="red", markup=False)
                same = False
                continue
            told = {"anew": differences(old, new), "resumed": differences(old, resumed)}
            for how, differing in told.items():
                verdict = f"differs: {', '.join(differing)}" if differing else "the same"
                console.print(f"{name}, {how}: {verdict}", highlight=False)
                same = same and not differing
    return same


if __name__ == "__main__":
    sys.exit(not compare(tyro.cli(CompareOptions, description=__doc__), Console()))
