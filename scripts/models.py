"""Write docs/method/models.md from what came of each kind of model: `make models` runs it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import transformers

PAGE = Path(__file__).resolve().parent.parent / "docs" / "method" / "models.md"
BEGIN = "<!-- Made by `make models`. -->"
_GOT = re.compile(r"; got (?:\w+: )?(.*?); (?:choose|lower)")

Note = Mapping[str, str]


def main(path: Path) -> None:
    """Replace the tables of the page by those of a file of notes, one a line."""
    lines = path.read_text("utf-8").splitlines()
    text = PAGE.read_text("utf-8")
    made = tables([json.loads(line) for line in lines])
    PAGE.write_text(text[: text.index(BEGIN)] + f"{BEGIN}\n\n{made}\n", "utf-8")


def tables(notes: Iterable[Note]) -> str:
    """What is exact, what is refused and why, and what was not tried."""
    kinds = sorted(notes, key=lambda note: note["kind"])
    outcomes = ("exact", "by rows", "refused", "not tried")
    of = {outcome: [n for n in kinds if n["outcome"] == outcome] for outcome in outcomes}
    exact, rows, refused, untried = (len(found) for found in of.values())
    return "\n".join(
        [
            f"With transformers {transformers.__version__}, {exact} of {len(kinds)} kinds are "
            f"exact in packings, {rows} more by rows, {refused} are refused, and {untried} need "
            "settings of their own for a model to be made of them, or packages that are not "
            "installed.",
            "",
            "## Exact",
            "",
            named(of["exact"]),
            "",
            "## Exact by rows",
            "",
            named(of["by rows"]),
            "",
            "## Refused",
            "",
            "| kind | class | why |",
            "|---|---|---|",
            *(f"| `{n['kind']}` | {n['class']} | {why(n['reason'])} |" for n in of["refused"]),
            "",
            "## Not tried",
            "",
            named(of["not tried"]),
        ]
    )


def named(notes: Iterable[Note]) -> str:
    """Kinds in a row."""
    return ", ".join(f"`{note['kind']}`" for note in notes) + "."


def why(sentence: str) -> str:
    """What an error got, short and without what would end a cell of a table."""
    found = _GOT.search(sentence)
    reason = found[1] if found else sentence
    return reason.replace("|", "\\|").replace("\n", " ")[:160]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
