"""Settings of a sweep: those of a training, and what is done several times."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from rlchat.errors import UserError
from rlchat.settings import SEEDS, expect
from rlchat.training.config import TrainConfig
from rlchat.training.sweep.grid import Setting, check_name, settings_of

_INSTEAD = {"run": "--out", "seed": "--seeds"}
"""Options of a training that the sweep sets in each run, and what is given instead."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig(TrainConfig):
    """Train several seeds, or a grid of settings, and say what they come to together."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds that each setting is trained with, one run each. Two runs of one setting differ by
    several points: with three, intervals are wide; five or more tell much more."""
    grid: tuple[str, ...] = ()
    """Options of `rlchat train` and the values that they take, as in ppo.learning-rate=1e-5,3e-5
    ppo.beta=0.01,0.1: every combination is a setting. Values that have a comma in them are
    separated by semicolons. If empty, there is one setting."""
    out: Path = Path("runs/sweep")
    """Folder of the sweep, which has a run folder for each setting and seed. The same command goes
    on where it was stopped."""
    split: Literal["dev", "test"] = "dev"
    """Split of the users that finished runs are measured on: choose settings by dev; use test once,
    for what you publish."""
    against: str = ""
    """Setting that the others are compared with, written as in the table (ppo.beta=0.01); if empty,
    the first."""
    evaluation: int = 100
    """Number of simulated users that each finished run is measured on: the same for all runs, in
    the place of each run's own evaluation before and after."""

    def __post_init__(self) -> None:
        """Refuse settings out of range, before anything is trained."""
        super().__post_init__()
        object.__setattr__(self, "out", Path(self.out))  # callers from Python give strings too
        for name, instead in _INSTEAD.items():
            usual = next(f.default for f in fields(TrainConfig) if f.name == name)
            if getattr(self, name) != usual:
                raise UserError(
                    f"expected {instead}, as a sweep sets --{name} of each run; got --{name} "
                    f"{getattr(self, name)}"
                )
        if self.resume:
            raise UserError("expected no --resume: the same command goes on with a sweep; leave it")
        for name in ("iterations", "evaluation"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            told = " ".join(map(str, self.seeds)) or "none"
            raise UserError(f"expected seeds that differ, as in --seeds 0 1 2; got {told}")
        for seed in self.seeds:
            if not 0 <= seed < SEEDS:
                raise UserError(f"expected seeds of at least 0 and below {SEEDS}; got {seed}")
        _ = self.first

    @property
    def settings(self) -> list[Setting]:
        """Every point of the grid, in its order; the only setting if there is no grid.

        Raises:
            UserError: the grid cannot be read, or a point of it is no setting.
        """
        plain = {f.name: getattr(self, f.name) for f in fields(TrainConfig)}
        return settings_of(TrainConfig(**plain), self.grid)

    @property
    def first(self) -> str:
        """Name of the setting that others are compared with.

        Raises:
            UserError: there is none of that name.
        """
        names = [setting.name for setting in self.settings]
        return check_name(self.against, names) if self.against else names[0]
