"""Runs that are kept: what was asked, of whom, and every event, in the file that :mod:`moa.store.turns` has open too.

Notable decisions:
- A run is its event lines; what can be folded from them is not kept. Beside them stand the few columns that lists read.
- Lines are put in as compressed pieces, each under the number of its first line, so that a killed process loses little.
- Deleted text is overwritten, in the file and in its write-ahead log.
- The methods block. One thread at a time may use an archive.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from moa.messages import Answer, Cost, Request, text_of
from moa.store.turns import opened

RUNS_KEPT = 10_000
RUNS_BETWEEN_SWEEPS = 64
LINGERING = 86400.0
"""Seconds after which a run without an end, which a killed process left, is swept like any other."""

SHOWN = 200
"""Characters of question and answer that a list shows."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, started REAL NOT NULL,
    outcome TEXT NOT NULL, model TEXT NOT NULL, continues TEXT, cost REAL, cost_is_at_least INTEGER NOT NULL DEFAULT 0,
    duration REAL, time_to_first_token REAL, tokens INTEGER NOT NULL DEFAULT 0,
    question TEXT NOT NULL, answer TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS runs_by_owner ON runs (owner, number);
CREATE TABLE IF NOT EXISTS run_requests (
    number INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE, request BLOB NOT NULL, mixture TEXT
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
        owner: whose it is; empty where there are no keys.
        started: seconds since 1970.
        mixture: its table as it is in force; None for a single model.
        request: the Chat Completions body, without the model.
        continues: the run whose proposals it took over.
    """

    run: str
    owner: str
    started: float
    model: str
    request: Mapping[str, Any]
    mixture: Mapping[str, Any] | None = None
    continues: str | None = None

    @property
    def question(self) -> str:
        """The text of the last user message."""
        request = Request(self.request)
        return "" if request.last_user is None else text_of(request.messages[request.last_user])


@dataclass(frozen=True, slots=True)
class Told:
    """Further lines of its events; ``first`` is the number of the first of them, from 1."""

    run: str
    first: int
    lines: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Ended:
    """It ended: ``answered``, ``degraded``, ``failed`` or ``stopped``."""

    run: str
    outcome: str
    answer: Answer


Change = Begun | Told | Ended


@dataclass(frozen=True, slots=True)
class Row:
    """A run as a list shows it; ``number`` grows from run to run. Question and answer are cut short."""

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
class Kept:
    """A whole run: how it began, its outcome (``running`` where no end is known), and the lines of its events."""

    begun: Begun
    outcome: str
    lines: list[bytes] = field(repr=False)


class Archive:
    """The kept runs of a file.

    Args:
        path: the file, made if it is not there, readable by its owner alone; None keeps all in memory.
        most: how many are kept; the oldest go first.

    Raises:
        ConfigError: the file cannot be opened, or is no such file.
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
        file.create_function("folded", 1, str.casefold, deterministic=True)
        self._sweep()

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, changes: Sequence[Change]) -> None:
        """Put all of it in, or, where sqlite3.Error is raised, nothing. What is told of a deleted run is left out."""
        ready = [_statements(change) for change in changes]  # compressed before others have to wait
        self._file.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in (each for statements in ready for each in statements):
                self._file.execute(statement, values)
            self._since_sweep += sum(isinstance(change, Begun) for change in changes)
            if self._since_sweep >= self._between_sweeps:
                self._sweep()
            self._file.execute("COMMIT")
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        if self._traces:
            self._wipe()

    def delete(self, run: str) -> None:
        """Forget a run. Its text is overwritten, also what its turn remembers of it while tool calls go on."""
        began = [line for line in self.lines(run) if line.startswith(b'{"event":"answer_began"')]
        self._file.execute("BEGIN IMMEDIATE")
        try:
            self._file.execute("DELETE FROM runs WHERE run = ?", (run,))
            if self._file.execute("SELECT 1 FROM sqlite_master WHERE name = 'proposals'").fetchone():
                for line in began:
                    references = json.dumps(json.loads(line).get("references"))
                    self._file.execute('DELETE FROM proposals WHERE "references" = ?', (references,))
            self._file.execute("COMMIT")
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._wipe()

    def _wipe(self) -> None:
        """Empty the write-ahead log, which still holds deleted text; where others hold it now, the next time."""
        self._traces = bool(self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])

    def _sweep(self) -> None:
        """Forget all but the most recent runs; those that have not ended stay for a day."""
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
            owner: only theirs; None for everybody's.
            search: what question or answer must hold, in upper or lower case.
            before: only runs with a smaller number.
            limit: how many.
        """
        wanted, values = ["1"], list[Any]()
        for condition, value in (("owner = ?", owner), ("number < ?", before)):
            if value is not None:
                wanted.append(condition)
                values.append(value)
        if search:
            # SQLite's own lower() knows ASCII alone, is ten times as fast, and lets other threads run meanwhile.
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
        """Names of runs that begin so, the latest first; one alone where it is the whole name."""
        found = self._file.execute(
            "SELECT run FROM runs WHERE substr(run, 1, ?) = ? ORDER BY number DESC LIMIT ?",
            (len(beginning), beginning, limit),
        ).fetchall()
        return [run for (run,) in found]

    def kept(self, run: str, owner: str | None = None) -> Kept | None:
        """A whole run; None where there is none, or it is not this owner's."""
        row = self._file.execute(
            "SELECT owner, started, model, request, mixture, continues, outcome FROM runs JOIN run_requests USING (number) "
            "WHERE run = ?",
            (run,),
        ).fetchone()
        if row is None or owner not in (None, row[0]):
            return None
        owner, started, model, request, mixture, continues, outcome = row
        body, table = json.loads(zlib.decompress(request)), json.loads(mixture) if mixture else None
        return Kept(Begun(run, owner, started, model, body, table, continues), outcome, self.lines(run))

    def lines(self, run: str) -> list[bytes]:
        """The lines of its events."""
        pieces = self._file.execute(
            "SELECT lines FROM run_lines JOIN runs USING (number) WHERE run = ? ORDER BY first", (run,)
        ).fetchall()
        return [line for (piece,) in pieces for line in zlib.decompress(piece).split(b"\n")]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _statements(change: Change) -> list[tuple[str, tuple[Any, ...]]]:
    match change:
        case Begun():
            told = (change.run, change.owner, change.started, change.model, change.continues, change.question)
            mixture = None if change.mixture is None else json.dumps(change.mixture)
            statement = (
                "INSERT INTO runs (run, owner, started, outcome, model, continues, question) "
                "VALUES (?, ?, ?, 'running', ?, ?, ?)"
            )
            request = zlib.compress(json.dumps(change.request).encode(), 1)
            return [
                (statement, tuple(_clean(value) for value in told)),
                ("INSERT INTO run_requests VALUES (last_insert_rowid(), ?, ?)", (request, mixture)),
            ]
        case Told():
            lines = zlib.compress(b"\n".join(change.lines), 1)
            statement = "INSERT INTO run_lines SELECT number, ?, ? FROM runs WHERE run = ?"
            return [(statement, (change.first, lines, change.run))]
        case Ended():
            answer = change.answer
            statement = (
                "UPDATE runs SET outcome = ?, answer = ?, cost = ?, cost_is_at_least = ?, duration = ?, "
                "time_to_first_token = ?, tokens = ? WHERE run = ?"
            )
            figures = (answer.duration, answer.time_to_first_token, answer.usage.total_tokens)
            cost = (answer.cost.dollars, answer.cost.at_least)
            return [(statement, (change.outcome, _clean(answer.text), *cost, *figures, change.run))]


def _row(*columns: Any) -> Row:
    number, run, started, outcome, model, question, answer, dollars, at_least, duration, first, tokens, continues = (
        columns
    )
    cost = Cost(dollars, bool(at_least))
    return Row(number, run, started, outcome, model, question, answer, cost, duration, first, tokens, continues)


def _clean(value: Any) -> Any:
    """Text that SQLite takes: half of a character pair, which servers that cut strings anywhere send, is replaced."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
