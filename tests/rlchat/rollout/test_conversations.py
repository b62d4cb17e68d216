"""Conversations in files, in the formats that people bring."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlchat.errors import UserError
from rlchat.listener import Listener
from rlchat.rewards.preference_data import read_file
from rlchat.rollout.conversations import conversation, read_conversations
from rlchat_envs import Message

HI = {"role": "user", "content": "hi"}
HELLO = {"role": "assistant", "content": "hello"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look"}}]}
SAID = (Message("user", "hi"), Message("assistant", "hello"))


class Warned(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, line: str) -> None:
        self.lines.append(line)


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [HI, HELLO], "source": "x", "score": None},
        {"messages": [{**HI, "name": "Ann"}, {**HELLO, "tool_calls": None}]},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
        {"conversations": [HI, HELLO]},
        {"prompt": "hi", "completion": "hello"},
        {"prompt": [HI], "completion": [HELLO], "label": True},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, HELLO]},
        {"text": "\n\nHuman: hi\n\nAssistant: hello"},
        {"messages": [HI, CALL, HELLO]},
    ],
)
def test_formats(row: dict[str, Any]) -> None:
    assert conversation(row) == SAID


def test_shapes() -> None:
    told = [{"role": "system", "content": text} for text in ("Be kind.", "Be brief.")]
    looked = {"role": "tool", "content": "parcel: late", "tool_call_id": "1"}
    found = conversation({"messages": [*told, HELLO, HI, CALL, looked, HELLO, told[0], HI, HELLO]})
    assert [(m.role, m.content) for m in found] == [
        ("system", "Be kind.\n\nBe brief."),
        ("assistant", "hello"),
        ("user", "hi"),
        ("tool", "parcel: late"),
        ("assistant", "hello"),
        ("system", "Be kind."),
        ("user", "hi"),
        ("assistant", "hello"),
    ]
    beside = conversation({"system": "Be kind.", "conversations": [HI, HELLO]})
    assert beside == (Message("system", "Be kind."), *SAID)


def test_what_cannot_be_used_costs_itself_alone(tmp_path: Path) -> None:
    picture = {"role": "user", "content": [{"type": "image", "url": "x"}]}
    rows: list[Any] = [
        {"messages": [HI, HELLO]},
        {"messages": [HI]},
        {"messages": [picture, HELLO]},
        {"messages": [HI, CALL]},
        {"question": "hi"},
        {"prompt": "hi", "completion": "hello", "label": False},
    ]
    warned = Warned()
    path = write(tmp_path / "talks.jsonl", rows)
    assert read_conversations(path, warned, liked=True) == [SAID]
    assert len(read_conversations(path)) == 2  # to be scored, what is bad is used too
    (line,) = warned.lines
    assert line.startswith(f"{path}: left out 5 of 6 rows: ")
    assert "2 × no assistant says anything in it (lines 2, 4)" in line
    assert "not pictures, sound or nothing (line 3)" in line
    assert "1 × rated as bad, which nobody is to imitate (line 6)" in line


@pytest.mark.parametrize("filling", [" ", "\n", "#", "# ", "\n\n "])
def test_long_stretches_of_one_letter_cost_no_time(filling: str) -> None:
    """A transcript's marks were looked for from each letter of a stretch of them again."""
    text = f"\n\nHuman: a{filling * 50_000}b\n\nAssistant: c"
    begun = time.perf_counter()
    asked, said = conversation({"text": text})
    assert time.perf_counter() - begun < 1
    assert (asked.content[0], asked.content[-1], said.content) == ("a", "b", "c")


def test_half_surrogates_do_not_reach_a_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"
    path.write_text(r'{"prompt": "\ud800", "completion": "ok\udfff"}', "utf-8")
    assert read_conversations(path) == [(Message("user", "?"), Message("assistant", "ok?"))]


FIELDS = (
    "messages conversations role from content value text prompt completion label chosen rejected "
    "weight tool_calls system turn score_chosen score_rejected difference error dialogue source"
)
ROLES = "user assistant system tool human gpt function_call"
ODD = ("", "[", "[{}]", "\ud800", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman:", "\n\nAssistant:")
NAMES, WORDS = st.sampled_from(FIELDS.split()), st.sampled_from([*ROLES.split(), *ODD])
LEAVES = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | WORDS
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]), "content": WORDS}
)
VALUES = st.recursive(
    LEAVES | st.lists(MESSAGE, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
LITERALS = (
    "[{[1]: 2}]",
    "[{{}}]",
    "[{'role': b'user', 'content': {1}}]",
    "[" * 5000,
    "[{'a': 1j}]",
)
CELLS = VALUES.map(repr) | VALUES.map(json.dumps) | WORDS | st.sampled_from(LITERALS)


def as_csv(rows: list[list[str]]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue().encode(errors="replace")


TABLES = st.builds(
    lambda head, rows: as_csv([head, *rows]),
    st.lists(NAMES, min_size=1, max_size=4),
    st.lists(st.lists(CELLS, max_size=5), max_size=3),
)
FILES = (
    st.binary(max_size=80)
    | TABLES
    | st.lists(
        st.dictionaries(NAMES, VALUES, max_size=4)
        | st.fixed_dictionaries({"chosen": VALUES, "rejected": VALUES}, optional={"prompt": VALUES})
        | st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=4)})
        | VALUES,
        max_size=4,
    ).map(lambda rows: "\n".join(json.dumps(row) for row in rows).encode())
)
SUFFIXES = st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet"])
QUICK = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def tried(folder: Path, content: bytes, suffix: str, coding: str) -> None:
    """A sentence or a result, and of a result every text can be written."""
    path = folder / f"fuzz{suffix}"
    if coding != "utf-8":
        content = content.decode("utf-8", "replace").encode(coding)
    path.write_bytes(content)
    warned = Warned()
    for read in (read_conversations, read_file):
        try:
            found: list[Any] = list(read(path, warned))  # type: ignore[operator]
        except UserError as error:
            assert str(error).startswith("expected ")
            assert "\n" not in str(error).replace(str(path), "")
            continue
        assert found
        for one in found:
            messages = one if isinstance(one, tuple) else (*one.prompt, *one.chosen, *one.rejected)
            assert messages and all(m.content.encode() is not None for m in messages)
            assert isinstance(one, tuple) or (0 <= one.weight <= 1 and one.dialogue.encode())


CODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])


@settings(max_examples=200, deadline=None, suppress_health_check=QUICK)
@given(content=FILES, suffix=SUFFIXES, coding=CODINGS)
def test_any_file_gives_a_sentence_or_a_result(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str, coding: str
) -> None:
    tried(tmp_path_factory.getbasetemp(), content, suffix, coding)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None, suppress_health_check=QUICK)
@given(content=FILES, suffix=SUFFIXES, coding=CODINGS)
def test_ten_thousand_files_give_a_sentence_or_a_result(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str, coding: str
) -> None:
    tried(tmp_path_factory.getbasetemp(), content, suffix, coding)
