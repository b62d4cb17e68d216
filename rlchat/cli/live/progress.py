"""Progress on a terminal: phases, counters, iterations and the time left."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rlchat.cli.live.pace import Beat, Load, Pace, Tally, minutes, slowed
from rlchat.cli.live.signs import signs
from rlchat.cli.tables import course, dialogue, ending, own_columns
from rlchat.listener import FinishedEpisode, FinishedTrajectory, Listener

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
LINES_APART = 60.0  # seconds between status lines where nobody watches
_PICTURES_APART = 0.2  # seconds between pictures where somebody does
_SAMPLES_APART = 5.0  # seconds between looks at what other processes use
_DIALOGUES_APART = 4  # iterations
_BRIEF = 10.0  # seconds that something may last before it is said how long it does


class Progress(Listener):
    """A live table of iterations with a status below; plain lines where nobody watches.

    Use it as a context manager. ``quiet`` shows nothing (for ranks other than the first).
    """

    def __init__(
        self,
        console: Console,
        total: int = 0,
        quiet: bool = False,
        episodes: int = 64,
        clock: Callable[[], float] = time.monotonic,
        load: Load | None = None,
    ):
        """Show progress on ``console``.

        Args:
            console: a terminal, or a file that gets plain lines.
            total: iterations to come.
            quiet: show nothing.
            episodes: of an iteration, on which the interval of its success depends.
            clock: seconds.
            load: what other processes use; this machine's if left out.
        """
        self.console, self.total, self.quiet, self.episodes = console, total, quiet, episodes
        self._clock, self._load = clock, load or Load()
        self._rows: list[Mapping[str, Any]] = []
        self._seconds: list[float] = []
        self._told: set[str] = set()
        self._status: Callable[[], str] = lambda: ""
        self._slowed = ""
        self._shown = self._sampled = clock()
        self._since = Pace(clock)  # the last iteration's end
        self._iteration: Pace | None = None  # the one that goes on
        self._lock = threading.RLock()
        self._beat = Beat(self.tick)
        self._live = Live(console=console, auto_refresh=False, get_renderable=self._picture)

    def __enter__(self) -> Progress:
        """Start the display and the thread that refreshes it."""
        if self._animated:
            self._live.start()
        if not self.quiet:
            self._beat.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the last state on the screen."""
        if not self.quiet:
            self._beat.end()
        self._status = lambda: ""
        if self._animated:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line above the table."""
        self._print(Text(line), soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print a line that stands out."""
        self._print(Text(line, "bold red"), soft_wrap=True)

    def phase(self, line: str) -> None:
        """Show at once what begins, in a log too."""
        self._show(self._lasting(line), at_once=True)

    def status(self, line: str) -> None:
        """Replace the status line; it says as well how long this has lasted, or will."""
        self._show(self._lasting(line))

    def counter(self, what: str, total: int) -> Callable[[object], None]:
        """A function that counts its calls on the status line, with the time left."""
        calls, pace = itertools.count(1), Pace(self._clock)
        self._show(lambda: f"{what}: 0/{total}", at_once=True)

        def count(_: object) -> None:
            done = next(calls)
            self._show(lambda: f"{what}: {done}/{total}{pace.left_of(done, total)}")

        return count

    def share(self, what: str) -> Callable[[float, str], None]:
        """A function that shows which share of something is done, a remark, and the time left."""
        pace = Pace(self._clock)

        def show(done: float, remark: str) -> None:
            self._show(lambda: f"{what}: {done:.0%}, {remark}{pace.left(done)}")

        return show

    def rollout(self, iteration: int, episodes: int) -> Callable[[FinishedTrajectory], None]:
        """Show that an iteration's episodes begin; what it gives counts those that have ended."""
        self._iteration = Pace(self._clock)
        tally = Tally(episodes, self._iteration)

        def line() -> str:
            return f"iteration {iteration}: {tally.line()}"

        def count(episode: FinishedTrajectory) -> None:
            with self._lock:
                tally.add(episode)
            self._show(line)

        self._show(line, at_once=not self._rows)
        return count

    def iteration(self, row: Mapping[str, Any]) -> None:
        """Add an iteration's metrics."""
        with self._lock:
            self._rows.append(row)
            self._seconds.append(float(row["seconds"]))
            self._since, self._iteration = Pace(self._clock), None
            if row.get("skipped_updates"):
                self.say(f"{row['skipped_updates']:.0f} updates skipped: not finite")
            for name, meaning in signs(self._rows).items():
                if name not in self._told:
                    self._told.add(name)
                    self.say(f"iteration {row['iteration']:.0f}: {meaning}")
            if self._animated:
                self.tick(at_once=True)
            else:
                self._print(Text(self._line(row)), soft_wrap=True)

    def dialogue(self, iteration: int, episode: FinishedEpisode) -> None:
        """Print the dialogue of every fourth iteration above the table."""
        if (iteration + 1) % _DIALOGUES_APART == 0:
            title = f"iteration {iteration}, its first dialogue: {ending(episode)}"
            self._print(Panel(dialogue(episode.conversation), title=title))

    def tick(self, at_once: bool = False) -> None:
        """Show the status if it is time to: often to a person, once a minute in a log."""
        with self._lock:
            apart = _PICTURES_APART if self._animated else LINES_APART
            if self.quiet or not (at_once or self._clock() - self._shown > apart):
                return
            self._shown = self._clock()
            if self._animated:
                self._live.refresh()
            elif status := self._status():
                line = "; ".join(filter(None, (status, self._slowing())))
                self._print(Text(line), soft_wrap=True)

    @property
    def _animated(self) -> bool:
        return self.console.is_terminal and not (self.console.is_dumb_terminal or self.quiet)

    def _print(self, what: RenderableType, soft_wrap: bool = False) -> None:
        if not self.quiet:
            self.console.print(what, soft_wrap=soft_wrap)

    def _show(self, status: Callable[[], str], at_once: bool = False) -> None:
        self._beat.check()
        with self._lock:
            self._status = status
            self.tick(at_once)

    def _lasting(self, line: str) -> Callable[[], str]:
        """A status of which nobody says how much is done."""
        pace = Pace(self._clock)

        def status() -> str:
            if self._iteration is not None and self._seconds:
                left = self._usual() - self._iteration.spent
                if left > 0:
                    return f"{line}, {minutes(left)} left in this iteration"
            return f"{line}, {minutes(pace.spent)} so far" if pace.spent > _BRIEF else line

        return status

    def _slowing(self) -> str:
        """Say what slows the training down, if something does."""
        if self._clock() - self._sampled > _SAMPLES_APART:
            self._sampled = self._clock()
            rates = [float(r["tokens_per_second"]) for r in self._rows if "tokens_per_second" in r]
            speed = rates[-1] / max(rates) if len(rates) > 1 else None
            self._slowed = slowed(self._load.sample(), self._load.cores, speed)
        return self._slowed

    def _usual(self) -> float:
        """Seconds of an iteration, of late."""
        recent = self._seconds[-5:]
        return sum(recent) / len(recent)

    def _left(self) -> str:
        """Time left for the iterations to come."""
        to_come = self.total - int(self._rows[-1]["iteration"]) - 1
        return minutes(max(0.0, to_come * self._usual() - self._since.spent))

    def _line(self, row: Mapping[str, Any]) -> str:
        """An iteration for a log."""
        columns = (*_COLUMNS, *own_columns(self._rows))
        shown = "  ".join(f"{title} {_cell(row, key, form)}" for title, key, form in columns)
        return f"{shown}  left {self._left()}  {course(self._rows, self.episodes)}"

    def _picture(self) -> Group:
        shown: list[RenderableType] = []
        if self._rows:
            shown += [self._table(), Text(course(self._rows, self.episodes))]
        if status := self._status():
            shown += [Text(status), Text(self._slowing(), "yellow")]
        return Group(*shown)

    def _table(self) -> Table:
        columns = (*_COLUMNS, *own_columns(self._rows))
        table = Table(*(title for title, _, _ in columns), "time left", box=None)
        shown = self._rows[-_SHOWN:]
        for row in shown:
            left = self._left() if row is shown[-1] else ""
            table.add_row(*(_cell(row, key, form) for _, key, form in columns), left)
        return table


def _cell(row: Mapping[str, Any], key: str, form: str) -> str:
    value = row.get(key)
    return "–" if value is None or value != value else form.format(value)
