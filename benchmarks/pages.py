"""Pages of the docs with parts that are made."""

from __future__ import annotations

from pathlib import Path

from rlchat.files import write_text


def put(page: Path, text: str, begin: str, end: str) -> None:
    """Write what was made between two marks of a page."""
    before, _, rest = page.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    write_text(page, f"{before}{begin}\n\n{text}\n\n{end}{after}")
