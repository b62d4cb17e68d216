"""Verbs `feedback …`: ratings counted, exported, learned from, forgotten."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlchat.cli.progress import Progress
from rlchat.cli.terminal import printable, say
from rlchat.errors import UserError
from rlchat.feedback.export import ROWS, Format, existing_store
from rlchat.feedback.store import Store, store_path
from rlchat.files import at_home, data_folder, write_text
from rlchat.models.adapter_io import adapter_folder
from rlchat.training.config import FeedbackUpdateConfig
from rlchat.training.feedback_update import update_from_feedback
from rlchat.training.run_folder import RunFolder
from rlchat.training.versions import Versions


@dataclass(frozen=True, kw_only=True)
class LearnOptions(FeedbackUpdateConfig):
    """Let a run learn from ratings; what does harm on held-out users is rolled back."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder. Its adapter is replaced only by an update that passes; every version is kept."""


def run_learn(options: LearnOptions, console: Console) -> None:
    """Learn, measure, and accept or roll back."""
    run = _run(options.run)
    with Progress(console, options.iterations) as progress:
        update = update_from_feedback(run, options, progress)
    decision, before = update.decision, update.before
    if decision.accepted:
        say(console, f"Accepted as version {update.version}: {decision.reason}.")
        say(console, f"rlchat feedback restore {run.folder} {before} goes back.")
    else:
        say(console, f"Rolled back to version {before}: {decision.reason}.")


@dataclass(frozen=True)
class VersionsOptions:
    """List the versions of a run: what training left, and every update from feedback."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""


def run_versions(options: VersionsOptions, console: Console) -> None:
    """Print a table."""
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
    table.caption = "* is what the run speaks with"
    console.print(table)


@dataclass(frozen=True)
class RestoreOptions:
    """Let a run speak with one of its versions again."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    version: Annotated[int, tyro.conf.Positional]
    """A number of `rlchat feedback versions`."""


def run_restore(options: RestoreOptions, console: Console) -> None:
    """Go back, or forth."""
    run = _run(options.run)
    Versions(run).use(options.version)
    say(console, f"{run.folder} speaks with version {options.version} now.")


def _run(folder: Path) -> RunFolder:
    """A run folder with an adapter of its own.

    Raises:
        UserError: it is none.
    """
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
    """The file; one that exists is replaced."""
    format: Format = "preference"
    """preference: what was better and worse in the same place, from /ab and /edit. kto: replies and
    whether they were good, from + and -. sft: conversations whose last message was good, from + and
    /edit."""
    person: str = ""
    """Whose ratings; everybody's if nobody is named."""


@dataclass(frozen=True)
class ForgetOptions:
    """Delete conversations and their ratings, from the file and its log, to the last byte."""

    session: str = ""
    """The conversation of this id."""
    person: str = ""
    """Everything of this person's."""
    yes: bool = False
    """Do not ask."""

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
        table.add_column(words, justify="right" if number else "left", no_wrap=number)
    for tally in tallies:
        tally["version"] = str(tally["version"])[:12]
        table.add_row(*(Text(_cell(value)) for value in tally.values()))
    console.print(table)


def run_export(options: ExportOptions, console: Console) -> None:
    """Write the file.

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
    typed = data_folder() / "chat-history"
    if typed.is_file():
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
