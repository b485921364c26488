"""Files of callers, and their batches: the SQLite file beside the run store's, which a restart of the server survives.

Notable decisions:
- A file is stored in pieces, so that neither an upload nor a download is in memory as a whole.
- An answered row of a batch is on disk before it counts. The files of answers are made of these rows in one transaction,
  with the batch's last status.
- Deleted text is overwritten, in the file and in its write-ahead log.
- The methods block. One thread at a time may use a shelf.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from moa.closing import Closing
from moa.errors import ConfigError
from moa.sqlite import WrongKind, opened
from moa.store.batches import SCHEMA as BATCHES
from moa.store.batches import Batches

PIECE = 2**20
"""Bytes of a stored piece of a file."""

MONTH = 30 * 86400.0
"""Seconds for which files and batches are kept, as OpenAI keeps files of batches."""

_MARK = b"moaF"
_WAIT = 5.0
_FILES = """
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, filename TEXT NOT NULL,
    purpose TEXT NOT NULL, bytes INTEGER NOT NULL, created REAL NOT NULL, expires REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS files_by_owner ON files (owner, number);
CREATE TABLE IF NOT EXISTS file_pieces (
    file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE, place INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (file, place)
);
"""
_COLUMNS = "number, id, filename, purpose, bytes, created, expires"


class StoredFile(msgspec.Struct, frozen=True):
    """A file: ``created`` and ``expires`` in seconds since 1970, ``purpose`` is ``batch`` or ``batch_output``."""

    number: int
    id: str
    filename: str
    purpose: str
    bytes: int
    created: float
    expires: float


class Shelf(Closing):
    """The files and the batches of a SQLite file.

    Args:
        path: the file, created if it is missing.
        days: for which files and batches are kept at most; None: 30.

    Attributes:
        batches: the batches.

    Raises:
        ConfigError: the file cannot be opened, or is of another kind.
    """

    def __init__(self, path: Path, *, days: float | None = None) -> None:
        self._longest = MONTH if days is None else min(MONTH, days * 86400)
        try:
            self._file = opened(path, _MARK, wait=_WAIT)
            self._file.execute("PRAGMA secure_delete = ON")
            self._file.execute("PRAGMA foreign_keys = ON")
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.executescript(_FILES + BATCHES)
        except (OSError, sqlite3.Error, WrongKind) as error:
            raise ConfigError(f"the store of files {str(path)!r} cannot be used: {error}") from None
        self.batches = Batches(self._file, self.transaction)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes inside, or none of them.

        Raises:
            sqlite3.Error: the file is locked, full or damaged; nothing was changed.
        """
        self._file.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._file.execute("COMMIT")
        except BaseException:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            raise

    def add(
        self, owner: str, filename: str, purpose: str, pieces: Iterable[bytes], seconds: float | None = None
    ) -> StoredFile:
        """Store a file, which expires after so many seconds; None: after the longest time."""
        with self.transaction():
            return self._added(owner, filename, purpose, pieces, seconds)

    def _added(
        self, owner: str, filename: str, purpose: str, pieces: Iterable[bytes], seconds: float | None
    ) -> StoredFile:
        now, name = time.time(), f"file-{uuid.uuid4().hex[:24]}"
        until = now + min(self._longest, seconds or self._longest)
        number = self._file.execute(
            "INSERT INTO files (id, owner, filename, purpose, bytes, created, expires) VALUES (?, ?, ?, ?, 0, ?, ?)",
            (name, owner, filename, purpose, now, until),
        ).lastrowid
        assert number
        size = 0
        for place, piece in enumerate(pieces):
            size += len(piece)
            self._file.execute("INSERT INTO file_pieces VALUES (?, ?, ?)", (number, place, piece))
        self._file.execute("UPDATE files SET bytes = ? WHERE number = ?", (size, number))
        return StoredFile(number, name, filename, purpose, size, now, until)

    def file(self, name: str, owner: str) -> StoredFile | None:
        """An owner's file; None if there is none."""
        row = self._file.execute(
            f"SELECT {_COLUMNS} FROM files WHERE id = ? AND owner = ? AND expires > ?", (name, owner, time.time())
        ).fetchone()
        return StoredFile(*row) if row else None

    def files(
        self, owner: str, *, purpose: str | None, after: str | None, limit: int, ascending: bool
    ) -> list[StoredFile]:
        """An owner's files, the latest first; those after the file with this ID."""
        sign, order = (">", "ASC") if ascending else ("<", "DESC")
        rows = self._file.execute(
            f"SELECT {_COLUMNS} FROM files WHERE owner = :owner AND expires > :now "
            "AND (:purpose IS NULL OR purpose = :purpose) AND (:after IS NULL OR number "
            f"{sign} (SELECT number FROM files WHERE id = :after)) ORDER BY number {order} LIMIT :limit",
            {"owner": owner, "now": time.time(), "purpose": purpose, "after": after, "limit": limit},
        )
        return [StoredFile(*row) for row in rows]

    def number_of(self, name: str) -> int:
        """The number of a file, which may have expired meanwhile; 0 where there is none."""
        row = self._file.execute("SELECT number FROM files WHERE id = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def piece(self, file: int, place: int) -> bytes:
        """A piece of a file; empty after the last one."""
        row = self._file.execute("SELECT data FROM file_pieces WHERE file = ? AND place = ?", (file, place)).fetchone()
        return bytes(row[0]) if row else b""

    def bytes(self) -> int:
        """Bytes of all files together."""
        return int(self._file.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()[0])

    def delete(self, name: str) -> None:
        """Delete a file. Its text is overwritten."""
        with self.transaction():
            self._file.execute("DELETE FROM files WHERE id = ?", (name,))
        self._wipe()

    def end(self, batch: str, status: str) -> None:
        """End a batch: its answers become its files, and its status is this one."""
        with self.transaction():
            ended = self.batches.of_id(batch)
            for failed, field in ((False, "output_file"), (True, "error_file")):
                lines = self.batches.lines(batch, failed=failed)
                if (first := next(lines, None)) is not None:
                    filename = f"{batch}_{'error' if failed else 'output'}.jsonl"
                    pieces = _pieces(first, lines)
                    file = self._added(ended.owner, filename, "batch_output", pieces, ended.output_seconds)
                    setattr(ended, field, file.id)
            ended.status = status
            ended.times[status] = time.time()
            self.batches.save(ended)
            self.batches.forget_rows(batch)
        self._wipe()

    def sweep(self) -> None:
        """Delete the files that have expired, and old batches that have ended."""
        now = time.time()
        with self.transaction():
            expired = self._file.execute(
                "DELETE FROM files WHERE expires <= ? AND id NOT IN (SELECT input_file FROM batches WHERE NOT ended)",
                (now,),
            ).rowcount
            expired += self.batches.delete_before(now - self._longest)
        if expired:
            self._wipe()

    def _wipe(self) -> None:
        """Empty the write-ahead log, which still holds deleted text."""
        self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        self._file.close()


def _pieces(first: bytes, lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines as pieces of a file."""
    held, size = [first], len(first)
    for line in lines:
        if size >= PIECE:
            yield b"".join(held)
            held, size = [], 0
        held.append(line)
        size += len(line)
    yield b"".join(held)
