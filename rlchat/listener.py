"""Who is told how long-running work goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rlchat.rollout.trajectory import Trajectory


class Listener:
    """Told how training goes; this one does not care."""

    def status(self, line: str) -> None:
        """What is being done right now."""

    def rollout(self, iteration: int, episodes: int) -> Callable[[Trajectory], None]:
        """An iteration's episodes begin; what this gives is called with each that has ended."""
        return lambda trajectory: None

    def iteration(self, row: Mapping[str, Any]) -> None:
        """An iteration's metrics."""

    def dialogue(self, iteration: int, trajectory: Trajectory) -> None:
        """An iteration's first episode, however it ended."""

    def warn(self, line: str) -> None:
        """What a person should know of at once."""
