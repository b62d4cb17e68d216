"""What the parts of the speed benchmark share: options, the report, timed runs with progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import talk
import torch
from rich.console import Console

from rlchat.errors import UserError
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.settings import DTypeName, expect

Part = Literal["decode", "update", "rollout", "loaded", "growth"]
Result = TypeVar("Result")

MODEL = "smollm2-135m"  # whose numbers are committed
# Percent of a default run's time, by arithmetic from the timings of docs/lab.md.
SHARES: dict[Part, int] = {"decode": 8, "update": 25, "rollout": 50, "loaded": 17}


@dataclass(frozen=True)
class SpeedOptions:
    """Time decoding, updates and rollouts, idle and beside a busy process."""

    parts: tuple[Part, ...] = ("decode", "update", "rollout", "loaded")
    """What to time; growth is the study of turns, episodes and models, and takes far longer."""
    policy: str = MODEL
    """The model."""
    dtype: DTypeName = "auto"
    """Its precision, and the usual way's."""
    episodes: tuple[int, ...] = (24,)
    """Episodes in flight, of rollouts."""
    turns: int = 6
    """Turns an episode, of rollouts."""
    repeats: int = 2
    """Timed runs of ours, of which the median counts; decoding has eight times as many steps."""
    usual_repeats: int = 1
    """Timed runs of the usual way."""
    keep: bool = False
    """Write the numbers into benchmarks/speed/speed.json, as those of this CPU family."""
    table: bool = False
    """Only print the committed numbers as a table."""
    out: Path = Path("runs/bench/speed.json")
    """Where the numbers go."""

    def __post_init__(self) -> None:
        """Refuse settings out of range, and numbers that do not belong among the committed ones."""
        for name in ("turns", "repeats", "usual_repeats"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        expect(self, "episodes", min(self.episodes, default=0) >= 1, "of at least 1 each")
        if self.keep and self.policy != MODEL:
            raise UserError(
                f"expected --keep with {MODEL}, whose numbers are committed; got --policy "
                f"{self.policy}; leave out one of the two"
            )

    def load(self) -> Policy:
        """The policy with a fresh adapter, on the CPU, which is what these benchmarks are about."""
        return Policy.create(self.policy, AdapterConfig(dtype=self.dtype, device="cpu"))


@dataclass
class Report:
    """Numbers by part, and lines for people."""

    console: Console
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def say(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def step(self, line: str) -> None:
        """Print a line that begins with the seconds since the start."""
        self.say(f"[{time.monotonic() - self.begun:4.0f} s] {line}")

    def begin(self, part: Part, number: int, parts: int) -> None:
        """Tell that a part begins."""
        share = f", about {SHARES[part]}% of a default run" if part in SHARES else ""
        self.step(f"{part}: part {number} of {parts}{share}")

    def add(self, key: str, options: SpeedOptions, numbers: dict[str, Any]) -> None:
        """Take the numbers of a part, with what they depend on besides the CPU and the dtype."""
        settings = {"policy": options.policy, "threads": torch.get_num_threads()}
        self.numbers[key] = settings | numbers

    def timed(
        self, what: str, action: Callable[[int], Result], repeats: int
    ) -> tuple[float, list[Result]]:
        """Announce and time some runs; give the median of the seconds, and what the runs gave."""

        def announced(run: int) -> Result:
            self.step(f"{what}, run {run + 1} of {repeats}")
            return action(run)

        return talk.timed(announced, repeats)


def runs(count: int) -> str:
    """How a number came about, for people."""
    return "1 run" if count == 1 else f"median of {count} runs"
