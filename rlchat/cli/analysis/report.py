"""The verb `report`."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from rlchat.errors import UserError
from rlchat.settings import expect

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write what runs and evaluations came to into one HTML file, which needs no network."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders, sweeps, files of `rlchat eval --json` and folders of evaluations; several are
    shown side by side."""
    out: Path | None = None
    """HTML file to write; if left out, report.html in the folder of a single run or sweep, or else
    in the working folder."""
    episodes: int = 1000
    """Most dialogues that the page has, failures first; fewer if the file would exceed 5 MB."""
    open: bool = False
    """Open the page in a browser."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "episodes", self.episodes >= 0, "of at least 0")
        if not self.runs:
            raise UserError(
                "expected run folders or files of rlchat eval --json; got none; name at least one"
            )


def run_report(options: ReportOptions, console: Console) -> None:
    """Write the report, and say where it is."""
    from rlchat.evaluation.report.page import report

    out = place_of(options)
    page = report(options.runs, out, options.episodes)
    left = f"; {page.left_out} more were left out" if page.left_out else ""
    console.print(
        f"{out}: {page.size / 1e6:.1f} MB, {page.episodes} dialogues{left}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if options.open and not webbrowser.open(out.resolve().as_uri()):
        raise UserError(f"expected a browser for --open; there is none here; open {out} elsewhere")


def place_of(options: ReportOptions) -> Path:
    """The file that is written.

    Raises:
        UserError: it is a folder, or one of the files that are read.
    """
    single = options.runs[0] if len(options.runs) == 1 else None
    beside = single if single is not None and single.is_dir() else Path()
    out = options.out or beside / "report.html"
    if out.is_dir() or out.resolve() in {run.resolve() for run in options.runs}:
        raise UserError(f"expected an HTML file to write; got --out {out}; name another")
    return out
