"""Sweeps: what runs of several seeds and settings come to together, from a sweep's record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlchat.errors import UserError
from rlchat.evaluation.report.curves import Line, figure
from rlchat.evaluation.report.elements import Figure, Section, Table
from rlchat.evaluation.report.sources import (
    Source,
    evaluated,
    names_of,
    read_sources,
    results_in,
)
from rlchat.evaluation.summary import with_interval
from rlchat.statistics import Interval
from rlchat.statistics.aggregates import caution

RECORD, EVALUATIONS = "sweep.json", "evaluations"
"""What a sweep's folder holds beside its runs."""
_BROKEN = (ValueError, KeyError, TypeError, AttributeError)
Row = dict[str, Any]


def opened(places: Sequence[Path]) -> list[Path]:
    """Runs and files as they are, and for each sweep its runs.

    Raises:
        UserError: a sweep of which no run has begun.
    """
    found: list[Path] = []
    for place in places:
        if not (place / RECORD).is_file():
            found.append(place)
            continue
        runs = [place / folder for folder in _folders(place)]
        begun = [run for run in runs if (run / "config.json").is_file()]
        if not begun:
            raise UserError(
                f"expected a sweep with a run that has begun; there is none in {place}; go on with "
                "rlchat sweep"
            )
        found += [run for run in begun if run not in places]
    return found


def _folders(place: Path) -> Iterator[str]:
    """Names of the folders of a sweep's runs, which lie in the sweep's folder."""
    for run in _record(place)["runs"]:
        folder = Path(str(run["folder"]))
        if not folder.is_absolute() and ".." not in folder.parts:
            yield str(folder)


def _record(place: Path) -> Row:
    try:
        record: Row = json.loads((place / RECORD).read_text("utf-8"))
        _ = [str(run["folder"]) for run in record["runs"]]
    except (OSError, *_BROKEN) as error:
        raise UserError(
            f"expected the record of a sweep in {place / RECORD}; it cannot be read; name its run "
            "folders instead"
        ) from error
    return record


def read_with_sweeps(places: Sequence[Path]) -> list[Source]:
    """Read runs and files, and for each sweep its runs with what the sweep measured of them.

    Raises:
        UserError: a place that is none of these.
    """
    folders = opened(places)
    sources = read_sources(folders)
    of = dict(zip(folders, sources, strict=True))
    for place in places:
        if (place / RECORD).is_file():
            _add_evaluations(place, of)
    return sources


def _add_evaluations(place: Path, sources: Mapping[Path, Source]) -> None:
    """Give the runs of a sweep their evaluations, in which they go by their folders."""
    known = {str(run.get("agent")): place / str(run["folder"]) for run in _record(place)["runs"]}
    for path in sorted((place / EVALUATIONS).glob("*.json")):
        try:
            results = list(results_in(json.loads(path.read_text("utf-8"))))
        except (OSError, *_BROKEN):
            continue  # the run has no evaluation then, as before it was measured
        for result in results:
            source = sources.get(known.get(result.agent, Path()))
            if source is not None:
                named = replace(result, agent="PPO")
                source.results.append(named)
                source.dialogues += evaluated(source.name, [named])


def title_of(places: Sequence[Path]) -> str:
    """What a page is about: the names of sweeps and other places; empty if there is no sweep."""
    if not any((place / RECORD).is_file() for place in places):
        return ""
    return ", ".join(names_of(places))


def sections(places: Sequence[Path]) -> list[Section]:
    """A section for each sweep that has a finished run."""
    found = []
    sweeps = [place for place in places if (place / RECORD).is_file()]
    for i, place in enumerate(sweeps):
        record = _record(place)
        name = f"sweep{i or ''}"
        title = "Sweep" if len(sweeps) == 1 else f"Sweep {place.resolve().name}"
        try:
            found.append(_section(record, name, title))
        except _BROKEN:
            note = f"The aggregates in {RECORD} cannot be read; rlchat sweep writes them anew."
            found.append(Section(name, title, notes=[note]))
    return found


def _section(record: Row, name: str, title: str) -> Section:
    aggregates = record["aggregates"]
    if aggregates is None:
        return Section(name, title, notes=["No run of it is finished and measured yet."])
    metric, levels = str(aggregates["metric"]), aggregates["levels"]
    tables = [_levels(levels, metric, record)]
    if aggregates["comparisons"]:
        tables.append(_comparisons(aggregates["comparisons"], metric))
    about = (
        "IQM is the interquartile mean over runs. Its interval and that of the optimality gap come "
        "from a stratified bootstrap; that of the mean is for other runs and other users. "
        + caution(min(int(level["runs"]) for level in levels))
    )
    missing = (run for run in record["runs"] if run["state"] != "finished")
    notes = [f"{run['name']}: {run['state']}." for run in missing]
    figures = list(_figures(aggregates["bands"], name))
    return Section(name, title, about, tables=tables, figures=figures, notes=notes)


def _levels(levels: Sequence[Row], metric: str, record: Row) -> Table:
    rate = metric == "success"
    form = "{:.0%}" if rate else "{:+.2f}"
    keys = ["iqm", "mean", *(["optimality_gap"] if rate else [])]
    envs = ", ".join(map(str, record["env"]))
    caption = f"{metric.capitalize()}, {envs}, {record['split']} side, {record['users']} users"
    head = ["setting", "runs", "IQM", "mean", *(["optimality gap"] if rate else [])]
    rows = [
        [
            str(lv["setting"]),
            str(lv["runs"]),
            *(with_interval(_interval(lv[k]), form) for k in keys),
        ]
        for lv in levels
    ]
    return Table(caption, head, rows)


def _comparisons(comparisons: Sequence[Row], metric: str) -> Table:
    form = "{:+.0%}" if metric == "success" else "{:+.2f}"
    rows = [
        [
            str(one["setting"]),
            with_interval(_interval(one["difference"]), form),
            with_interval(_interval(one["improvement"]), "{:.0%}"),
        ]
        for one in comparisons
    ]
    caption = f"Compared with {comparisons[0]['against']}, same seeds and users"
    return Table(caption, ["setting", "difference of means", "probability of improvement"], rows)


class BandLine(Line):
    """The curve of one setting, with its band."""

    def __init__(self, band: Mapping[str, Any]):
        """Take it from the record."""
        values = [_interval(v) for v in band["values"]]
        self.label = str(band["setting"])
        self.x, self.y = [int(x) for x in band["iterations"]], [v.mean for v in values]
        known = all(math.isfinite(v.low) and math.isfinite(v.high) for v in values)
        self.low = [v.low for v in values] if known else []
        self.high = [v.high for v in values] if known else []


def _figures(bands: Sequence[Row], name: str) -> Iterator[Figure]:
    """Curves of all settings, those of one metric in one figure."""
    for metric in dict.fromkeys(str(band["metric"]) for band in bands):
        lines = [BandLine(band) for band in bands if band["metric"] == metric]
        rate = metric == "success"
        told = "Success on training users" if rate else "Return, score an episode"
        title = f"{told}, IQM of runs with bootstrap bands"
        yield figure(f"{name}-{metric}", title, lines, rate=rate)


def _interval(value: Mapping[str, Any]) -> Interval:
    mean, low, high = (
        math.nan if value[k] is None else float(value[k]) for k in ("mean", "low", "high")
    )
    return Interval(mean, low, high)
