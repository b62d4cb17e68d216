"""Listeners: objects that long-running work tells of its progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from rlchat_envs import Conversation


class FinishedEpisode(Protocol):
    """The part of an ended episode that a listener may read."""

    @property
    def conversation(self) -> Conversation:
        """All messages of the episode."""
        ...

    @property
    def parts(self) -> Sequence[Mapping[str, float]]:
        """The named score parts of each turn."""
        ...

    @property
    def score(self) -> float:
        """Sum of all parts of all turns."""
        ...

    @property
    def success(self) -> bool | None:
        """Whether the goal was reached; None where the environment tells no success."""
        ...


class FinishedTrajectory(FinishedEpisode, Protocol):
    """The part of a language model's ended episode that a listener may read."""

    @property
    def ids(self) -> Sequence[int]:
        """Token ids of the episode."""
        ...


class Listener:
    """Base of listeners: its methods do nothing; subclasses override those that they need.

    Library functions take one and never print. `rlchat.cli.live.progress.Progress` shows all of it
    on a terminal.
    """

    def say(self, line: str) -> None:
        """Take a line that stays readable after the work."""

    def warn(self, line: str) -> None:
        """Take a warning, to be shown at once."""

    def phase(self, line: str) -> None:
        """Take the name of a phase that begins; the next phase or status ends it."""

    def status(self, line: str) -> None:
        """Take a line about what is being done now."""

    def counter(self, what: str, total: int) -> Callable[[object], None]:
        """Give a function that is called after each of ``total`` things."""
        return lambda thing: None

    def share(self, what: str) -> Callable[[float, str], None]:
        """Give a function that is called with the share that is done, and a remark."""
        return lambda done, remark: None

    def rollout(self, iteration: int, episodes: int) -> Callable[[FinishedTrajectory], None]:
        """Give a function that is called with each of an iteration's episodes as it ends."""
        return lambda episode: None

    def iteration(self, row: Mapping[str, Any]) -> None:
        """Take an iteration's metrics; docs/method/metrics.md names them."""

    def dialogue(self, iteration: int, episode: FinishedEpisode) -> None:
        """Take an iteration's first episode, however it ended."""
