"""Time decoding, updates and rollouts against the usual way, and against this machine's limit.

    make bench

What is compared runs in this one process, one after the other, in the same precision; only the
products under two ways of waiting have processes of their own. Measure alone: part `loaded` shows
what a second busy process costs. A run's numbers are shown beside the committed ones of the same
CPU family and precision (benchmarks/speed/speed.json).
"""

from __future__ import annotations

# rlchat chooses how OpenMP's threads wait, which is read as torch loads: it has to come first.
import rlchat  # noqa: F401

# isort: split
import datetime
import sys
from collections.abc import Callable

import committed
import decode
import growth
import loaded
import rollout
import torch
import transformers
import tyro
import update
from bench import Part, Report, SpeedOptions
from rich.console import Console

from rlchat import files
from rlchat.cli.libraries import quiet
from rlchat.cli.main import guarded
from rlchat.models.device import choose_dtype, describe_cpu, peak_memory


def time_growth(options: SpeedOptions, report: Report) -> None:
    """What an episode costs as its turns, its neighbours and its model grow."""
    sizes = growth.measure(options.policy, options.dtype, options.repeats, report.step)
    report.add("growth", options, sizes)
    growth.plot(sizes, options.out.with_name("growth.svg"))


PARTS: dict[Part, Callable[[SpeedOptions, Report], None]] = {
    "decode": decode.time_decoding,
    "update": update.time_updates,
    "rollout": rollout.time_rollouts,
    "loaded": loaded.time_loaded,
    "growth": time_growth,
}


def main(options: SpeedOptions) -> None:
    """Time the parts, print lines, write the numbers, compare them with the committed ones."""
    report = Report(Console())
    if options.table:
        report.say(committed.table(committed.read()))
        return
    dtype = str(choose_dtype(options.dtype, torch.device("cpu"))).removeprefix("torch.")
    report.say(f"{describe_cpu()}, {options.policy} in {dtype}")
    for number, part in enumerate(options.parts, 1):
        report.begin(part, number, len(options.parts))
        PARTS[part](options, report)
        write(options, report, dtype)
    report.step(f"done, peak {peak_memory():.1f} GiB; numbers in {options.out}")
    compare(options, report, dtype)


def write(options: SpeedOptions, report: Report, dtype: str) -> None:
    """Write the numbers that there are so far."""
    about = {
        "machine": describe_cpu(),
        "transformers": transformers.__version__,
        "dtype": dtype,
        "peak_memory_gib": peak_memory(),
    }
    files.write_json(options.out, about | {"parts": report.numbers})


def compare(options: SpeedOptions, report: Report, dtype: str) -> None:
    """Print this run's numbers beside the committed ones, and write them if that was asked for."""
    name = committed.family(describe_cpu())
    kept = committed.read().get(name, {}).get(dtype, {})
    if lines := committed.comparison(report.numbers, kept):
        report.say(f"beside the committed numbers of {name}, {dtype}:")
        report.say("\n".join(f"  {line}" for line in lines))
    if options.keep:
        today = datetime.date.today().isoformat()
        committed.keep(committed.PLACE, name, dtype, report.numbers, today)
        report.say(
            f"written into {committed.PLACE}; --table prints what docs/method/speed.md shows"
        )


if __name__ == "__main__":
    quiet()
    sys.exit(guarded(lambda: main(tyro.cli(SpeedOptions)), "speed"))
