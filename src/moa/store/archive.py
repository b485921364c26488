"""Saved runs: the request, the model and every event, in the run store's file.

Notable decisions:
- A run is stored as its event lines. Nothing that can be derived from them is stored, except the columns that lists show.
- Lines are stored in compressed batches, each under the number of its first line, so that a killed process loses little.
- Long strings of requests are stored once, however many runs hold them.
- Deleted text is overwritten, in the file and in its write-ahead log. The file does not shrink: its space is used again.
- The methods block. One thread at a time may use an archive.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moa.answers import Cost
from moa.closing import Closing
from moa.mixture.codec import decoded_event
from moa.mixture.events import AnswerBegan
from moa.store import blobs, processes, ratings
from moa.store.bounds import Bounds, sweep, used_bytes
from moa.store.changes import Begun, Change, statements, storable
from moa.store.file import opened
from moa.store.ratings import Rating
from moa.store.turns import forget

DEFAULT = Bounds()

RUNS_BETWEEN_SWEEPS = 64

LOCKED, CAUGHT_UP = 0.5, 2.0
"""Seconds: a claim that waited longer than the first for the file was locked out, as were the heartbeats of other processes.
Within the second they are written."""

LOG_KEPT = 16 * 2**20
"""Bytes of the write-ahead log that stay on the disk after a large write."""

SHOWN = 200
"""Characters of question and answer in a list."""

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

log = logging.getLogger("moa.server")


@dataclass(frozen=True, slots=True)
class Row:
    """A run in a list. ``number`` grows from run to run; question and answer are cut to :data:`SHOWN` characters.

    ``rating`` is ``up``, ``down`` or None.
    """

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
    rating: str | None = None


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A whole run: its beginning, its outcome (``running`` until it ends), its event lines, and its rating."""

    begun: Begun
    outcome: str
    lines: list[bytes] = field(repr=False)
    rating: Rating | None = None


class Archive(Closing):
    """The saved runs of a file.

    Args:
        path: the file, created if it is missing; None keeps everything in memory.
        bounds: what is stored; the oldest runs are deleted first, runs in flight never.
        process: the ID of this process among those that share the file; None makes a new one.

    Raises:
        ConfigError: the file cannot be opened, or is not a run store.
    """

    def __init__(self, path: Path | None = None, *, bounds: Bounds = DEFAULT, process: str | None = None) -> None:
        self.path, self.process = path, process or processes.new_process()
        self._bounds, self._since_sweep = bounds, 0
        self._between_sweeps = min(RUNS_BETWEEN_SWEEPS, max(1, bounds.runs // 10))
        self._traces = False
        self._file = opened(path, self._prepare)
        self._processes = processes.Processes(self._file, self.process)
        if process is None:
            self.sweep()

    def _prepare(self, file: sqlite3.Connection) -> None:
        file.execute("PRAGMA foreign_keys = ON")
        file.execute(f"PRAGMA journal_size_limit = {LOG_KEPT}")
        file.executescript(SCHEMA + blobs.SCHEMA + processes.SCHEMA + ratings.SCHEMA)
        if "request_id" not in _columns(file):  # a store of an earlier version
            with _transaction(file):
                if "request_id" not in _columns(file):  # no other process has just done it
                    file.execute("ALTER TABLE run_requests ADD COLUMN request_id TEXT")
        file.create_function("folded", 1, str.casefold, deterministic=True)

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, changes: Sequence[Change]) -> None:
        """Write all changes in one transaction. Changes to deleted runs are ignored.

        Raises:
            Exception: nothing was written.
        """
        known = set[bytes]()

        def is_stored(digest: bytes) -> bool:
            stored = digest in known or blobs.is_stored(self._file, digest)
            known.add(digest)
            return stored

        ready = [*statements(changes, self.process, is_stored)]
        with _transaction(self._file):
            for statement, values in ready:
                self._file.execute(statement, values)
        begun = sum(isinstance(change, Begun) for change in changes)
        self._since_sweep += begun
        is_too_large = begun and self._bounds.bytes is not None and used_bytes(self._file) > self._bounds.bytes
        if self._since_sweep >= self._between_sweeps or is_too_large:
            self.sweep()
        if self._traces:
            self._wipe()

    def sweep(self) -> None:
        """Delete runs beyond the bounds. A failure is logged: the next sweep tries it again."""
        self._since_sweep = 0
        try:
            with _transaction(self._file):
                sweep(self._file, self._bounds, self.process)
        except sqlite3.Error as error:
            log.error("old runs cannot be deleted from the run store: %s", error)

    def delete(self, run: str) -> None:
        """Delete a run, and the proposals that are stored for its turn. Their text is overwritten.

        Raises:
            sqlite3.Error: nothing was deleted.
        """
        begun = [decoded_event(line) for line in self.lines(run) if line.startswith(b'{"event":"answer_began"')]
        with _transaction(self._file):
            self._file.execute("DELETE FROM runs WHERE run = ?", (run,))
            forget(self._file, (event for event in begun if isinstance(event, AnswerBegan)))
        self._wipe()

    def rate(self, run: str, owner: str | None, rating: str | None, note: str = "") -> bool:
        """Rate a run, ``up`` or ``down``; None removes its rating. The text of an earlier note is overwritten.

        Returns:
            False if there is no such run, or if it belongs to another owner.

        Raises:
            sqlite3.Error: nothing was written.
        """
        with _transaction(self._file):
            found = ratings.rate(self._file, run, owner, rating, storable(note))
        self._wipe()
        return found

    def claim(self, run: str) -> bool:
        """Claim the right to continue a run; see :meth:`~moa.store.processes.Processes.claim`.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        while True:
            began = processes.clock()
            with _transaction(self._file):
                if processes.clock() - began < LOCKED:
                    return self._processes.claim(run)
            time.sleep(CAUGHT_UP)

    def release(self, run: str) -> None:
        """Give up a claim; see :meth:`~moa.store.processes.Processes.release`."""
        self._processes.release(run)

    def ask_to_stop(self, run: str) -> None:
        """Ask the process that runs this run to stop it."""
        self._processes.ask_to_stop(run)

    def ask_to_follow(self, run: str) -> None:
        """Ask the process that runs this run to write its lines at once, for some seconds."""
        self._processes.ask_to_follow(run)

    def _wipe(self) -> None:
        """Empty the write-ahead log, which still holds deleted text; while another process reads, the next write retries."""
        self._traces = bool(self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])

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
            values += [storable(search).casefold()] * 2
        found = self._file.execute(
            "SELECT number, run, started, outcome, model, substr(question, 1, ?), substr(answer, 1, ?), "
            "cost, cost_is_at_least, duration, time_to_first_token, tokens, continues, rating, process, beat "
            "FROM runs LEFT JOIN run_processes USING (number) LEFT JOIN run_ratings USING (number) "
            f"WHERE {' AND '.join(wanted)} ORDER BY number DESC LIMIT ?",
            (SHOWN, SHOWN, *values, limit),
        ).fetchall()
        return [self._row(*columns) for columns in found]

    def named(self, beginning: str, limit: int = 5) -> list[str]:
        """Run IDs that begin with this text, the latest first."""
        found = self._file.execute(
            "SELECT run FROM runs WHERE substr(run, 1, ?) = ? ORDER BY number DESC LIMIT ?",
            (len(beginning), beginning, limit),
        ).fetchall()
        return [run for (run,) in found]

    def saved(self, run: str, owner: str | None = None) -> SavedRun | None:
        """A whole run; None if there is none of this ID, or if it belongs to another owner.

        Raises:
            sqlite3.Error: the file cannot be read, or is damaged here.
        """
        row = self._file.execute(
            "SELECT number, owner, started, model, request, mixture, continues, request_id, outcome, process, beat "
            "FROM runs JOIN run_requests USING (number) LEFT JOIN run_processes USING (number) WHERE run = ?",
            (run,),
        ).fetchone()
        if row is None or owner not in (None, row[1]):
            return None
        number, owner, started, model, request, mixture, continues, request_id, *state = row
        with _or_damaged(run):
            body = blobs.restored(json.loads(zlib.decompress(request)), blobs.texts_of(self._file, number))
            table = json.loads(mixture) if mixture else None
        outcome = self._processes.outcome(*state)  # before the lines: none comes after an end
        begun = Begun(run, owner, started, model, body, table, continues, request_id)
        return SavedRun(begun, outcome, self.lines(run), ratings.rating_of(self._file, number))

    def outcome(self, run: str) -> str | None:
        """The outcome of a run; None if there is none."""
        row = self._file.execute(
            "SELECT outcome, process, beat FROM runs LEFT JOIN run_processes USING (number) WHERE run = ?", (run,)
        ).fetchone()
        return self._processes.outcome(*row) if row else None

    def lines(self, run: str, after: int = 0) -> list[bytes]:
        """A run's event lines after the one with this number.

        Raises:
            sqlite3.Error: the file cannot be read, or is damaged here.
        """
        batches = self._file.execute(
            "SELECT first, lines FROM run_lines JOIN runs USING (number) WHERE run = ?1 AND first >= coalesce("
            "(SELECT max(first) FROM run_lines JOIN runs USING (number) WHERE run = ?1 AND first <= ?2), 0) ORDER BY first",
            (run, after + 1),
        ).fetchall()
        with _or_damaged(run):
            lines = [line for _, batch in batches for line in zlib.decompress(batch).split(b"\n")]
        return lines[max(0, after + 1 - batches[0][0]) :] if batches else []

    def beside(self) -> Archive:
        """Another connection to the file, for another thread; the same object where there is no file."""
        if self.path is None:
            return self
        return Archive(self.path, bounds=self._bounds, process=self.process)

    def close(self) -> None:
        self._file.close()

    def _row(self, *columns: Any) -> Row:
        number, run, started, outcome, model, question, answer, dollars, at_least, *figures, process, beat = columns
        outcome = self._processes.outcome(outcome, process, beat)
        return Row(number, run, started, outcome, model, question, answer, Cost(dollars, bool(at_least)), *figures)


@contextmanager
def _transaction(file: sqlite3.Connection) -> Iterator[None]:
    """All statements inside, or none of them."""
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        if file.in_transaction:  # on a full disk SQLite has rolled back by itself
            file.execute("ROLLBACK")
        raise


def _columns(file: sqlite3.Connection) -> list[str]:
    return [column for _, column, *_ in file.execute("PRAGMA table_info(run_requests)")]


@contextmanager
def _or_damaged(run: str) -> Iterator[None]:
    """Say of stored text that cannot be decoded that it is damaged."""
    try:
        yield
    except (zlib.error, ValueError) as error:
        raise sqlite3.DatabaseError(f"run {run} is damaged in the run store: {error}") from None
