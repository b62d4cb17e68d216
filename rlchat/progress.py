"""What a person sees while things take long."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlchat.train import Watcher

_COLUMNS = (
    ("iteration", "iteration", "{:.0f}"),
    ("return", "return", "{:+.2f}"),
    ("success", "success", "{:.2f}"),
    ("turns", "turns", "{:.1f}"),
    ("kl", "kl", "{:.3f}"),
    ("entropy", "entropy", "{:.2f}"),
    ("expl. var.", "explained_variance", "{:+.2f}"),
    ("tokens/s", "tokens_per_second", "{:.0f}"),
)
_SHOWN = 20
# What is told once if it happens: name in the metrics, when, and what it may mean.
_SIGNS: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("dropped_characters", lambda x: x > 0, "the environment's action space lacks some characters"),
    ("entropy", lambda x: x < 0.02, "the agent hardly tries anything any more"),
    ("clip_fraction", lambda x: x > 0.3, "steps are too long; lower --ppo.learning-rate"),
    ("explained_variance", lambda x: x < -0.5, "the critic misleads"),
    (
        "score_length_correlation",
        lambda x: x > 0.8,
        "the score may pay for length",
    ),
)
_LOOK_BACK = 4  # iterations, against as many before: does success follow the score?
LINES_APART = 60.0  # seconds between status lines where nobody watches


class Progress(Watcher):
    """A live table of iterations with a status line below; plain lines where nobody watches.

    Use it as a context manager. ``quiet`` shows nothing (for ranks other than the first).
    """

    def __init__(self, console: Console, total: int = 0, quiet: bool = False):
        """Show on ``console``; ``total`` iterations are to come."""
        self.console, self.total, self.quiet = console, total, quiet
        self._rows: list[Mapping[str, Any]] = []
        self._seconds: list[float] = []
        self._told: set[str] = set()
        self._status = ""
        self._shown = time.monotonic()
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Progress:
        """Start showing."""
        if self._animated:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the last state on the screen."""
        self._status = ""
        if self._animated:
            self._live.update(self._picture(), refresh=True)
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line above the table."""
        if not self.quiet:
            self.console.print(Text(line))

    def status(self, line: str, force: bool = False) -> None:
        """Replace the status line, at most some times a second; a log hears one a minute."""
        self._status = line
        if not self._animated and time.monotonic() - self._shown > LINES_APART:
            self._shown = time.monotonic()
            self.say(line)
        if self._animated and (force or time.monotonic() - self._shown > 0.2):
            self._shown = time.monotonic()
            self._live.update(self._picture(), refresh=True)

    def counter(self, what: str, total: int) -> Callable[[object], None]:
        """A function that counts its calls on the status line."""
        calls = itertools.count(1)
        return lambda _: self.status(f"{what}: {next(calls)}/{total}")

    def warn(self, line: str) -> None:
        """Print a line that stands out."""
        if not self.quiet:
            self.console.print(Text(line, "bold red"), soft_wrap=True)

    def iteration(self, row: Mapping[str, Any]) -> None:
        """Add an iteration's metrics."""
        if row.get("skipped_updates"):
            self.say(f"{row['skipped_updates']:.0f} updates skipped: not finite")
        self._rows.append(row)
        for name, meaning in signs(self._rows).items():
            if name not in self._told:
                self._told.add(name)
                self.say(f"iteration {row['iteration']:.0f}: {meaning}")
        self._seconds.append(float(row["seconds"]))
        if self._animated:
            self.status(self._status, force=True)
        elif not self.quiet:
            shown = "  ".join(f"{title} {_show(row, key, form)}" for title, key, form in _COLUMNS)
            self.console.print(Text(f"{shown}  left {self._left()}"), soft_wrap=True)

    @property
    def _animated(self) -> bool:
        return self.console.is_terminal and not self.quiet

    def _left(self) -> str:
        if not self._rows:
            return "?"
        to_come = self.total - int(self._rows[-1]["iteration"]) - 1
        recent = self._seconds[-5:]
        return minutes(to_come * sum(recent) / len(recent))

    def _picture(self) -> Group:
        if not self._rows:
            return Group(Text(self._status))
        table = Table(*(title for title, _, _ in _COLUMNS), "time left", box=None)
        shown = self._rows[-_SHOWN:]
        for row in shown:
            left = self._left() if row is shown[-1] else ""
            table.add_row(*(_show(row, key, form) for _, key, form in _COLUMNS), left)
        return Group(table, Text(self._status))


def minutes(seconds: float) -> str:
    """Seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def signs(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What in the last iteration's metrics a person should look at, and why.

    Args:
        rows: of all iterations so far.
    """
    found = {}
    for name, strange, meaning in _SIGNS:
        value = rows[-1].get(name)
        if value is not None and strange(value):
            found[name] = f"{name} {value:.4g}: {meaning}"
    recent, before = rows[-_LOOK_BACK:], rows[-2 * _LOOK_BACK : -_LOOK_BACK]
    if len(before) == _LOOK_BACK:
        gained, solved, cost = (
            sum(r.get(name, math.nan) for r in recent) - sum(r.get(name, math.nan) for r in before)
            for name in ("return", "success", "cost")
        )
        if gained > 0 and solved < -0.05 * _LOOK_BACK:
            found["success"] = "return rises while success falls; read transcripts"
        if cost > 0.05 * _LOOK_BACK:
            found["cost"] = "what is unsafe grows more frequent; read transcripts"
    return found


def _show(row: Mapping[str, Any], key: str, form: str) -> str:
    value = row.get(key)
    return "–" if value is None or value != value else form.format(value)
