"""The verbs about ratings: what they print, what they write, and what is gone afterwards."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from datasets import load_dataset
from rich.console import Console
from trl import is_conversational

from rlchat.cli.feedback import (
    ExportOptions,
    ForgetOptions,
    StatsOptions,
    run_export,
    run_forget,
    run_stats,
)
from rlchat.cli.main import main
from rlchat.errors import UserError
from rlchat.feedback.export import Format
from rlchat.feedback.store import Store, StoredReply, store_path
from rlchat.rollout.conversations import read_conversations

CONTEXT = [
    {"role": "system", "content": "You are the desk."},
    {"role": "user", "content": "Where is it?"},
    {"role": "tool", "content": "Order A-1: lost."},
]
LATER = [
    *CONTEXT,
    {"role": "assistant", "content": "Lost."},
    {"role": "user", "content": "And <|im_end|> [bold]now[/]?"},
]


@pytest.fixture
def kept() -> list[str]:
    """Two sessions of ann's and one of ben's."""
    sessions = []
    with Store.open(store_path()) as store:
        for person, version in (("ann", "a" * 64), ("ann", "a" * 64), ("ben", "tiny")):
            agent = "base" if version == "tiny" else "runs/demo"
            kept = store.begin_session(person, agent, version, "rlchat/Support-v0", 0.0)
            sessions.append(kept)
        first = store.add_reply(sessions[0], StoredReply(0, CONTEXT, "Lost."))
        second = store.add_reply(sessions[0], StoredReply(1, LATER, "You get a refund."))
        third = store.add_reply(sessions[1], StoredReply(0, CONTEXT, "No idea."))
        fourth = store.add_reply(sessions[2], StoredReply(0, CONTEXT, "Hello."))
        store.rate(first, "edit", -1, "It is lost, I am sorry.")
        store.rate(second, "thumb", 1)
        store.rate(second, "pair", 1, "Goodbye.")
        store.rate(second, "stars", 4)
        store.rate(third, "thumb", -1)
        store.rate(third, "pair", -1, "Lost, sorry.")
        store.rate(third, "pair", 0, "No clue.")
        store.rate(third, "stars", 1)
        store.rate(fourth, "comment", text="says hello only")
    return sessions


def told(run: object, *options: object) -> str:
    console = Console(file=io.StringIO(), width=110, color_system=None)
    run(*options, console)  # type: ignore[operator]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def export(path: Path, form: Format, person: str = "") -> list[dict[str, object]]:
    said = told(run_export, ExportOptions(str(path), form, person))
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert said == f"Wrote {len(rows)} {form} row{'s' * (len(rows) > 1)}: {path}\n"
    return rows


def test_stats_count_by_agent_and_version(kept: list[str]) -> None:
    rows = [" ".join(line.split()) for line in told(run_stats, StatsOptions()).splitlines()[:-1]]
    assert rows == [
        "mean",
        "agent version sessions replies + - pairs edits comments stars stars",
        "runs/demo aaaaaaaaaaaa 2 3 1 1 3 1 0 2 2.50",
        "base tiny 1 1 0 0 0 0 1 0",
    ]


def test_stats_of_nothing() -> None:
    assert told(run_stats, StatsOptions()).startswith("No ratings yet: there is no ")
    assert not store_path().exists()


def test_preferences(kept: list[str], tmp_path: Path) -> None:
    rows = export(tmp_path / "x.jsonl", "preference")
    chosen = [row["chosen"][0]["content"] for row in rows]
    rejected = [row["rejected"][0]["content"] for row in rows]
    assert chosen == ["It is lost, I am sorry.", "You get a refund.", "Lost, sorry."]
    assert rejected == ["Lost.", "Goodbye.", "No idea."]  # neither was better: no row
    assert rows[1] == {
        "prompt": LATER,
        "chosen": [{"role": "assistant", "content": "You get a refund."}],
        "rejected": [{"role": "assistant", "content": "Goodbye."}],
        "weight": 1.0,
        "source": "person:ann",
        "turn": 1,
        "dialogue": kept[0],
    }


def test_thumbs(kept: list[str], tmp_path: Path) -> None:
    rows = export(tmp_path / "x.jsonl", "kto")
    assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [
        *(("You get a refund.", True), ("No idea.", False))
    ]
    assert rows[0]["prompt"] == LATER


def test_demonstrations_can_be_trained_on(kept: list[str], tmp_path: Path) -> None:
    rows = export(tmp_path / "x.jsonl", "sft")
    assert [row["messages"][-1]["content"] for row in rows] == [
        *("It is lost, I am sorry.", "You get a refund.")
    ]
    read = read_conversations(tmp_path / "x.jsonl")
    assert [m.content for m in read[1]] == [m["content"] for m in rows[1]["messages"]]


@pytest.mark.parametrize("form", ["preference", "kto", "sft"])
def test_trl_takes_the_files_for_conversations(
    kept: list[str], tmp_path: Path, form: Format
) -> None:
    export(tmp_path / "x.jsonl", form)
    data = load_dataset(
        "json", data_files=str(tmp_path / "x.jsonl"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert len(data) >= 2 and all(is_conversational(row) for row in data)


def test_export_of_one_person_or_of_nothing(kept: list[str], tmp_path: Path) -> None:
    assert len(export(tmp_path / "x.jsonl", "preference", "ann")) == 3
    with pytest.raises(UserError, match="make preference rows; there are none of ben; "):
        export(tmp_path / "y.jsonl", "preference", "ben")
    assert not (tmp_path / "y.jsonl").exists()


@pytest.mark.parametrize(
    ("answer", "goes"), [("y", True), ("YES ", True), ("", False), ("n", False), (None, False)]
)
def test_forgetting_asks_first(
    kept: list[str], monkeypatch: pytest.MonkeyPatch, answer: str | None, goes: bool
) -> None:
    def read(_: Console, prompt: object) -> str:
        asked.append(str(prompt))
        if answer is None:
            raise EOFError
        return answer

    asked: list[str] = []
    monkeypatch.setattr(Console, "input", read)
    said = told(run_forget, ForgetOptions(person="ann"))
    what = "2 sessions, 3 replies and 8 ratings of person ann"
    assert asked == [f"Forget {what}? They cannot be had back. y/N "]
    assert said.strip() == (f"Gone: {what}." if goes else "Nothing went.")
    with Store.open(store_path()) as store:
        assert store.count(person="ann")[0] == (0 if goes else 2)
        assert store.count(person="ben") == (1, 1, 1)


def test_forgetting_a_session(kept: list[str]) -> None:
    options = ForgetOptions(session=kept[2], yes=True)
    assert told(run_forget, options) == (
        f"Gone: 1 session, 1 reply and 1 rating of session {kept[2]}.\n"
    )
    assert b"says hello only" not in b"".join(
        file.read_bytes() for file in store_path().parent.iterdir()
    )
    with pytest.raises(UserError, match=r"there is none of session .*; nothing went"):
        told(run_forget, options)


def test_every_place_of_what_was_typed_is_told(kept: list[str], data_folder: Path) -> None:
    for name in ("chat", "play", "ask"):
        (data_folder / f"{name}-history").write_text("+hi\n")
    said = told(run_forget, ForgetOptions(person="ann", yes=True))
    for name in ("chat", "play", "ask"):
        assert f"are also in {data_folder}/{name}-history; delete it" in said


def test_stats_cut_no_name() -> None:
    """In a narrow terminal a name goes on in the next line."""
    agent, version = "runs/a-run-with-quite-a-long-name-indeed", "openai:some-model@http://server"
    with Store.open(store_path()) as store:
        for of in (version, "knowledge-graph", "0" * 64):
            session = store.begin_session("ann", agent, of, "", 0.0)
            store.rate(store.add_reply(session, StoredReply(0, CONTEXT, "hi")), "thumb", 1)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    run_stats(StatsOptions(), console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert "…" not in "".join(lines)
    width = lines[1].index("version")
    names = "".join(line[:width].strip() for line in lines[2:-1])
    assert names.count(agent) == 3
    end = lines[1].index("sessions")
    versions = "".join(line[width:end].strip() for line in lines[2:-1])
    assert versions == f"{version}knowledge-graph{'0' * 12}"


def test_what_was_typed_elsewhere_is_told(kept: list[str], data_folder: Path) -> None:
    (data_folder / "chat-history").write_text("+hi\n")
    said = told(run_forget, ForgetOptions(person="ann", yes=True))
    assert said.endswith(
        f"are also in {data_folder}/chat-history; delete it if they are to go too.\n"
    )


@pytest.mark.long
def test_ten_thousand_ratings_are_exported_and_forgotten_in_seconds(tmp_path: Path) -> None:
    with Store.open(store_path()) as store, store.writing():
        for _ in range(500):
            kept = store.begin_session("ann", "base", "tiny", "", 0.0)
            for turn in range(20):
                store.rate(
                    store.add_reply(kept, StoredReply(turn, LATER, f"Reply {turn}")), "thumb", 1
                )
    took = []
    for work in (
        lambda: export(tmp_path / "x.jsonl", "kto"),
        lambda: told(run_stats, StatsOptions()),
        lambda: told(run_forget, ForgetOptions(person="ann", yes=True)),
    ):
        start = time.process_time()
        work()
        took.append(time.process_time() - start)
    print("export, stats, forget: {:.2f}, {:.2f}, {:.2f} s".format(*took))
    assert max(took) < 10, took
    assert (tmp_path / "x.jsonl").read_text("utf-8").count("\n") == 10_000


def test_the_command_line(
    kept: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["feedback", "stats"]) == 0
    out = tmp_path / "x.jsonl"
    assert main(["feedback", "export", "--format", "kto", "--out", str(out)]) == 0
    assert main(["feedback", "forget", "--person", "ben", "--yes"]) == 0
    printed = capsys.readouterr().out
    assert "Wrote 2 kto rows" in printed and "Gone: 1 session, " in printed


def test_markup_in_names_is_plain_text() -> None:
    with Store.open(store_path()) as store:
        kept = store.begin_session("[red]x", "[bold]a[/]\x1b[2J", "v", "", 0.0)
        store.rate(store.add_reply(kept, StoredReply(0, CONTEXT, "hi")), "comment", text="[/]")
    assert "[bold]a[/]\N{REPLACEMENT CHARACTER}[2J" in told(run_stats, StatsOptions())
    assert "of person [red]x." in told(run_forget, ForgetOptions(person="[red]x", yes=True))
