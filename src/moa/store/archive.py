"""Saved runs: the request, the model and every event, in the run store's file.

Notable decisions:
- A run is stored as its event lines. Nothing that can be derived from them is stored, except the columns that lists show.
- Lines are stored in compressed batches, each under the number of its first line, so that a killed process loses little.
- Deleted text is overwritten, in the file and in its write-ahead log.
- The methods block. One thread at a time may use an archive.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moa.answers import Answer, Cost
from moa.closing import Closing
from moa.messages import Request, text_of
from moa.mixture.codec import decoded_event
from moa.mixture.events import AnswerBegan
from moa.store.file import opened
from moa.store.turns import forget

RUNS_KEPT = 10_000
RUNS_BETWEEN_SWEEPS = 64

LINGERING = 86400.0
"""Seconds for which sweeps spare a run without an end: it is in progress, or its process was killed."""

SHOWN = 200
"""Characters of question and answer in a list."""

_LARGEST = 2**63 - 1
"""The largest integer that SQLite stores."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, started REAL NOT NULL,
    outcome TEXT NOT NULL, model TEXT NOT NULL, continues TEXT, cost REAL, cost_is_at_least INTEGER NOT NULL DEFAULT 0,
    duration REAL, time_to_first_token REAL, tokens INTEGER NOT NULL DEFAULT 0,
    question TEXT NOT NULL, answer TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS runs_by_owner ON runs (owner, number);
CREATE TABLE IF NOT EXISTS run_requests (
    number INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE, request BLOB NOT NULL, mixture TEXT, request_id TEXT
);
CREATE TABLE IF NOT EXISTS run_lines (
    number INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, first INTEGER NOT NULL, lines BLOB NOT NULL,
    PRIMARY KEY (number, first)
);
"""


@dataclass(frozen=True, slots=True)
class Begun:
    """A run began.

    Attributes:
        run: the run ID.
        owner: the name of the caller's API key; empty where there are no keys.
        started: seconds since 1970.
        model: the model that the caller requested, ``moa/<mixture>`` or ``provider/name``.
        request: the Chat Completions body, without the model.
        mixture: the mixture's table as the run used it; None for a single model.
        continues: the ID of the run whose proposals this one took over.
        request_id: the ``x-request-id`` of the request that started it; None outside a server.
    """

    run: str
    owner: str
    started: float
    model: str
    request: Mapping[str, Any]
    mixture: Mapping[str, Any] | None = None
    continues: str | None = None
    request_id: str | None = None

    @property
    def question(self) -> str:
        """The text of the last user message."""
        request = Request(self.request)
        return "" if request.last_user is None else text_of(request.messages[request.last_user])


@dataclass(frozen=True, slots=True)
class Lines:
    """Further event lines of a run; ``first`` is the number of the first of them, from 1."""

    run: str
    first: int
    lines: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run ended; ``outcome`` is ``answered``, ``degraded``, ``failed`` or ``stopped``."""

    run: str
    outcome: str
    answer: Answer


Change = Begun | Lines | Ended


@dataclass(frozen=True, slots=True)
class Row:
    """A run in a list. ``number`` grows from run to run; question and answer are cut to :data:`SHOWN` characters."""

    number: int
    run: str
    started: float
    outcome: str
    model: str
    question: str
    answer: str
    cost: Cost
    duration: float | None
    time_to_first_token: float | None
    tokens: int
    continues: str | None


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A whole run: its beginning, its outcome (``running`` until it ends), and its event lines."""

    begun: Begun
    outcome: str
    lines: list[bytes] = field(repr=False)


class Archive(Closing):
    """The saved runs of a file.

    Args:
        path: the file, created if it is missing; None keeps everything in memory.
        most: how many runs are stored; the oldest are deleted first.

    Raises:
        ConfigError: the file cannot be opened, or is not a run store.
    """

    def __init__(self, path: Path | None = None, *, most: int = RUNS_KEPT) -> None:
        self._most, self._since_sweep = most, 0
        self._between_sweeps = min(RUNS_BETWEEN_SWEEPS, max(1, most // 10))
        self._traces = False
        self._file = opened(path, self._prepare)

    def _prepare(self, file: sqlite3.Connection) -> None:
        self._file = file
        file.execute("PRAGMA foreign_keys = ON")
        file.executescript(SCHEMA)
        with self._transaction():
            if "request_id" not in [column for _, column, *_ in file.execute("PRAGMA table_info(run_requests)")]:
                file.execute("ALTER TABLE run_requests ADD COLUMN request_id TEXT")  # a store of an earlier version
        file.create_function("folded", 1, str.casefold, deterministic=True)
        self._sweep()

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, changes: Sequence[Change]) -> None:
        """Write all changes in one transaction. Changes to deleted runs are ignored.

        Raises:
            sqlite3.Error: nothing was written.
        """
        ready = [_statements(change) for change in changes]  # compressed before the transaction locks the file
        with self._transaction():
            for statement, values in (each for statements in ready for each in statements):
                self._file.execute(statement, values)
            self._since_sweep += sum(isinstance(change, Begun) for change in changes)
            if self._since_sweep >= self._between_sweeps:
                self._sweep()
        if self._traces:
            self._wipe()

    def delete(self, run: str) -> None:
        """Delete a run, and the proposals that are stored for its turn. Their text is overwritten.

        Raises:
            sqlite3.Error: nothing was deleted.
        """
        begun = [decoded_event(line) for line in self.lines(run) if line.startswith(b'{"event":"answer_began"')]
        with self._transaction():
            self._file.execute("DELETE FROM runs WHERE run = ?", (run,))
            forget(self._file, (event for event in begun if isinstance(event, AnswerBegan)))
        self._wipe()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All statements inside, or none of them."""
        self._file.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._file.execute("COMMIT")
        except BaseException:
            if self._file.in_transaction:  # on a full disk SQLite has rolled back by itself
                self._file.execute("ROLLBACK")
            raise

    def _wipe(self) -> None:
        """Empty the write-ahead log, which still holds deleted text; while another process reads, the next write retries."""
        self._traces = bool(self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])

    def _sweep(self) -> None:
        """Delete all but the most recent runs; runs without an end stay for a day."""
        self._since_sweep = 0
        last = "SELECT number FROM runs ORDER BY number DESC LIMIT 1 OFFSET ?"
        self._file.execute(
            f"DELETE FROM runs WHERE number <= ({last}) AND (outcome <> 'running' OR started < ?)",
            (self._most, time.time() - LINGERING),
        )

    # -- reading -----------------------------------------------------------------------------------------------------

    def rows(
        self, owner: str | None = None, *, search: str = "", before: int | None = None, limit: int = 50
    ) -> list[Row]:
        """Runs, the latest first.

        Args:
            owner: only this owner's runs; None for all.
            search: only runs whose question or answer contains this text, in upper or lower case.
            before: only runs with a smaller number.
            limit: how many.
        """
        wanted, values = ["1"], list[Any]()
        for condition, value in (("owner = ?", owner), ("number < ?", before)):
            if value is not None:
                wanted.append(condition)
                values.append(value)
        if search:
            # SQLite's own lower() knows only ASCII, but is ten times as fast and does not block other threads.
            fold = "lower" if search.isascii() else "folded"
            wanted.append(f"(instr({fold}(question), ?) OR instr({fold}(answer), ?))")
            values += [_clean(search).casefold()] * 2
        found = self._file.execute(
            "SELECT number, run, started, outcome, model, substr(question, 1, ?), substr(answer, 1, ?), "
            "cost, cost_is_at_least, duration, time_to_first_token, tokens, continues "
            f"FROM runs WHERE {' AND '.join(wanted)} ORDER BY number DESC LIMIT ?",
            (SHOWN, SHOWN, *values, limit),
        ).fetchall()
        return [_row(*columns) for columns in found]

    def named(self, beginning: str, limit: int = 5) -> list[str]:
        """Run IDs that begin with this text, the latest first."""
        found = self._file.execute(
            "SELECT run FROM runs WHERE substr(run, 1, ?) = ? ORDER BY number DESC LIMIT ?",
            (len(beginning), beginning, limit),
        ).fetchall()
        return [run for (run,) in found]

    def saved(self, run: str, owner: str | None = None) -> SavedRun | None:
        """A whole run; None if there is none of this ID, or if it belongs to another owner."""
        row = self._file.execute(
            "SELECT owner, started, model, request, mixture, continues, request_id, outcome "
            "FROM runs JOIN run_requests USING (number) WHERE run = ?",
            (run,),
        ).fetchone()
        if row is None or owner not in (None, row[0]):
            return None
        owner, started, model, request, mixture, continues, request_id, outcome = row
        body, table = json.loads(zlib.decompress(request)), json.loads(mixture) if mixture else None
        begun = Begun(run, owner, started, model, body, table, continues, request_id)
        return SavedRun(begun, outcome, self.lines(run))

    def lines(self, run: str) -> list[bytes]:
        """A run's event lines."""
        batches = self._file.execute(
            "SELECT lines FROM run_lines JOIN runs USING (number) WHERE run = ? ORDER BY first", (run,)
        ).fetchall()
        return [line for (batch,) in batches for line in zlib.decompress(batch).split(b"\n")]

    def close(self) -> None:
        self._file.close()


def _statements(change: Change) -> list[tuple[str, tuple[Any, ...]]]:
    match change:
        case Begun():
            columns = (change.run, change.owner, change.started, change.model, change.continues, change.question)
            mixture = None if change.mixture is None else json.dumps(change.mixture)
            statement = (
                "INSERT INTO runs (run, owner, started, outcome, model, continues, question) "
                "VALUES (?, ?, ?, 'running', ?, ?, ?)"
            )
            request = zlib.compress(json.dumps(change.request).encode(), 1)
            return [
                (statement, tuple(_clean(value) for value in columns)),
                (
                    "INSERT INTO run_requests VALUES (last_insert_rowid(), ?, ?, ?)",
                    (request, mixture, change.request_id),
                ),
            ]
        case Lines():
            lines = zlib.compress(b"\n".join(change.lines), 1)
            statement = "INSERT INTO run_lines SELECT number, ?, ? FROM runs WHERE run = ?"
            return [(statement, (change.first, lines, change.run))]
        case Ended():
            answer = change.answer
            statement = (
                "UPDATE runs SET outcome = ?, answer = ?, cost = ?, cost_is_at_least = ?, duration = ?, "
                "time_to_first_token = ?, tokens = ? WHERE run = ?"
            )
            figures = (answer.duration, answer.time_to_first_token, min(answer.usage.total_tokens, _LARGEST))
            cost = (answer.cost.dollars, answer.cost.at_least)
            return [(statement, (change.outcome, _clean(answer.text), *cost, *figures, change.run))]


def _row(*columns: Any) -> Row:
    number, run, started, outcome, model, question, answer, dollars, at_least, duration, first, tokens, continues = (
        columns
    )
    cost = Cost(dollars, bool(at_least))
    return Row(number, run, started, outcome, model, question, answer, cost, duration, first, tokens, continues)


def _clean(value: Any) -> Any:
    """The value, or, of a string, what SQLite can store: half of a surrogate pair, which some servers send, is replaced."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
