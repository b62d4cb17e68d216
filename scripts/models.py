"""Write docs/method/models.md from what came of each kind of model: `make models` runs it."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import transformers

PAGE = Path(__file__).resolve().parent.parent / "docs" / "method" / "models.md"
BEGIN = "<!-- Made by `make models`. -->"
WIDTH = 110  # of the page's lines
LAST = ("refused", "not tried")  # outcomes that have reasons
OUTCOMES = ("exact", "by rows", *LAST)
TITLES = {"exact": "Exact, packed", "by rows": "Exact, by rows"}
_GOT = re.compile(r"; got (?:\w+: )?(?:NotImplementedError: )?(.*?); (?:choose|lower)")

Note = Mapping[str, str]


def main(path: Path) -> None:
    """Replace the lists of the page by those of a file of notes, one a line."""
    lines = path.read_text("utf-8").splitlines()
    text = PAGE.read_text("utf-8")
    made = lists([json.loads(line) for line in lines])
    PAGE.write_text(text[: text.index(BEGIN)] + f"{BEGIN}\n\n{made}\n", "utf-8")


def lists(notes: Iterable[Note]) -> str:
    """What is exact, what is refused and why, and what was not tried and why."""
    kinds = sorted(notes, key=lambda note: note["kind"])
    of: dict[str, list[Note]] = defaultdict(list)
    for note in kinds:
        of[note["outcome"]].append(note)
    outcomes = [outcome for outcome in OUTCOMES if of[outcome]]
    counts = ", ".join(f"{len(of[outcome])} {outcome}" for outcome in outcomes)
    parts = [
        wrapped(f"With transformers {transformers.__version__}, of {len(kinds)} kinds: {counts}.")
    ]
    for outcome in outcomes:
        parts.append(f"### {TITLES.get(outcome, outcome.capitalize())}")
        parts.append((by_reason if outcome in LAST else named)(of[outcome]))
    return "\n\n".join(parts)


def named(notes: Iterable[Note]) -> str:
    """Kinds in a row, each with its limit if it has one."""
    limits = [
        f"`{note['kind']}`" + (f" (here {limit})" if (limit := limit_of(note)) else "")
        for note in notes
    ]
    return wrapped(", ".join(limits) + ".")


def limit_of(note: Note) -> str:
    """How long the rows of a tiny model may be, if that has an end."""
    return note["reason"] if note["reason"].startswith("up to") else ""


def by_reason(notes: Iterable[Note]) -> str:
    """A table of reasons, most kinds first."""
    of: dict[str, list[str]] = defaultdict(list)
    for note in notes:
        of[why(note["reason"])].append(f"`{note['kind']}`")
    rows = sorted(of.items(), key=lambda item: -len(item[1]))
    return "\n".join(
        ["| why | kinds |", "|---|---|", *(f"| {reason} | {', '.join(k)} |" for reason, k in rows)]
    )


def why(sentence: str) -> str:
    """What an error got, without what would end a cell, and without numbers that differ alone."""
    found = _GOT.search(sentence)
    reason = re.sub(r"\b\d[\d.e+-]*", "…", found[1] if found else sentence)
    return reason.replace("|", "\\|").replace("\n", " ").replace("<", "\\<")[:160]


def wrapped(text: str) -> str:
    """Lines of a page."""
    return "\n".join(textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
