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
    from collections.abc import Sequence

    from rich.console import Console

    from rlchat.evaluation.report.sources import Source


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
    evaluation_tokens: int = 0
    """Episodes of each run's evaluation, failures first, whose tokens are shaded too, as those of
    its practice are: the run's policy is loaded and reads them again, which takes a model's time;
    0 leaves that out."""
    open: bool = False
    """Open the page in a browser."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "episodes", self.episodes >= 0, "of at least 0")
        expect(self, "evaluation_tokens", self.evaluation_tokens >= 0, "of at least 0")
        if not self.runs:
            raise UserError(
                "expected run folders or files of rlchat eval --json; got none; name at least one"
            )


def run_report(options: ReportOptions, console: Console) -> None:
    """Write the report, and say where it is."""
    from rlchat.evaluation.report.page import report

    out = place_of(options)

    def prepare(sources: Sequence[Source]) -> None:
        if options.evaluation_tokens:
            _read_tokens(options, sources, console)

    page = report(options.runs, out, options.episodes, prepare)
    left = f"; {page.left_out} more were left out" if page.left_out else ""
    console.print(
        f"{out}: {page.size / 1e6:.1f} MB, {page.episodes} dialogues{left}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if options.open and not webbrowser.open(out.resolve().as_uri()):
        raise UserError(f"expected a browser for --open; there is none here; open {out} elsewhere")


def _read_tokens(options: ReportOptions, sources: Sequence[Source], console: Console) -> None:
    """Let each run's policy read its own evaluation."""
    from rlchat.cli.config_file import default_options
    from rlchat.cli.live.progress import Progress
    from rlchat.evaluation.report.sweeps import opened
    from rlchat.training.config import TrainConfig
    from rlchat.training.inspection.evaluation_tokens import read_evaluation_tokens
    from rlchat.training.inspection.opened_run import open_run
    from rlchat.training.run_folder import RunFolder

    places = opened(options.runs)
    runs = [(place, s) for place, s in zip(places, sources, strict=True) if s.config]
    if not runs:
        raise UserError(
            "expected a run folder for --evaluation-tokens, whose policy reads them; got files of "
            "evaluations alone; name the run, or leave it out"
        )
    with Progress(console) as progress:
        for place, source in runs:
            progress.status(f"opening {place}")
            config = default_options(TrainConfig, "train", [place])
            config.__post_init__()
            run = open_run(config, RunFolder(place), progress)
            read_evaluation_tokens(run, source, options.evaluation_tokens, progress)


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
