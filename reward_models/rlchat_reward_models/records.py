"""Files of rows as people have them: JSON lines, a JSON array, CSV, parquet, a data set of the hub.

A row that cannot be used costs itself alone: files that come from elsewhere have some, and nobody
wants to mend ten thousand lines by hand. It is counted by its reason, though, and named by line.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

NAMED = 10  # so many lines of a reason are named, at most
DATA_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt")
_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(/[\w.-]+)?(:[\w.-]+)?")
_LONGEST_CELL = 2**31 - 1  # the most that csv takes on every system
_NUMBERS = ("weight", "turn", "difference", "error", "score_chosen", "score_rejected")
_YES, _NO = ("true", "1", "yes"), ("false", "0", "no")

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file, or why there is none, with the number that a person finds it by."""

    number: int
    value: object

    def fields(self) -> Mapping[str, Any]:
        """Its named values; what is null is not there, as tables have every column in every row.

        Raises:
            ValueError: it is no row of names and values.
        """
        if isinstance(self.value, ValueError):
            raise self.value
        if not isinstance(self.value, Mapping):
            raise ValueError("expected an object with names and values")
        return {str(k): v for k, v in self.value.items() if v is not None}


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file, and what their numbers count: lines or rows."""

    unit: str
    rows: Iterable[Row]


def read(
    source: str | Path,
    what: str,
    parse: Callable[[Mapping[str, Any], int], T],
    warn: Say = lambda line: None,
) -> list[T]:
    """Read every row of a file that can be used.

    Args:
        source: a file, or the id of a data set on the hub: OWNER/NAME, OWNER/NAME:SPLIT, or
            OWNER/NAME/CONFIGURATION:SPLIT.
        what: rows are called in errors, as in ``preferences``.
        parse: makes something of a row's fields and its number, or raises ValueError with a reason
            that begins alike wherever it is the same: what follows ``; got`` is not counted apart.
        warn: told once what was left out, by reason.

    Raises:
        ValueError: there is no such file, it cannot be read, or nothing in it can be used.
    """
    table = open_table(source, what)
    kept: list[T] = []
    left: dict[str, list[int]] = {}
    for row in table.rows:
        try:
            kept.append(parse(row.fields(), row.number))
        except ValueError as error:
            left.setdefault(str(error).partition("; got")[0], []).append(row.number)
    if not kept and not left:
        raise ValueError(f"expected {what}, one a line; {source} is empty")
    count = sum(len(numbers) for numbers in left.values())
    told = f"{count} of {count + len(kept)} rows: {_reasons(left, table.unit)}"
    if not kept:
        raise ValueError(f"expected {what}; {source} has none that can be used; left out {told}")
    if left:
        warn(f"{source}: left out {told}")
    return kept


def _reasons(left: Mapping[str, list[int]], unit: str) -> str:
    """Each reason, how often, and where first."""
    told = []
    for reason, numbers in left.items():
        more = ", …" * (len(numbers) > NAMED)
        where = f"{unit}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:NAMED]))}{more}"
        told.append(f"{len(numbers)} × {reason} ({where})")
    return "; ".join(told)


def open_table(source: str | Path, what: str) -> Table:
    """Open a file by what is in it and how it is called, or a data set of the hub.

    Raises:
        ValueError: there is no such thing, or it cannot be read.
    """
    path = Path(source)
    if not path.exists() and _HUB.fullmatch(path.as_posix()) and path.suffix not in DATA_FILES:
        return Table("row", _hub_rows(path.as_posix(), what))
    try:
        content = path.read_bytes()
        if content.startswith(b"PAR1") or path.suffix == ".parquet":
            return Table("row", _parquet_rows(content))
        text = content.decode(json.detect_encoding(content)).removeprefix("\ufeff")
        if path.suffix in (".csv", ".tsv"):
            return Table("line", list(_csv_rows(text, "\t" if path.suffix == ".tsv" else ",")))
        return _json_table(text)
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(
            f"expected a readable UTF-8 file of {what} (JSON lines, a JSON array, CSV or parquet); "
            f"got {path}: {error}; name another, or save it as one of these"
        ) from error


def _json_table(text: str) -> Table:
    """An array's elements, or else a row a line.

    Not splitlines: JSON leaves U+2028 and its like unescaped inside a text.
    """
    if text.lstrip().startswith("["):
        whole = _parsed(text)
        if isinstance(whole, list):
            return Table("row", [Row(n, value) for n, value in enumerate(whole, 1)])
    lines = enumerate(text.split("\n"), 1)
    return Table("line", (Row(n, _parsed(line)) for n, line in lines if line.strip()))


def _parsed(text: str) -> object:
    """JSON's value, or a ValueError as a value."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return ValueError("not JSON")


def _csv_rows(text: str, delimiter: str) -> Iterator[Row]:
    before = csv.field_size_limit(_LONGEST_CELL)  # a conversation may be longer than csv's 128 KiB
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        for cells in reader:
            if None in cells:
                wrong = ValueError("more cells than the first line has names")
                yield Row(reader.line_num, wrong)
            else:
                known = {k: _cell(k, v) for k, v in cells.items() if v}
                yield Row(reader.line_num, known)
    finally:
        csv.field_size_limit(before)


def _cell(name: str, text: str) -> object:
    """What a cell of CSV stands for: messages, a number, yes or no; otherwise its text."""
    if name in _NUMBERS:
        try:
            return float(text)
        except ValueError:
            return text
    if name == "label" and text.strip().lower() in (*_YES, *_NO):
        return text.strip().lower() in _YES
    messages = _list_of_objects(text) if text.lstrip().startswith("[") else None
    return text if messages is None else messages


def _list_of_objects(text: str) -> list[Any] | None:
    """A list of objects that was written into a cell, as JSON or as Python prints it."""
    found: object = _parsed(text)
    if isinstance(found, ValueError):
        try:
            found = ast.literal_eval(text.strip())  # literals alone: nothing is run
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    objects = isinstance(found, list) and found and all(isinstance(m, dict) for m in found)
    return found if objects and isinstance(found, list) else None


def _parquet_rows(content: bytes) -> Iterable[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(pyarrow.BufferReader(content))
        return [Row(n, row) for n, row in enumerate(table.to_pylist(), 1)]
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"this is not parquet: {_first_line(error)}") from error


def _hub_rows(name: str, what: str) -> Iterable[Row]:
    """The rows of a data set of the hub; nobody's code is run for it."""
    place, _, split = name.partition(":")
    owner, short, *configuration = place.split("/")
    try:
        found = _download(f"{owner}/{short}", *configuration)
        if not split:
            split = next(iter(found)) if len(found) == 1 else "train"
        if split not in found:
            raise ValueError(f"its splits are {', '.join(found)}")
        return [Row(n, row) for n, row in enumerate(found[split], 1)]
    except Exception as error:  # network, configuration, files: each has errors of its own
        raise ValueError(
            f"expected a file of {what}, or a data set of the hub that can be reached; there is no "
            f"file {name}, and the hub says: {_first_line(error)}; name a file, or "
            "OWNER/NAME:SPLIT"
        ) from error


def _download(name: str, *configuration: str) -> Mapping[str, Iterable[object]]:
    """All splits of a data set, by name."""
    from datasets import disable_progress_bars, load_dataset
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    disable_progress_bars()
    with suppress(OfflineModeIsEnabled):  # then what is in the cache is enough
        # At once: load_dataset asks for minutes where there is no network.
        HfApi().dataset_info(name, timeout=10)
    found: Mapping[str, Iterable[object]] = load_dataset(name, *configuration)
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
