"""Whole iterations of rlchat beside other trainers, each in an environment of its own.

    make bench-peers

Single-turn against trl 1.12's PPOTrainer on its terms (32 prompts of 64 tokens, replies of 24, two
epochs, the same adapter), in float32 and, where that pays, in bfloat16; multi-turn at the support
desk against trl's GRPOTrainer and AgileRL's LLMPPO, in float32, from the same adapter: episodes a
minute, and success after the same time. One after the other on an idle machine.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console

from rlchat import files
from rlchat.cli.libraries import quiet
from rlchat.models.device import choose_dtype
from rlchat.models.fetching.catalog import fetch

HERE = Path(__file__).parent
# What each peer is installed as; current trl is what rlchat itself needs.
PACKAGES = {
    "trl_ppo": ["trl==1.12.0", "torch==2.13.0", "peft", "transformers<6"],
    "agilerl_llmppo": ["agilerl[cpu-llm]==2.58.0", "gymnasium"],
}
DESK = {"trl_grpo": "GRPOTrainer", "agilerl_llmppo": "LLMPPO"}  # who converses at the desk
Peer = Literal["trl_ppo", "trl_grpo", "agilerl_llmppo"]


@dataclass(frozen=True)
class PeerOptions:
    """Time rlchat beside its peers."""

    peers: tuple[Peer, ...] = ("trl_ppo", "trl_grpo", "agilerl_llmppo")
    """Whom to run."""
    iterations: int = 3
    """Iterations of each; the median counts."""
    episodes: int = 32
    """Episodes an iteration."""
    seconds: float = 0.0
    """At least so many seconds of multi-turn training; 0 is the iterations alone."""
    warm_start: Path | None = None
    """Adapter that multi-turn training starts from (rlchat sft makes one); none is a fresh one."""
    policy: str = "smollm2-135m"
    """The model."""
    work: Path = Path("runs/bench")
    """Where environments and numbers go."""


@dataclass
class Bench:
    """Runs processes and keeps what they wrote."""

    options: PeerOptions
    console: Console = field(default_factory=Console)
    numbers: dict[str, Any] = field(default_factory=dict)

    def python(self, peer: str) -> str:
        """The interpreter of a peer's environment, which is made first if need be."""
        if peer not in PACKAGES:
            return sys.executable
        folder = (self.options.work / "environments" / peer).absolute()
        done, python = folder / "installed", str(folder / "bin" / "python")
        if not done.is_file():
            self.console.print(f"installing {' '.join(PACKAGES[peer])}", markup=False)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES[peer]], check=True)
            done.touch()
        return python

    def run(self, name: str, peer: str, *arguments: str) -> dict[str, Any] | None:
        """Run a script and give what it wrote; None, and what it said, if it could not."""
        out = (self.options.work / f"{name}.json").absolute()
        script = str(HERE / "peers" / f"{peer}.py")
        command = [self.python(peer), script, "--out", str(out), *arguments]
        rooms = ["envs", "reward_models", *([] if peer in PACKAGES else ["."])]
        path = os.pathsep.join(str((HERE.parent / room).resolve()) for room in rooms)
        self.console.print(f"{name}: {shlex.join(arguments)}", markup=False, highlight=False)
        log = out.with_suffix(".log")
        with log.open("w") as said:
            done = subprocess.run(
                command,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
            )
        if done.returncode:
            tail = log.read_text().strip().splitlines()[-1:]
            self.numbers[name] = {"failed": tail}
            self.console.print(f"{name} failed: {tail}", markup=False)
            return None
        result: dict[str, Any] = json.loads(out.read_text())
        self.numbers[name] = result
        files.write_json(self.options.work / "peers.json", self.numbers)
        return result

    def compare(
        self, name: str, ours: dict[str, Any] | None, theirs: dict[str, Any] | None
    ) -> None:
        """Print the ratio of two results."""
        if ours is None or theirs is None:
            return
        a, b = (statistics.median(seconds(r)) for r in (ours, theirs))
        m, n = ours["peak_memory_gib"], theirs["peak_memory_gib"]
        count = 60 * ours["episodes"]
        line = (
            f"{name}: rlchat {a:.1f} s ({count / a:.0f} episodes/min, {m:.1f} GiB), "
            f"peer {b:.1f} s ({count / b:.0f} episodes/min, {n:.1f} GiB): "
            f"{b / a:.1f} times as fast, {100 * m / n:.0f}% of the memory"
        )
        self.numbers[f"{name}: ratio"] = {"seconds": b / a, "memory": m / n}
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def seconds(result: dict[str, Any]) -> list[float]:
    """Seconds of each iteration."""
    if "seconds" in result:
        return [float(s) for s in result["seconds"]]
    return [float(row["seconds"]) for row in result["iterations"]]


def main(options: PeerOptions) -> None:
    """Run ours and theirs, print ratios, write the numbers."""
    bench = Bench(options)
    options.work.mkdir(parents=True, exist_ok=True)
    model, count = str(fetch(options.policy)), ["--iterations", str(options.iterations)]
    if "trl_ppo" in options.peers:
        best = choose_dtype("auto", torch.device("cpu"))
        for dtype in dict.fromkeys(("float32", str(best).removeprefix("torch."))):
            same = [*count, "--dtype", dtype]
            ours = bench.run(f"rlchat {dtype}", "rlchat_ppo", "--model", options.policy, *same)
            bench.compare(
                f"PPOTrainer, {dtype}",
                ours,
                bench.run(f"trl_ppo {dtype}", "trl_ppo", "--model", model, *same),
            )
    several = [*count, "--episodes", str(options.episodes)]
    if options.seconds:
        several += ["--seconds", str(options.seconds)]
    if options.warm_start is not None:
        several += ["--adapter", str(options.warm_start.absolute())]
    desk = [(peer, name) for peer, name in DESK.items() if peer in options.peers]
    if desk:
        mine = ["--model", options.policy, "--world", "support", *several]
        ours = bench.run("rlchat multi-turn", "rlchat_ppo", *mine)
    for peer, name in desk:
        theirs = bench.run(f"{peer} multi-turn", peer, "--model", model, *several)
        bench.compare(f"{name}, multi-turn", ours, theirs)
    files.write_json(options.work / "peers.json", bench.numbers)


if __name__ == "__main__":
    quiet()
    main(tyro.cli(PeerOptions))
