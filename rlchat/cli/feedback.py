"""Verbs `feedback …`: ratings counted, exported, learned from, forgotten.

What loads torch is imported where it is used: most verbs do without.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from rlchat.cli.options import LearnOptions, RestoreOptions, VersionsOptions
from rlchat.cli.terminal import HISTORY, printable, say
from rlchat.errors import UserError
from rlchat.feedback.export import ROWS, Format, existing_store
from rlchat.feedback.store import Store, store_path
from rlchat.files import at_home, data_folder, write_text

if TYPE_CHECKING:
    from rlchat.training.run_folder import RunFolder

_SHA256 = re.compile("[0-9a-f]{64}")  # the version of an adapter is that of its weights


def run_learn(options: LearnOptions, console: Console) -> None:
    """Let a run learn from ratings; accept the update or roll it back."""
    from rlchat.cli.live.progress import Progress
    from rlchat.training.feedback_update import update_from_feedback

    run = _run(options.run)
    with Progress(console, options.iterations) as progress:
        update = update_from_feedback(run, options, progress)
    decision, before = update.decision, update.before
    if decision.accepted:
        say(console, f"Accepted as version {update.version}: {decision.reason}.")
        say(console, f"rlchat feedback restore {run.folder} {before} goes back.")
    else:
        say(console, f"Rolled back to version {before}: {decision.reason}.")


def run_versions(options: VersionsOptions, console: Console) -> None:
    """Print a table of a run's versions."""
    from rlchat.training.versions import Versions

    versions = Versions(_run(options.run))
    known = versions.all()
    if not known:
        say(console, "No versions yet: rlchat feedback learn makes them.")
        return
    table = Table("version", "time", "from", "accepted", "why", box=None)
    current = versions.current
    for v in known:
        mark = f"{v.number} *" if v.number == current else str(v.number)
        cells = (mark, v.time, v.origin, "yes" if v.accepted else "no", v.reason)
        table.add_row(*(Text(cell) for cell in cells))
    table.caption = "* is the version that replies now"
    console.print(table)


def run_restore(options: RestoreOptions, console: Console) -> None:
    """Let a run reply with one of its versions."""
    from rlchat.training.versions import Versions

    run = _run(options.run)
    Versions(run).use(options.version)
    say(console, f"{run.folder} replies with version {options.version} now.")


def _run(folder: Path) -> RunFolder:
    """A run folder with an adapter of its own.

    Raises:
        UserError: it is none.
    """
    from rlchat.models.adapter_io import adapter_folder
    from rlchat.training.run_folder import RunFolder

    if adapter_folder(folder) != folder / "adapter":
        raise UserError(
            f"expected a run folder, with an adapter in it; got {folder}; train one with rlchat "
            "train --run"
        )
    return RunFolder(folder)


@dataclass(frozen=True)
class StatsOptions:
    """Say how many ratings there are, by agent and version."""


@dataclass(frozen=True)
class ExportOptions:
    """Write ratings as JSON lines, in trl's conversational formats."""

    out: str
    """JSON lines file to write; one that exists is replaced."""
    format: Format = "preference"
    """Kind of rows: preference is what was better and worse in the same place, from /ab and /edit;
    kto is replies and whether they were good, from + and -; sft is conversations whose last message
    was good, from + and /edit."""
    person: str = ""
    """Name of the person whose ratings are written; if empty, everybody's are."""


@dataclass(frozen=True)
class ForgetOptions:
    """Delete conversations and their ratings, from the file and its log, to the last byte."""

    session: str = ""
    """Id of the conversation that is deleted, as rlchat chat told it."""
    person: str = ""
    """Name of the person of whom everything is deleted."""
    yes: bool = False
    """Delete without asking whether you are sure."""

    def __post_init__(self) -> None:
        """Refuse to guess what is meant."""
        if bool(self.session) == bool(self.person):
            got = "both" if self.session else "neither"
            raise UserError(f"expected either a session or a person to forget; got {got}")


def run_stats(_: StatsOptions, console: Console) -> None:
    """Print a table; a line if there is nothing yet.

    Raises:
        UserError: the file cannot be read.
    """
    if not store_path().is_file():
        say(console, f"No ratings yet: there is no {store_path()}. rlchat chat takes some.")
        return
    with Store.open(store_path()) as store:
        tallies = store.stats()
    if not tallies:
        say(console, "No ratings: all are forgotten.")
        return
    table = Table(caption="stars are 1 to 5", box=None, padding=(0, 1, 0, 0))
    for name in tallies[0]:
        number = name not in ("agent", "version")
        words = name.replace(" ", "\n")
        # A name that is too long for its column goes on in the next line, and is never cut.
        side: JustifyMethod = "right" if number else "left"
        table.add_column(words, justify=side, no_wrap=number, overflow="fold")
    for tally in tallies:
        version = str(tally["version"])
        tally["version"] = version[:12] if _SHA256.fullmatch(version) else version
        table.add_row(*(Text(_cell(value)) for value in tally.values()))
    console.print(table)


def run_export(options: ExportOptions, console: Console) -> None:
    """Write ratings to a file in one of trl's formats.

    Raises:
        UserError: there is nothing to write.
    """
    with Store.open(existing_store()) as store:
        rows = list(ROWS[options.format](store.ratings(options.person)))
    if not rows:
        whose = f" of {options.person}" if options.person else ""
        raise UserError(
            f"expected ratings that make {options.format} rows; there are none{whose}; "
            "rlchat feedback stats says what there is"
        )
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_text(at_home(options.out), "".join(lines))
    say(console, f"Wrote {len(rows)} {options.format} row{'s' * (len(rows) > 1)}: {options.out}")


def run_forget(options: ForgetOptions, console: Console) -> None:
    """Delete, after asking; say what went.

    Raises:
        UserError: there is nothing of the sort.
    """
    which = {"session": options.session, "person": options.person}
    whose = f"person {options.person}" if options.person else f"session {options.session}"
    with Store.open(existing_store()) as store:
        counts = store.count(**which)
        if not counts[0]:
            raise UserError(f"expected a kept session; there is none of {whose}; nothing went")
        what = f"{_counted(*counts)} of {whose}"
        if not options.yes and not _sure(console, f"Forget {what}? They cannot be had back. y/N "):
            say(console, "Nothing went.")
            return
        store.forget(**which)
    say(console, f"Gone: {what}.")
    for typed in sorted(data_folder().glob(f"*{HISTORY}")):
        say(
            console,
            f"Lines typed in a terminal are also in {typed}; delete it if they are to go too.",
        )


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else printable(str(value))


def _counted(sessions: int, replies: int, ratings: int) -> str:
    said = f"{replies} repl{'y' if replies == 1 else 'ies'}"
    rated = f"{ratings} rating{'s' * (ratings != 1)}"
    return f"{sessions} session{'s' * (sessions != 1)}, {said} and {rated}"


def _sure(console: Console, question: str) -> bool:
    try:
        return console.input(Text(printable(question))).strip().lower() in ("y", "yes")
    except EOFError:
        console.print()
        return False
