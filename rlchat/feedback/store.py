"""Ratings of replies, in one SQLite file in a person's data folder.

A rating counts as kept only after its transaction is on the disk: whatever kills the program, what
was acknowledged is there. What is forgotten is gone from every byte of the file and its log.
"""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal, get_args

from rlchat.errors import Notice, UserError
from rlchat.files import data_folder

Kind = Literal["thumb", "pair", "edit", "comment", "stars"]
Messages = Sequence[Mapping[str, str]]  # [{"role", "content"}, …], as trl writes conversations

SCHEMA = 1  # of the file, in its user_version
PATIENCE = 30.0  # seconds to wait for another process that writes
_NO_LOG = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL}
_WITHOUT_LOG: set[Path] = set()  # files of which that was said
_KINDS = ", ".join(f"'{kind}'" for kind in get_args(Kind))
_TABLES = f"""
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, person TEXT NOT NULL, agent TEXT NOT NULL, version TEXT NOT NULL,
    env TEXT NOT NULL, temperature REAL NOT NULL, time TEXT NOT NULL);
CREATE TABLE replies (
    id INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    turn INTEGER NOT NULL, context TEXT NOT NULL, text TEXT NOT NULL,
    ids TEXT, logprobs TEXT, temperature REAL);
CREATE INDEX replies_by_session ON replies (session);
CREATE TABLE ratings (
    id INTEGER PRIMARY KEY, reply INTEGER NOT NULL REFERENCES replies ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ({_KINDS})), value REAL NOT NULL,
    other TEXT NOT NULL, comment TEXT NOT NULL, time TEXT NOT NULL);
CREATE INDEX ratings_by_reply ON ratings (reply);
"""
_ALL = """
SELECT ratings.id, kind, value, other, comment, ratings.time, replies.*, sessions.*
FROM ratings JOIN replies ON reply = replies.id JOIN sessions ON session = sessions.id
WHERE ? IN ('', person) ORDER BY ratings.id
"""
# Which earlier ratings of its kind a new one replaces, by the number of the reply that it is for.
_REPLACED: Mapping[Kind, str] = {
    "thumb": "reply = ?",
    "edit": "reply = ?",
    "stars": "reply IN (SELECT id FROM replies WHERE session = (SELECT session FROM replies "
    "WHERE id = ?))",
}
_TALLIES = """
SELECT agent, version, count(DISTINCT sessions.id) AS sessions,
    count(DISTINCT replies.id) AS replies, sum(kind = 'thumb' AND value > 0) AS "+",
    sum(kind = 'thumb' AND value < 0) AS "-", sum(kind = 'pair') AS pairs,
    sum(kind = 'edit') AS edits, sum(kind = 'comment') AS comments, sum(kind = 'stars') AS stars,
    avg(CASE WHEN kind = 'stars' THEN value END) AS "mean stars"
FROM sessions JOIN replies ON session = sessions.id LEFT JOIN ratings ON reply = replies.id
GROUP BY agent, version ORDER BY min(sessions.time)
"""


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation of a person's with an agent.

    ``version`` says which weights spoke: the SHA-256 of an adapter, or the base's name.
    """

    id: str
    person: str
    agent: str
    version: str
    env: str
    temperature: float
    time: str


@dataclass(frozen=True, slots=True)
class StoredReply:
    """One message of an agent's, and the conversation before it.

    ``ids`` and ``logprobs`` are what a model sampled, in nats under the distribution at
    ``temperature`` (at 1 where it is 0). There are none where no model spoke, and where the text is
    masked: they would spell out what the mask hides.
    """

    turn: int
    context: Messages
    text: str
    ids: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Rating:
    """A person's rating of one reply.

    ``value`` is +1 or -1 for a thumb, 1 to 5 for stars, which are for the conversation up to here.
    Of pairs and edits it is positive if the reply is better than ``other``, negative if ``other``
    is (as of edits always), 0 if neither. Of comments it is 0.
    """

    kind: Kind
    value: float
    other: str
    comment: str
    time: str
    reply: StoredReply
    session: Session


class Store:
    """An open store; every text goes through the mask before it is written."""

    def __init__(self, path: Path, connection: sqlite3.Connection, mask: Callable[[str], str]):
        """Wrap an open connection; `Store.open` makes one."""
        self.path, self._db, self._mask = path, connection, mask

    @classmethod
    @contextmanager
    def open(cls, path: Path, mask: Callable[[str], str] = lambda text: text) -> Iterator[Store]:
        """Open the file, made if it is absent, readable to its owner alone.

        Args:
            path: the file.
            mask: takes out of a text what is not to be kept.

        Raises:
            UserError: the file cannot be used, or a newer rlchat made it; inside the block, too.
        """
        try:
            with closing(_connect(path)) as connection:
                store = cls(path, connection, mask)
                store._prepare()
                yield store
        except sqlite3.Error as error:
            raise _unusable(path, error) from error

    def _prepare(self) -> None:
        self._read_log()
        for setting in ("foreign_keys=ON", "secure_delete=ON", "temp_store=MEMORY"):
            self._db.execute(f"PRAGMA {setting}")
        if self._schema == 0:
            with self.writing():
                if self._schema == 0:  # nobody else was faster
                    for statement in _TABLES.split(";\n"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version={SCHEMA}")
        if self._schema > SCHEMA:
            raise UserError(
                f"expected a feedback file of version {SCHEMA}; {self.path} is of version "
                f"{self._schema}, which a newer rlchat made; update rlchat"
            )
        self._write_ahead()
        self._db.execute("PRAGMA synchronous=FULL")

    def _read_log(self) -> None:
        """Take a log of another file system back into the file, where there can be none."""
        try:
            _ = self._schema
        except sqlite3.OperationalError as error:
            if not _is_no_log(error):
                raise
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # then no memory is shared
            self._db.execute("PRAGMA journal_mode=DELETE")
            self._db.execute("PRAGMA locking_mode=NORMAL")
            _ = self._schema

    def _write_ahead(self) -> None:
        """Keep a log; SQLite itself does not wait while another process sees to that first.

        On network file systems processes share no memory for it: a journal is kept there.
        """
        until = monotonic() + PATIENCE
        while True:
            try:
                mode = self._db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if _is_no_log(error):
                    mode = self._db.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
                    break
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > until:
                    raise
                sleep(0.01)
        if mode != "wal" and self.path not in _WITHOUT_LOG:
            _WITHOUT_LOG.add(self.path)
            told = (
                f"{self.path} is on a file system without write-ahead logs, such as a network's: "
                "it is kept with a journal, one writer at a time; RLCHAT_DATA names another folder"
            )
            warnings.warn(told, Notice, stacklevel=5)

    @property
    def _schema(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write all of the block or nothing; once it is left, the disk has it."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def begin_session(
        self, person: str, agent: str, version: str, env: str, temperature: float
    ) -> str:
        """Note who talks to whom; give the session's id."""
        session = str(uuid.uuid4())
        self._insert("sessions", session, person, agent, version, env, temperature, _now())
        return session

    def has_session(self, session: str) -> bool:
        """Whether a session is in the store; it may have been forgotten meanwhile."""
        return bool(self._number("sessions", "id", session, ""))

    def add_reply(self, session: str, reply: StoredReply) -> int:
        """Keep a reply; give its number."""
        text = self._mask(reply.text)
        context = [
            {**message, "content": self._mask(message["content"])} for message in reply.context
        ]
        tokens: list[str | None] = [None, None]
        if text == reply.text and reply.ids:
            tokens = [json.dumps(list(reply.ids)), json.dumps(list(reply.logprobs or ()))]
        said = json.dumps(context, ensure_ascii=False)
        return self._insert(
            "replies", None, session, reply.turn, said, text, *tokens, reply.temperature
        )

    def rate(self, reply: int, kind: Kind, value: float = 0.0, text: str = "") -> None:
        """Keep a rating of a reply; thumbs, edits and stars replace an earlier one of their kind.

        Args:
            reply: its number; stars are for the conversation up to it.
            kind: what sort of rating it is.
            value: see `Rating`.
            text: the other reply of a pair, the better one of an edit, or a comment.
        """
        other, comment = ("", text) if kind == "comment" else (text, "")
        with self.writing():
            if kind in _REPLACED:
                self._db.execute(
                    f"DELETE FROM ratings WHERE kind = ? AND {_REPLACED[kind]}", (kind, reply)
                )
            masked = self._mask(other), self._mask(comment)
            self._insert("ratings", None, reply, kind, float(value), *masked, _now())

    def ratings(self, person: str = "") -> Iterator[Rating]:
        """Every rating, of one person or of all, in the order in which they were given."""
        for row in self._db.execute(_ALL, (person,)):
            _, kind, value, other, comment, time = row[:6]
            turn, context, text, ids, logprobs, temperature = row[8:14]
            reply = StoredReply(
                turn, json.loads(context), text, _list(ids), _list(logprobs), temperature
            )
            yield Rating(kind, value, other, comment, time, reply, Session(*row[14:]))

    def stats(self) -> list[dict[str, str | int | float | None]]:
        """Numbers of ratings by agent and version, in the order of their first session."""
        rows = self._db.execute(_TALLIES)
        names = [column[0] for column in rows.description]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def count(self, session: str = "", person: str = "") -> tuple[int, int, int]:
        """Numbers of sessions, replies and ratings of one session or of one person."""
        return (
            self._number("sessions", "id", session, person),
            self._number("replies", "session", session, person),
            self._number("replies JOIN ratings ON reply = replies.id", "session", session, person),
        )

    def forget(self, session: str = "", person: str = "") -> None:
        """Delete a session, or a person's, from the file and its log, to the last byte.

        Raises:
            UserError: another process is reading, so that the log cannot be emptied now.
        """
        self._db.execute("DELETE FROM sessions WHERE id = ? OR person = ?", (session, person))
        self._db.execute("VACUUM")
        (busy, _, _) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise UserError(
                f"expected nobody else to read {self.path}; what was to go is deleted there, but "
                "not in its log; close what else uses the file and forget again"
            )

    def _number(self, rows: str, column: str, session: str, person: str) -> int:
        which = "SELECT id FROM sessions WHERE id = ? OR person = ?"  # nobody's are empty
        query = f"SELECT count(*) FROM {rows} WHERE {column} IN ({which})"
        return int(self._db.execute(query, (session, person)).fetchone()[0])

    def _insert(self, table: str, *values: Any) -> int:
        marks = ", ".join("?" * len(values))
        return int(self._db.execute(f"INSERT INTO {table} VALUES ({marks})", values).lastrowid or 0)


def _is_no_log(error: sqlite3.OperationalError) -> bool:
    """Whether the file system cannot have a log: no shared memory, or locks of another kind."""
    return error.sqlite_errorcode & 0xFF in _NO_LOG


def store_path() -> Path:
    """The path of the store in the data folder."""
    return data_folder() / "feedback.db"


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never one that exists: to close it would drop the locks that this process has on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise _unusable(path, error) from error
    return sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)


def _unusable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"expected a feedback file that can be read and written, got {path} ({error}); make room, "
        "close what else uses it, or set RLCHAT_DATA to another folder"
    )


def _list(text: str | None) -> list[Any] | None:
    return None if text is None else list(json.loads(text))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
