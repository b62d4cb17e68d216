"""Files of rows: every format gives the same rows, and what is wrong costs itself alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rlchat_reward_models import records
from rlchat_reward_models.records import Row, open_table, read

ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": f"{i} schön\u2028"}], "weight": i / 4}
    for i in range(3)
]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


def fields(source: str | Path) -> list[Mapping[str, Any]]:
    return [row.fields() for row in open_table(source, "rows").rows]


@pytest.mark.parametrize(
    "content",
    [
        LINES.encode(),
        LINES.encode("utf-8-sig"),
        LINES.replace("\n", "\r\n").encode() + b"\r\n\r\n",
        LINES.encode("utf-16"),
        LINES.encode("utf-16-be"),
        json.dumps(ROWS, indent=2).encode(),
        json.dumps(ROWS).encode("utf-16"),
    ],
)
def test_json_is_read_however_it_is_written(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    assert fields(path) == ROWS


def test_tables_are_read(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([*ROWS, {}]), tmp_path / "rows.parquet")
    assert fields(tmp_path / "rows.parquet") == [*ROWS, {}]  # null is not there
    for write in (json.dumps, repr):  # as JSON, and as pandas writes a list
        with (tmp_path / "rows.csv").open("w", encoding="utf-8-sig", newline="") as file:
            table = csv.writer(file)
            table.writerow(["messages", "weight", "prompt", "label"])
            for row in ROWS:
                table.writerow([write(row["messages"]), row["weight"], "[1, 2]\nand 3", "False"])
        more = {"prompt": "[1, 2]\nand 3", "label": False}
        assert fields(tmp_path / "rows.csv") == [row | more for row in ROWS]
    long = "x" * 200_000  # longer than csv takes by itself
    (tmp_path / "long.csv").write_text(f"prompt,chosen\n{long},b\nc,d,e\n", "utf-8")
    table_rows = list(open_table(tmp_path / "long.csv", "rows").rows)
    assert table_rows[0] == Row(2, {"prompt": long, "chosen": "b"})
    with pytest.raises(ValueError, match="more cells than the first line has names"):
        table_rows[1].fields()


def test_what_cannot_be_used_is_told_by_reason_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(["3", '{"n": 1}', "", "{", *["{}"] * 12, '{"n": 2}']), "utf-8")
    warned: list[str] = []

    def number(row: Mapping[str, Any], line: int) -> int:
        if "n" not in row:
            raise ValueError(f"expected a number; got {line}")
        return int(row["n"])

    assert read(path, "numbers", number, warned.append) == [1, 2]
    assert warned == [
        f"{path}: left out 14 of 16 rows: 1 × expected an object with names and values (line 1); "
        "1 × not JSON (line 4); "
        "12 × expected a number (lines 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, …)"
    ]
    path.write_text("{}", "utf-8")
    with pytest.raises(ValueError, match=r"none that can be used; left out 1 of 1 rows: .*line 1"):
        read(path, "numbers", number)
    path.write_text("\n", "utf-8")
    with pytest.raises(ValueError, match=r"expected numbers, one a line; .* is empty"):
        read(path, "numbers", number)


@pytest.mark.parametrize("name", ["absent.jsonl", ".", "latin.jsonl", "torn.parquet", "torn.csv"])
def test_what_is_no_file_of_rows_is_a_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.jsonl").write_bytes(b'{"a": "se\xf1or"}')
    Path("torn.parquet").write_bytes(b"PAR1 and no more")
    Path("torn.csv").write_text('a,b\n"c,d', "utf-8")
    with pytest.raises(ValueError, match=f"expected a readable UTF-8 file of rows .* got {name}"):
        open_table(name, "rows")


def test_data_sets_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def download(*place: str) -> Mapping[str, Any]:
        asked.append(place)
        if place[0] == "owner/none":
            raise ConnectionError("no network\nat all")
        return {"train_sft": ROWS, "test_sft": []} if place[0] == "owner/two" else {"all": ROWS}

    monkeypatch.setattr(records, "_download", download)
    assert fields("owner/one") == fields("owner/two/small:train_sft") == ROWS
    assert asked == [("owner/one",), ("owner/two", "small")]
    with pytest.raises(ValueError, match="the hub says: its splits are train_sft, test_sft; name"):
        open_table("owner/two", "rows")
    with pytest.raises(ValueError, match="no file owner/none, and the hub says: no network; name"):
        open_table("owner/none", "rows")
