"""What each API key has used: requests in this minute, and US dollars on each day (UTC)."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path

from moa.closing import Closing
from moa.store.file import opened

SCHEMA = """
CREATE TABLE IF NOT EXISTS spending (name TEXT, day TEXT, dollars REAL NOT NULL, PRIMARY KEY (name, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (name TEXT PRIMARY KEY, minute INTEGER, count INTEGER NOT NULL) WITHOUT ROWID;
"""

log = logging.getLogger("moa.server")


class Ledger(Closing):
    """A count of requests and dollars for each key, in the run store's file. Several processes may share it.

    In all methods ``now`` is the time, seconds since 1970; None takes the clock's.

    Args:
        path: the file, created if it is missing; None keeps everything in memory.

    Raises:
        ConfigError: the file cannot be opened, or is not a run store.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = opened(path, self._prepare)

    def _prepare(self, file: sqlite3.Connection) -> None:
        file.executescript(SCHEMA)
        file.execute("PRAGMA busy_timeout = 1000")  # milliseconds; from here on, waiting would block an event loop

    def count_request(self, name: str, limit: int, now: float | None = None) -> float:
        """Count a request of a key. Returns 0 within ``limit`` requests per minute, else the seconds until the next minute.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        now = time.time() if now is None else now
        minute = int(now // 60)
        row = self._file.execute(
            "INSERT INTO requests VALUES (?, ?, 1) ON CONFLICT (name) DO UPDATE SET "
            "count = CASE WHEN minute = excluded.minute THEN count + 1 ELSE 1 END, minute = excluded.minute RETURNING count",
            (name, minute),
        ).fetchone()
        return 0.0 if row[0] <= limit else (minute + 1) * 60 - now

    def spend(self, name: str, dollars: float, now: float | None = None) -> None:
        """Add to the US dollars that a key has spent today (UTC). A failure to write is logged."""
        try:
            self._file.execute(
                "INSERT INTO spending VALUES (?, ?, ?) "
                "ON CONFLICT (name, day) DO UPDATE SET dollars = dollars + excluded.dollars",
                (name, _day(now), dollars),
            )
        except sqlite3.Error as error:
            # The answer has been paid for, so the caller gets it, and the operator a line in the log.
            log.error("the run store cannot be written; $%g spent by key %s is not counted: %s", dollars, name, error)

    def spent(self, name: str, now: float | None = None) -> float:
        """US dollars that a key has spent today (UTC).

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        row = self._file.execute(
            "SELECT dollars FROM spending WHERE name = ? AND day = ?", (name, _day(now))
        ).fetchone()
        return float(row[0]) if row else 0.0

    def close(self) -> None:
        self._file.close()


def _day(now: float | None) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() if now is None else now))
