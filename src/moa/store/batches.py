"""Batches of callers, and the rows of them that are answered.

A batch is run by one process, which renews its heartbeat. Where that process is gone, another one takes the batch; see
:mod:`moa.store.processes`. Any process may wish a batch cancelled; the one that runs it sees the wish at its next heartbeat.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from moa.store.processes import DEAD_AFTER, clock, has_exited

SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, input_file TEXT NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, cancelled REAL, process TEXT, beat REAL,
    completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
    input_tokens INTEGER NOT NULL DEFAULT 0, cached_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0, reasoning_tokens INTEGER NOT NULL DEFAULT 0, record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS batches_by_owner ON batches (owner, number);
CREATE INDEX IF NOT EXISTS batches_in_progress ON batches (number) WHERE NOT ended;
CREATE TABLE IF NOT EXISTS batch_answers (
    batch TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE, number INTEGER NOT NULL, failed INTEGER NOT NULL,
    line BLOB NOT NULL, PRIMARY KEY (batch, number)
);
CREATE TABLE IF NOT EXISTS batch_proposals (
    batch TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE, number INTEGER NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY (batch, number)
);
"""

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""Statuses that stay. https://platform.openai.com/docs/guides/batch"""


class Usage(msgspec.Struct, frozen=True):
    """The tokens of a batch's answers so far, as the answers' ``usage`` has them."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class Batch(msgspec.Struct, omit_defaults=True):
    """A batch.

    Attributes:
        window: as the caller wrote it; ``expires`` follows from it.
        status: as in OpenAI's API.
        times: by status, when the batch came to it; seconds since 1970, as all times here.
        errors: of a batch that has failed: ``code``, ``line``, ``message``, ``param``.
        output_seconds: after which its files expire; None: after the longest time.
        total: rows.
        model: where all rows have the same.
        completed, failed, usage: of the answered rows.
        cancelled: when a caller wished it cancelled.
    """

    id: str
    owner: str
    input_file: str
    endpoint: str
    window: str
    created: float
    expires: float
    status: str = "validating"
    metadata: dict[str, str] | None = None
    times: dict[str, float] = {}
    errors: list[dict[str, Any]] = []
    output_file: str | None = None
    error_file: str | None = None
    output_seconds: float | None = None
    total: int = 0
    model: str | None = None
    completed: int = 0
    failed: int = 0
    usage: Usage = Usage()
    cancelled: float | None = None


_COLUMNS = "record, completed, failed, input_tokens, cached_tokens, output_tokens, reasoning_tokens, cancelled"
_READ = f"SELECT {_COLUMNS} FROM batches"


class Batches:
    """The batches of a file; see :class:`~moa.store.shelf.Shelf`, which gives the connection and its transactions."""

    def __init__(self, file: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]]) -> None:
        self._file, self._transaction = file, transaction

    def add(
        self,
        owner: str,
        input_file: str,
        endpoint: str,
        window: str,
        seconds: float,
        metadata: Mapping[str, str] | None,
        output_seconds: float | None,
    ) -> Batch:
        """A new batch, which expires after so many seconds."""
        now = time.time()
        batch = Batch(
            f"batch_{uuid.uuid4().hex}",
            *(owner, input_file, endpoint, window, now, now + seconds),
            metadata=dict(metadata) if metadata is not None else None,
            output_seconds=output_seconds,
        )
        self._file.execute(
            "INSERT INTO batches (id, owner, input_file, created, record) VALUES (?, ?, ?, ?, ?)",
            (batch.id, owner, input_file, now, msgspec.json.encode(batch)),
        )
        return batch

    def of_id(self, batch: str) -> Batch:
        """The batch with this ID, which there must be."""
        return _batch(self._file.execute(f"{_READ} WHERE id = ?", (batch,)).fetchone())

    def find(self, batch: str, owner: str) -> Batch | None:
        """An owner's batch; None if there is none."""
        row = self._file.execute(f"{_READ} WHERE id = ? AND owner = ?", (batch, owner)).fetchone()
        return _batch(row) if row else None

    def rows(self, owner: str, *, after: str | None, limit: int) -> list[Batch]:
        """An owner's batches, the latest first; those after the batch with this ID."""
        rows = self._file.execute(
            f"{_READ} WHERE owner = :owner AND (:after IS NULL OR number < (SELECT number FROM batches WHERE id = :after)) "
            "ORDER BY number DESC LIMIT :limit",
            {"owner": owner, "after": after, "limit": limit},
        )
        return [_batch(row) for row in rows]

    def of_input(self, file: str) -> str | None:
        """A batch in progress that reads this file; None if there is none."""
        row = self._file.execute("SELECT id FROM batches WHERE input_file = ? AND NOT ended", (file,)).fetchone()
        return str(row[0]) if row else None

    def cancel(self, batch: str) -> None:
        """Wish a batch cancelled."""
        self._file.execute(
            "UPDATE batches SET cancelled = ? WHERE id = ? AND cancelled IS NULL AND NOT ended", (time.time(), batch)
        )

    # -- of the process that runs it ---------------------------------------------------------------------------------

    def claim(self, process: str, held: Collection[str], owners: Callable[[str], bool]) -> list[Batch]:
        """The batches in progress that no living process runs, which this one runs from now on.

        Args:
            held: those that it runs already.
            owners: whether this process runs the batches of an owner.
        """
        claimed = list[Batch]()
        with self._transaction():
            rows = self._file.execute("SELECT id, owner, process, beat FROM batches WHERE NOT ended ORDER BY number")
            for name, owner, other, beat in rows.fetchall():
                free = other in (None, process) or not 0 <= clock() - (beat or 0) < DEAD_AFTER or has_exited(other)
                if free and name not in held and owners(owner):
                    self._file.execute(
                        "UPDATE batches SET process = ?, beat = ? WHERE id = ?", (process, clock(), name)
                    )
                    claimed.append(self.of_id(name))
        return claimed

    def beat(self, process: str) -> list[str]:
        """Renew the heartbeat of this process's batches. Gives those that are to be cancelled."""
        self._file.execute("UPDATE batches SET beat = ? WHERE process = ? AND NOT ended", (clock(), process))
        rows = self._file.execute(
            "SELECT id FROM batches WHERE process = ? AND NOT ended AND cancelled IS NOT NULL", (process,)
        )
        return [name for (name,) in rows.fetchall()]

    def release(self, batch: str) -> None:
        """Leave a batch to other processes."""
        self._file.execute("UPDATE batches SET process = NULL WHERE id = ?", (batch,))

    def save(self, batch: Batch) -> None:
        """Write a batch's status, times, errors and files."""
        self._file.execute(
            "UPDATE batches SET record = ?, ended = ? WHERE id = ?",
            (msgspec.json.encode(batch), batch.status in ENDED, batch.id),
        )

    def answer(self, batch: str, number: int, line: bytes, usage: Usage, *, failed: bool) -> None:
        """A row is answered; its proposals are not needed any more."""
        with self._transaction():
            self._file.execute("INSERT INTO batch_answers VALUES (?, ?, ?, ?)", (batch, number, failed, line))
            self._file.execute("DELETE FROM batch_proposals WHERE batch = ? AND number = ?", (batch, number))
            self._file.execute(
                "UPDATE batches SET completed = completed + ?, failed = failed + ?, input_tokens = input_tokens + ?, "
                "cached_tokens = cached_tokens + ?, output_tokens = output_tokens + ?, "
                "reasoning_tokens = reasoning_tokens + ? WHERE id = ?",
                (not failed, failed, *msgspec.structs.astuple(usage), batch),
            )

    def answered(self, batch: str) -> set[int]:
        """The numbers of the answered rows."""
        rows = self._file.execute("SELECT number FROM batch_answers WHERE batch = ?", (batch,))
        return {number for (number,) in rows}

    def lines(self, batch: str, *, failed: bool) -> Iterator[bytes]:
        """The lines of the answered rows in the order of the input, with their line breaks."""
        rows = self._file.execute(
            "SELECT line FROM batch_answers WHERE batch = ? AND failed = ? ORDER BY number", (batch, failed)
        )
        return (line + b"\n" for (line,) in rows)

    def keep(self, batch: str, number: int, record: bytes) -> None:
        """Keep the proposals of a row that is not answered yet. They are on the disk with the next answer, and survive the
        process at once: the disk is slow."""
        self._file.execute("PRAGMA synchronous = NORMAL")
        self._file.execute("INSERT OR REPLACE INTO batch_proposals VALUES (?, ?, ?)", (batch, number, record))
        self._file.execute("PRAGMA synchronous = FULL")

    def kept(self, batch: str, number: int) -> bytes | None:
        """The kept proposals of a row."""
        row = self._file.execute(
            "SELECT record FROM batch_proposals WHERE batch = ? AND number = ?", (batch, number)
        ).fetchone()
        return bytes(row[0]) if row else None

    def forget_rows(self, batch: str) -> None:
        """Delete the answers and proposals of a batch."""
        self._file.execute("DELETE FROM batch_answers WHERE batch = ?", (batch,))
        self._file.execute("DELETE FROM batch_proposals WHERE batch = ?", (batch,))

    def delete_before(self, when: float) -> int:
        """Delete the batches that have ended, and are older than this time. Gives their number."""
        return self._file.execute("DELETE FROM batches WHERE ended AND created < ?", (when,)).rowcount


def _batch(row: tuple[Any, ...]) -> Batch:
    record, completed, failed, *tokens, cancelled = row
    batch = msgspec.json.decode(record, type=Batch)
    batch.completed, batch.failed, batch.usage, batch.cancelled = completed, failed, Usage(*tokens), cancelled
    return batch
