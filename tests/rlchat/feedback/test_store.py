"""What is acknowledged is kept, and what is forgotten is gone: to the last rating and byte."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rlchat.errors import Notice, UserError
from rlchat.feedback import store as store_module
from rlchat.feedback.pii import masked
from rlchat.feedback.recorder import RatingContext, RatingRecorder
from rlchat.feedback.store import Store, StoredReply, store_path
from rlchat.inference.agents import Reply
from rlchat_envs import Message

ROOT = Path(__file__).parents[3]
KILLS = 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "own" / "feedback.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path, masked) as opened:
        yield opened


def session(store: Store, person: str = "me") -> str:
    return store.begin_session(person, "runs/demo", "abc", "rlchat/Support-v0", 0.5)


def reply(turn: int = 0, text: str = "Sure.") -> StoredReply:
    context = [{"role": "user", "content": "Hi, my mail is a.b@example.org."}]
    return StoredReply(turn, context, text, (5, 6, 2), (-0.5, -0.25, -1.0), 1.0)


def everything(path: Path) -> bytes:
    """All bytes of the file, its log and whatever else lies beside it."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_a_rating_comes_back_as_it_was_given(store: Store) -> None:
    number = store.add_reply(session(store), reply())
    store.rate(number, "thumb", 1)
    store.rate(number, "edit", -1, "Surely, a.b@example.org.")
    store.rate(number, "pair", 1, "No.")
    store.rate(number, "comment", text="too short")
    store.rate(number, "stars", 4)
    thumb, edit, pair, comment, stars = store.ratings()
    assert [r.kind for r in (thumb, edit, pair, comment, stars)] == [
        *("thumb", "edit", "pair", "comment", "stars")
    ]
    assert [r.value for r in (thumb, edit, pair, comment, stars)] == [1, -1, 1, 0, 4]
    assert (edit.other, pair.other, comment.comment) == (
        *("Surely, [e-mail].", "No.", "too short"),
    )
    kept = thumb.reply
    assert kept.context == [{"role": "user", "content": "Hi, my mail is [e-mail]."}]
    assert (kept.turn, kept.text, kept.temperature) == (0, "Sure.", 1.0)
    assert (kept.ids, kept.logprobs) == ([5, 6, 2], [-0.5, -0.25, -1.0])
    about = thumb.session
    assert (about.person, about.agent, about.version) == ("me", "runs/demo", "abc")
    assert (about.env, about.temperature, len(about.id)) == ("rlchat/Support-v0", 0.5, 36)


def test_tokens_that_spell_what_is_masked_are_not_kept(store: Store) -> None:
    number = store.add_reply(session(store), reply(text="I write to a.b@example.org."))
    store.rate(number, "thumb", 1)
    (rating,) = store.ratings()
    assert rating.reply.text == "I write to [e-mail]."
    assert rating.reply.ids is None and rating.reply.logprobs is None


def test_a_changed_mind_replaces_what_was_thought_before(store: Store) -> None:
    kept = session(store)
    first, second = (store.add_reply(kept, reply(turn)) for turn in range(2))
    for value in (1, -1):
        store.rate(first, "thumb", value)
    store.rate(second, "thumb", 1)
    for better in ("a", "b"):
        store.rate(first, "edit", -1, better)
    for number, stars in ((first, 2), (second, 5)):
        store.rate(number, "stars", stars)
    told = [(r.kind, r.value, r.other, r.reply.turn) for r in store.ratings()]
    assert told == [
        *(("thumb", -1, "", 0), ("thumb", 1, "", 1), ("edit", -1, "b", 0), ("stars", 5, "", 1)),
    ]


def test_the_file_is_its_owners_alone(store: Store, path: Path) -> None:
    session(store)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    assert len(list(path.parent.iterdir())) == 3  # with its log and the log's index


def test_how_the_file_is_written(store: Store) -> None:
    found = {
        name: store._db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
    }
    assert found == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "foreign_keys": 1}


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, data_folder: Path) -> None:
    assert store_path() == data_folder / "feedback.db"
    monkeypatch.delenv("RLCHAT_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", "/x")
    assert store_path() == Path("/x/rlchat/feedback.db")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert store_path() == Path.home() / ".local/share/rlchat/feedback.db"


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks by files, and no memory that processes share, as on a network's file system."""
    monkeypatch.setattr(store_module, "_WITHOUT_LOG", set())
    connect = sqlite3.connect

    def far(path: Path, **settings: Any) -> sqlite3.Connection:
        return connect(f"{path.as_uri()}?vfs=unix-dotfile", uri=True, **settings)

    monkeypatch.setattr(sqlite3, "connect", far)


@pytest.mark.skipif(sys.platform == "win32", reason="SQLite has that file system on Unix alone")
def test_a_file_system_without_logs_keeps_ratings_too(path: Path, network: None) -> None:
    with pytest.warns(Notice, match="without write-ahead logs") as told:
        for turn in range(2):
            with Store.open(path) as store:
                store.rate(
                    store.add_reply(session(store), reply(turn, "unforgettable")), "thumb", 1
                )
                assert store._db.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    assert len(told) == 1
    with Store.open(path) as store:
        assert store.count(person="me") == (2, 2, 2)
        store.forget(person="me")
        assert store.count(person="me") == (0, 0, 0)
    assert b"unforgettable" not in everything(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="SQLite has that file system on Unix alone")
def test_a_file_with_a_log_may_be_moved_there(
    path: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    moved = tmp_path / "far" / path.name
    moved.parent.mkdir()
    with Store.open(path) as store:
        store.rate(store.add_reply(session(store), reply()), "thumb", 1)
        for file in path.parent.iterdir():  # as a kill would leave them: not all is in the file
            shutil.copy(file, moved.parent)
    request.getfixturevalue("network")
    with pytest.warns(Notice, match="without write-ahead logs"), Store.open(moved) as store:
        assert store.count(person="me") == (1, 1, 1)


def test_a_newer_file_is_refused_and_left_alone(path: Path) -> None:
    with Store.open(path) as store:
        session(store)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=2")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"of version 1; .* is of version 2, .*; update rlchat"):
        Store.open(path).__enter__()
    assert path.read_bytes() == before


def test_what_is_no_feedback_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"something else entirely" * 100)
    for place in (tmp_path / "file", tmp_path / "file" / "x.db", tmp_path):
        with pytest.raises(UserError, match="expected a feedback file that can be read and"):
            Store.open(place).__enter__()
    assert (tmp_path / "file").read_bytes() == b"something else entirely" * 100


def test_a_block_is_kept_whole_or_not_at_all(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.writing():
        store.rate(store.add_reply(session(store), reply()), "thumb", 1)
        raise ZeroDivisionError
    assert store.stats() == [] and store.count(person="me") == (0, 0, 0)


def test_a_rating_that_cannot_be_written_leaves_the_conversation_unkept(path: Path) -> None:
    context = RatingContext("me", "base", "tiny", "", 1.0, path, str)
    ratings = RatingRecorder(context)
    ratings.spoke((Message("user", "hi"),), Reply("hello"))
    path.mkdir(parents=True)
    with pytest.raises(UserError):
        ratings.rate("thumb", 1)
    path.rmdir()
    ratings.rate("thumb", 1)
    with Store.open(path) as store:
        assert [r.reply.text for r in store.ratings()] == ["hello"]


def test_a_forgotten_conversation_may_be_rated_again(path: Path) -> None:
    ratings = RatingRecorder(RatingContext("me", "base", "tiny", "", 1.0, path, str))
    ratings.spoke((Message("user", "hi"),), Reply("hello"))
    ratings.rate("thumb", 1)
    with Store.open(path) as store:
        store.forget(session=ratings.session)
    ratings.spoke((Message("user", "hi"),), Reply("again"))
    ratings.rate("stars", 3)
    with Store.open(path) as store:
        assert store.count(session=ratings.session) == (1, 2, 1)


def test_forgetting_leaves_no_byte(path: Path) -> None:
    texts = [f"unforgettable-{n}" for n in range(300)]
    with Store.open(path) as other, Store.open(path) as store:
        kept = session(store, "stays")
        store.rate(store.add_reply(kept, reply(text="this one stays")), "thumb", 1)
        for text in texts:
            number = store.add_reply(session(store, "goes-away"), reply(text=f"{text} said"))
            store.rate(number, "edit", -1, f"{text} edited")
            store.rate(number, "comment", text=f"{text} remarked")
        assert everything(path).count(b"unforgettable") >= 3 * len(texts)
        assert len(list(other.ratings())) == 601
        store.forget(person="goes-away")
        for open_or_closed in range(2):
            left = everything(path)
            assert b"unforgettable" not in left and b"goes-away" not in left
            assert b"this one stays" in left
            if not open_or_closed:
                assert [r.reply.text for r in other.ratings()] == ["this one stays"]


def test_forgetting_one_session_keeps_the_others(store: Store, path: Path) -> None:
    first, second = (session(store) for _ in range(2))
    for kept, text in ((first, "first-words"), (second, "second-words")):
        store.rate(store.add_reply(kept, reply(text=text)), "thumb", 1)
    assert store.count(session=first) == (1, 1, 1) and store.count(person="me") == (2, 2, 2)
    store.forget(session=first)
    assert store.count(session=first) == (0, 0, 0) and store.count(person="me") == (1, 1, 1)
    assert b"first-words" not in everything(path) and b"second-words" in everything(path)


def test_a_reader_who_is_in_the_way_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PATIENCE", 0.1)
    with Store.open(path) as store, Store.open(path) as other:
        store.rate(store.add_reply(session(store), reply()), "thumb", 1)
        reading = other._db.execute("SELECT * FROM ratings")
        reading.fetchone()
        other._db.execute("BEGIN")
        other._db.execute("SELECT * FROM ratings").fetchone()
        with pytest.raises(UserError, match="expected nobody else to read"):
            store.forget(person="me")
        other._db.execute("COMMIT")


@pytest.mark.long
def test_ten_thousand_ratings_take_seconds(path: Path) -> None:
    """Of this process: how long it waits for a disk that others use is not the store's matter."""
    took = {}
    start = time.process_time()
    with Store.open(path, masked) as store, store.writing():
        for n in range(1_000):
            kept = session(store, f"person {n % 10}")
            for turn in range(5):
                number = store.add_reply(kept, reply(turn, f"Reply {n} {turn}, call 415 555 2671."))
                store.rate(number, "thumb", 1)
                store.rate(number, "edit", -1, f"Better {n} {turn}")
    took["load"] = time.process_time() - start
    start = time.process_time()
    with Store.open(path) as store:
        assert len(list(store.ratings())) == 10_000
    took["read"] = time.process_time() - start
    start = time.process_time()
    with Store.open(path) as store:
        store.forget(person="person 3")
        assert store.count(person="person 3") == (0, 0, 0)
        assert len(list(store.ratings())) == 9_000
    took["forget"] = time.process_time() - start
    print(took)
    assert max(took.values()) < 10, took


def rate(path: Path, who: str) -> subprocess.Popen[bytes]:
    rooms = [str(ROOT / room) for room in ("envs", "reward_models", ".")]
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).parents[1] / "workers/rate.py"), str(path), who],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(rooms)},
    )


def read_line(child: subprocess.Popen[bytes]) -> list[str]:
    assert child.stdout is not None
    return child.stdout.readline().decode().rstrip("\n").split(" ", 2)


def acknowledged(child: subprocess.Popen[bytes]) -> list[list[str]]:
    """What a killed child had printed: a line that was cut off was not seen by anybody."""
    assert child.stdout is not None
    lines = child.stdout.read().split(b"\n")[:-1]
    child.stdout.close()
    return [line.decode().split(" ", 2) for line in lines]


def wanting(path: Path, told: dict[str, list[list[str]]]) -> list[tuple[str, ...]]:
    """Acknowledged ratings that the file lacks."""
    with Store.open(path) as store:
        kept = {
            (r.session.person, r.kind, r.reply.text.split()[1], r.comment or f"{r.value:.0f}")
            for r in store.ratings()
        }
        assert store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert store._db.execute("PRAGMA foreign_key_check").fetchall() == []
    given = {(who, *line) for who, lines in told.items() for line in lines}
    return sorted(given - kept)


@pytest.mark.long
def test_no_acknowledged_rating_is_lost_when_the_program_is_killed(path: Path) -> None:
    rng = random.Random(0)
    told: dict[str, list[list[str]]] = {}
    for kill in range(KILLS // 2):
        children = {f"p{kill}-{side}": rate(path, f"p{kill}-{side}") for side in "ab"}
        for child in children.values():
            assert read_line(child) == ["ready"]
        for who, child in children.items():
            time.sleep(rng.uniform(0, 0.15))
            child.kill()
            assert child.wait() == -9
            told[who] = acknowledged(child)
    count = sum(map(len, told.values()))
    print(f"{KILLS} kills, {count} ratings acknowledged, none lost")
    assert count > KILLS
    assert wanting(path, told) == []


def test_two_processes_write_at_once(path: Path) -> None:
    children = {who: rate(path, who) for who in ("one", "two")}
    early = {who: [read_line(child) for _ in range(21)] for who, child in children.items()}
    for child in children.values():
        child.kill()
        child.wait()
    told = {who: [*early[who][1:], *acknowledged(child)] for who, child in children.items()}
    assert wanting(path, told) == []
