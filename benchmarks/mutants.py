"""Make deliberate mistakes, one at a time, on a copy of the tree; print those no test notices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_name("mutants.toml")
COPIED = ("rlchat", "envs", "reward_models", "tests", "benchmarks", "recipes", "scripts", "docs")


@dataclass(frozen=True)
class Mutant:
    """One mistake: where it is made, what stands there, what takes its place, who should notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


@dataclass(frozen=True)
class MutantOptions:
    """Run the mistakes of mutants.toml against the tests; the exit status is 1 if one survives."""

    only: str = ""
    """Words that the names of mistakes must contain; all mistakes if empty."""


def copy_tree(to: Path) -> None:
    """Copy what tests read."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "Makefile", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, to / name)


def noticed(mutant: Mutant, tree: Path) -> bool:
    """Make a mistake, run its tests, and take it back; tell whether a test failed.

    Raises:
        ValueError: the code that it changes does not stand there once.
    """
    place = tree / mutant.file
    text = place.read_text("utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: expected its code once in {mutant.file}")
    place.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    path = os.pathsep.join(str(tree / part) for part in ("envs", "reward_models", "."))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not long", *mutant.tests.split()]
    try:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider"],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
        )
    finally:
        place.write_text(text, "utf-8")
    return done.returncode == 1


def main(options: MutantOptions, console: Console) -> int:
    """Run them; give the exit status."""
    listed = tomllib.loads(LIST.read_text("utf-8"))["mutant"]
    mutants = [Mutant(**m) for m in listed if options.only in m["name"]]
    survivors = []
    with tempfile.TemporaryDirectory() as scratch:
        copy_tree(Path(scratch))
        for mutant in mutants:
            caught = noticed(mutant, Path(scratch))
            console.print(f"{'noticed ' if caught else 'SURVIVED'}  {mutant.name}", markup=False)
            if not caught:
                survivors.append(mutant.name)
    console.print(f"{len(mutants) - len(survivors)} of {len(mutants)} noticed", highlight=False)
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(MutantOptions, description=__doc__), Console()))
