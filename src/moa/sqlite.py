"""Opening a SQLite file: readable by its owner alone, with a write-ahead log, marked with the kind of its content."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path


class WrongKind(ValueError):
    """The file is a SQLite file of another kind."""


def opened(path: Path | None, mark: bytes, *, wait: float, adopt: bool = False) -> sqlite3.Connection:
    """A connection to a file, in autocommit mode, for use by one thread at a time. None opens a database in memory.

    The file and the directories above it are created if they are missing.

    Args:
        mark: four bytes, SQLite's application ID, which distinguishes this kind of file from others.
        wait: seconds to wait for another process that has locked the file.
        adopt: whether to accept a file that has tables but no mark, and to mark it: older versions set none.

    Raises:
        WrongKind: the file has another mark, or tables and no mark.
        OSError, sqlite3.Error: the file cannot be opened, or is not a SQLite file.
    """
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite would create a file that everybody can read. Its -wal and -shm files get the mode of this one. A file that
        # exists is not opened here: closing it would release the locks of this process's other connections, and another
        # process could then delete the log they write to. https://www.sqlite.org/howtocorrupt.html (2.2)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    file = sqlite3.connect(path or ":memory:", timeout=wait, isolation_level=None, check_same_thread=False)
    try:
        # The mark first: when several processes create a file at once, none sees tables without a mark.
        _mark(file, int.from_bytes(mark, "big"), adopt)
        _write_ahead(file, wait)
        file.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        file.close()
        raise
    return file


def _mark(file: sqlite3.Connection, mark: int, adopt: bool) -> None:
    tables = file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    found = file.execute("PRAGMA application_id").fetchone()[0]
    if found == mark:
        return
    if found or (tables and not adopt):
        raise WrongKind("it is a SQLite file of another kind")
    file.execute(f"PRAGMA application_id = {mark}")


def _write_ahead(file: sqlite3.Connection, wait: float) -> None:
    """Switch to WAL. SQLite's own timeout does not cover this statement, so it is retried for as long."""
    until = time.monotonic() + wait
    while True:
        try:
            file.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return
