"""The verbs `feedback stats`, `export` and `forget`: what persons' ratings have come to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlchat.cli.terminal import printable, say
from rlchat.errors import UserError
from rlchat.feedback.store import Messages, Rating, Store, store_path
from rlchat.files import at_home, data_folder, write_text

Format = Literal["preference", "kto", "sft"]


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


def run_stats(console: Console) -> None:
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


def stored_preferences(person: str = "") -> list[dict[str, Any]]:
    """What was chosen over what, in trl's preference format.

    Raises:
        UserError: there are no ratings.
    """
    with Store.open(existing_store()) as store:
        return list(preference_rows(store.ratings(person)))


def preference_rows(ratings: Iterable[Rating]) -> Iterator[dict[str, Any]]:
    """What was better and worse in the same place, from /ab and /edit, in trl's format."""
    for rating in ratings:
        if rating.kind in ("pair", "edit") and rating.value:
            texts = [rating.reply.text, rating.other]
            better, worse = texts if rating.value > 0 else reversed(texts)
            yield {
                "prompt": rating.reply.context,
                "chosen": _said(better),
                "rejected": _said(worse),
                "weight": 1.0,
                **_about(rating),
            }


def _thumbs(ratings: Iterable[Rating]) -> Iterator[dict[str, Any]]:
    for rating in ratings:
        if rating.kind == "thumb":
            yield {
                "prompt": rating.reply.context,
                "completion": _said(rating.reply.text),
                "label": rating.value > 0,
                **_about(rating),
            }


def _demonstrations(ratings: Iterable[Rating]) -> Iterator[dict[str, Any]]:
    for rating in ratings:
        good = rating.other if rating.kind == "edit" else rating.reply.text
        if rating.kind == "edit" or (rating.kind == "thumb" and rating.value > 0):
            yield {"messages": [*rating.reply.context, *_said(good)], **_about(rating)}


ROWS: dict[Format, Callable[[Iterable[Rating]], Iterator[dict[str, Any]]]] = {
    "preference": preference_rows,
    "kto": _thumbs,
    "sft": _demonstrations,
}


def _said(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]


def _about(rating: Rating) -> dict[str, Any]:
    session = rating.session
    return {"source": f"person:{session.person}", "turn": rating.reply.turn, "dialogue": session.id}


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else printable(str(value))


def _counted(sessions: int, replies: int, ratings: int) -> str:
    said = f"{replies} repl{'y' if replies == 1 else 'ies'}"
    rated = f"{ratings} rating{'s' * (ratings != 1)}"
    return f"{sessions} session{'s' * (sessions != 1)}, {said} and {rated}"


def existing_store() -> Path:
    """Where ratings are kept.

    Raises:
        UserError: none are.
    """
    path = store_path()
    if not path.is_file():
        raise UserError(f"expected ratings; there is no {path}; rate replies in rlchat chat first")
    return path


def _sure(console: Console, question: str) -> bool:
    try:
        return console.input(Text(printable(question))).strip().lower() in ("y", "yes")
    except EOFError:
        console.print()
        return False
