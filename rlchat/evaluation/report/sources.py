"""What a report is made of: run folders, and files of evaluations."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlchat.errors import UserError
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.evaluation.report.dialogues import Dialogue, Played, from_episode, from_transcript

Row = dict[str, Any]
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
_NUMBERS = ("logprob", "reference", "value", "advantage")  # of each token


@dataclass
class Source:
    """One run folder, or one file of evaluations.

    Attributes:
        name: what it is called in the report.
        config: the settings of a run; empty for a file.
        versions: of the packages that a run was made with.
        rows: the metrics of each iteration.
        results: all evaluations that were found.
        dialogues: all episodes, those of the practice first.
        notes: what is missing or broken, in sentences.
    """

    name: str
    config: Row = field(default_factory=dict)
    versions: Row = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    results: list[EvaluationResult] = field(default_factory=list)
    dialogues: list[Dialogue] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_sources(places: Sequence[Path]) -> list[Source]:
    """Read run folders and files of evaluations, and give each a name of its own.

    Raises:
        UserError: one that is neither.
    """
    names = names_of(places)
    return [_read(place, name) for place, name in zip(places, names, strict=True)]


def names_of(places: Sequence[Path]) -> list[str]:
    """Short names that differ: the last parts of the paths, as many as it takes."""
    whole = [place.resolve().parts for place in places]
    for count in range(1, max(map(len, whole), default=1) + 1):
        names = ["/".join(parts[-count:]) for parts in whole]
        if len(set(names)) == len(set(whole)):
            break
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        names[i] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return names


def _read(place: Path, name: str) -> Source:
    if (place / "config.json").is_file():
        return _read_run(place, name)
    if not place.exists():
        raise UserError(
            f"expected a run folder, or a file or folder of evaluations; there is no {place}; "
            "name one that exists"
        )
    source = Source(name)
    for path in sorted(place.glob("*.json")) if place.is_dir() else (place,):
        try:
            source.results += results_in(json.loads(path.read_text("utf-8")))
        except _BROKEN as error:
            if path == place:
                raise _no_evaluation(place) from error
            source.notes.append(f"{path.name} cannot be read and is left out.")
    source.results = _unlike(source.results)
    if not source.results:
        raise _no_evaluation(place)
    source.dialogues = evaluated(name, source.results)
    return source


def _no_evaluation(place: Path) -> UserError:
    return UserError(
        f"expected a run folder, or a file or folder of evaluations; {place} is none; make one "
        "with rlchat train --run, or rlchat eval AGENT --json FILE"
    )


def results_in(value: Any) -> Iterator[EvaluationResult]:
    """Every evaluation in what a file holds: one, two that are compared, or a matrix of them.

    Raises:
        ValueError, KeyError, TypeError: one of them is broken.
    """
    if isinstance(value, list):
        for item in value:
            yield from results_in(item)
    elif isinstance(value, dict):
        if "per_episode" in value:
            result = EvaluationResult.from_json(_with_settings(value))
            _ = result.metrics  # which are needed, and cannot be had of scores that are no numbers
            yield result
        for key, item in value.items():
            if key != "per_episode" and isinstance(item, dict | list):
                yield from results_in(item)


def _with_settings(value: Row) -> Row:
    """An evaluation whose settings stand apart, under ``about``, as one where they do not."""
    if not isinstance(about := value.get("about"), dict):
        return value
    config = about["config"]
    kept = ("split", "seed", "temperature", "trials")
    found = {"agent": about["agent"], "optimum": None, **about["env"]}
    found |= {name: config[name] for name in kept if name in config}
    return {**found, "per_episode": value["per_episode"]}


def _unlike(results: Sequence[EvaluationResult]) -> list[EvaluationResult]:
    """Each evaluation once: a file that compares several may hold one of them twice."""
    found: dict[Any, EvaluationResult] = {}
    for r in results:
        about = tuple(r.env.users), tuple(r.env.knowledge), tuple(r.env.stated_style)
        env = r.env.env, *about, r.split
        seeds = tuple(e.seed for e in r.episodes)
        found.setdefault((r.agent, *env, r.temperature, seeds), r)
    return list(found.values())


def _read_run(folder: Path, name: str) -> Source:
    config = _object(folder / "config.json")
    if not config:
        raise UserError(
            f"expected a run folder with a config.json; the one in {folder} cannot be read; train "
            "a run with rlchat train --run"
        )
    source = Source(name, config, _object(folder / "versions.json") or {})
    lines, whole = _lines(folder / "metrics.jsonl")
    source.rows = [r for r in lines if isinstance(r.get("iteration"), int)]
    if not source.rows:
        source.notes.append("No iteration of it is finished yet.")
    elif not whole:
        source.notes.append("The end of its metrics cannot be read and is left out.")
    _read_practice(source, folder)
    _read_evaluations(source, folder)
    source.dialogues += evaluated(name, source.results)
    return source


def _read_practice(source: Source, folder: Path) -> None:
    """Read the transcripts of all iterations, and what is known of their tokens."""
    env, users = str(source.config.get("env", "")), str(source.config.get("users") or "")
    families, broken, files = tuple(filter(None, users.split(","))), 0, 0
    for path in sorted((folder / "transcripts").glob("*.jsonl")):
        if not path.stem.isdigit():
            continue
        iteration, files = int(path.stem), files + 1
        records, _ = _lines(folder / "tokens" / path.name)
        tokens = {r.get("index"): _token_record(r) for r in records}
        lines, whole = _lines(path)
        for line in lines:
            own = str(line.get("env") or env)
            played = Played(
                source.name, f"iteration {iteration}", own, families, "train", iteration
            )
            try:
                source.dialogues.append(
                    from_transcript(line, played, tokens.get(line.get("index")) or None)
                )
            except (ValueError, KeyError, TypeError, AttributeError):
                whole = False
        broken += not whole
    if broken:
        source.notes.append(f"{broken} of {files} files of transcripts are only partly readable.")


def _token_record(line: Row) -> Row:
    """What `token_records` wrote of an episode's tokens; empty if it is something else."""
    count, texts, turns = len(line.get("turn", ())), line.get("text"), line.get("turn")
    record: Row = {"turn": turns, "text": texts}
    if not _list_of(turns, int, count) or not _list_of(texts, str, count):
        return {}
    for name in _NUMBERS:
        if not _list_of(line.get(name), int | float | None, count):
            return {}
        record[name] = [_finite(x) for x in line[name]]
    if _list_of(line.get("alternatives"), list, count):
        record["alternatives"] = [
            [[str(text), _finite(logprob)] for text, logprob in own] for own in line["alternatives"]
        ]
    return record


def _list_of(value: Any, kind: Any, count: int) -> bool:
    return (
        isinstance(value, list) and len(value) == count and all(isinstance(x, kind) for x in value)
    )


def _finite(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _read_evaluations(source: Source, folder: Path) -> None:
    """Read the evaluation at the end, or else the one at the start."""
    for path in (folder / "evaluation.json", folder / "start.json"):
        if not path.is_file():
            continue
        try:
            source.results = _unlike(list(results_in(json.loads(path.read_text("utf-8")))))
            return
        except _BROKEN:
            source.notes.append(f"{path.name} cannot be read and is left out.")


def evaluated(name: str, results: Sequence[EvaluationResult]) -> list[Dialogue]:
    """The episodes of evaluations of the source of that name; styles are told where they differ."""
    several = len({r.env.stated_style for r in results}) > 1
    found = []
    for r in results:
        style = f", style {'+'.join(r.env.stated_style) or 'none'}" if several else ""
        played = Played(name, r.agent + style, r.env.env, tuple(r.env.users), r.split)
        found += [from_episode(episode, played) for episode in r.episodes]
    return found


def _object(path: Path) -> Row:
    """The object in a JSON file; empty if there is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lines(path: Path) -> tuple[list[Row], bool]:
    """The objects in a file of JSON lines up to one that is broken, and whether none was."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return [], True
    rows: list[Row] = []
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            return rows, False
        if not isinstance(row, dict):
            return rows, False
        rows.append(row)
    return rows, True
