"""The report as a page: sections, transcripts, style and script in one file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rlchat.evaluation.report import curves, endings, results, sweeps
from rlchat.evaluation.report.elements import Section
from rlchat.evaluation.report.goals import tell_goals
from rlchat.evaluation.report.selection import as_data, chosen
from rlchat.evaluation.report.sources import Source
from rlchat.files import write_bytes

LARGEST = 5_000_000  # bytes of a page
_MARGIN = 100_000  # what the frame around sections and transcripts takes, and more
_HERE = Path(__file__).parent


def report(
    places: Sequence[Path],
    out: Path,
    most: int = 1000,
    prepare: Callable[[Sequence[Source]], None] = lambda sources: None,
) -> Page:
    """Write a report of runs and evaluations into one HTML file.

    Args:
        places: run folders, sweeps, and files that ``rlchat eval --json`` wrote.
        out: the file.
        most: episodes whose transcripts it has; fewer if they would make it larger than 5 MB.
        prepare: is given what was read, a source a place, and may add to it.

    Returns:
        What was written.

    Raises:
        UserError: a place that is neither.
    """
    sources = sweeps.read_with_sweeps(places)
    prepare(sources)
    page = Page(sources, most, sweeps.sections(places), sweeps.title_of(places))
    write_bytes(out, page.encoded)
    return page


class Page:
    """A page about some sources.

    Attributes:
        html: the whole page.
        encoded: the same in UTF-8.
        size: of the page in bytes.
        episodes: how many episodes it shows.
        left_out: how many it has no room for.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        most: int,
        first: Sequence[Section] = (),
        title: str = "",
    ):
        """Make the page.

        Args:
            sources: what it is about.
            most: episodes; see `report`.
            first: sections before all others.
            title: names of the sources if left out.
        """
        dialogues = [d for source in sources for d in source.dialogues]
        tell_goals(dialogues)
        sections = [*first, *sections_of(sources)]
        title = title or ", ".join(source.name for source in sources)
        frame = _render(title, sources, sections, "", 0, 0)
        room = LARGEST - _MARGIN - len(frame.encode("utf-8", "replace"))
        shown = chosen(dialogues, most, room)
        self.episodes, self.left_out = len(shown), len(dialogues) - len(shown)
        data = as_data(shown)
        self.html = _render(title, sources, sections, data, self.episodes, self.left_out)
        self.encoded = self.html.encode("utf-8", "replace")  # half a surrogate pair is a ?
        self.size = len(self.encoded)


def sections_of(sources: Sequence[Source]) -> list[Section]:
    """All sections but the browser of transcripts, which the page's script fills."""
    found = [
        results.evaluations(sources),
        results.matrix(sources),
        curves.learning(sources),
        curves.components(sources),
        curves.health(sources),
        curves.monitor(sources),
        endings.endings(sources),
        endings.failures(sources),
    ]
    only_files = not any(source.config for source in sources)
    practice = {"learning", "components", "health", "monitor"} if only_files else set()
    return [s for s in found if s is not None and s.name not in practice]


def _render(
    title: str,
    sources: Sequence[Source],
    sections: Sequence[Section],
    data: str,
    shown: int,
    left_out: int,
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _own("page.css"), _own("tokens.js") + _own("page.js")
    return environment.get_template("page.html").render(
        title=title,
        sources=[(s.name, settings(s), s.notes) for s in sources],
        sections=sections,
        data=Markup(data),
        shown=shown,
        left_out=left_out,
        style=style,
        script=script,
        hashes={"style": _hash(style), "script": _hash(script)},
    )


def settings(source: Source) -> list[tuple[str, str]]:
    """What a run is, in pairs of a name and a value."""
    config, rows = source.config, source.rows
    if not config:
        return [("episodes", str(len(source.dialogues)))]
    resolved: Any = config.get("resolved")
    resolved = resolved if isinstance(resolved, dict) else {}
    seconds = sum(s for r in rows if (s := curves.value(r, "seconds")) == s)
    found = [
        ("policy", config.get("policy")),
        ("environment", config.get("env")),
        ("users", config.get("users") or "the usual ones"),
        ("stated style", config.get("stated_style") or None),
        ("iterations", f"{len(rows)} of {config.get('iterations')}"),
        ("episodes an iteration", config.get("episodes")),
        ("seed", config.get("seed")),
        ("precision", resolved.get("dtype")),
        ("device", resolved.get("device")),
        ("time of the iterations", f"{seconds / 60:.1f} minutes" if rows else None),
        ("rlchat", source.versions.get("rlchat")),
    ]
    return [(name, str(value)) for name, value in found if value is not None]


def _own(name: str) -> Markup:
    """A file of this folder, which may stand in the page as it is."""
    return Markup((_HERE / name).read_text("utf-8"))


def _hash(text: str) -> str:
    """The hash by which a page allows this style or script and no other."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
