"""Make deliberate mistakes, one at a time, on a copy of the tree; print those no test notices.

Each mistake has a process of its own, forked from one that has loaded the large libraries.
"""

from __future__ import annotations

import compileall
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_name("mutants.toml")
COPIED = ("rlchat", "envs", "reward_models", "tests", "benchmarks", "recipes", "scripts", "docs")
FAILED = 1  # pytest's exit status where a test failed; what is neither this nor 0 is "broken"


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
    """Words that the names of mistakes, or their files, must contain; all mistakes if empty."""
    start: Annotated[str, tyro.conf.arg(name="from")] = ""
    """Name of the mistake to begin at, to go on with a run that was stopped."""
    seconds: int = 600
    """Time for one mistake; tests that run longer have noticed it."""


def chosen(options: MutantOptions) -> list[Mutant]:
    """Read the list; give those that are to be run.

    Raises:
        ValueError: no mistake has the name to begin at, or one's code does not stand there once.
    """
    mutants = [Mutant(**m) for m in tomllib.loads(LIST.read_text("utf-8"))["mutant"]]
    names = [m.name for m in mutants]
    if len(set(names)) < len(names):
        raise ValueError("expected each mistake to have a name of its own")
    for mutant in mutants:
        if (ROOT / mutant.file).read_text("utf-8").count(mutant.old) != 1:
            raise ValueError(f"{mutant.name}: expected its code once in {mutant.file}")
    begin = names.index(options.start) if options.start else 0
    return [m for m in mutants[begin:] if options.only in m.name or options.only in m.file]


def copy_tree(to: Path) -> None:
    """Copy what tests read."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "Makefile", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, to / name)
    # Copies keep their times, so that what is compiled here is used until a file is changed.
    compileall.compile_dir(to, quiet=1)


def load_libraries() -> None:
    """Load what takes seconds, and nothing of the tree."""
    import peft
    import pytest
    import transformers.models.llama.modeling_llama

    assert peft and pytest and transformers


def run_tests(tree: Path, tests: str) -> None:
    """Be the process of one mistake: exit with pytest's status."""
    import pytest

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.chdir(tree)
    sys.dont_write_bytecode = True
    parts = [str(tree / part) for part in ("envs", "reward_models", ".")]
    sys.path[:0] = parts
    os.environ |= {"PYTHONPATH": os.pathsep.join(parts), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ("-q", "-x", "-m", "not long", "-p", "no:cacheprovider", "--tb=no")
    sys.exit(pytest.main([*tests.split(), *options]))


def outcome(mutant: Mutant, tree: Path, seconds: int) -> str:
    """Make a mistake, run its tests, and take it back; tell what came of it."""
    place = tree / mutant.file
    text = place.read_text("utf-8")
    place.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    process = multiprocessing.get_context("fork").Process(
        target=run_tests, args=(tree, mutant.tests)
    )
    try:
        process.start()
        process.join(seconds)
    finally:
        process.kill()
        process.join()
        place.write_text(text, "utf-8")
    if process.exitcode == -9:
        return "too long"
    return {FAILED: "noticed", 0: "SURVIVED"}.get(process.exitcode or 0, "broken")


def main(options: MutantOptions, console: Console) -> int:
    """Run them; give the exit status."""
    mutants = chosen(options)
    load_libraries()
    noticed = 0
    with tempfile.TemporaryDirectory() as scratch:
        copy_tree(Path(scratch))
        for mutant in mutants:
            start = time.perf_counter()
            came = outcome(mutant, Path(scratch), options.seconds)
            noticed += came in ("noticed", "too long")
            took = time.perf_counter() - start
            line = f"{came:<9} {took:4.0f} s  {mutant.name}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{noticed} of {len(mutants)} noticed", highlight=False)
    return int(noticed < len(mutants))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(MutantOptions, description=__doc__), Console()))
