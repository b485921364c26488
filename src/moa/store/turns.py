"""What outlives a run, in one SQLite file that several processes may share: turns' proposals, and what each key has used.

Message text is in this file and nowhere else; only its owner can read it, and what is deleted is overwritten. Without a path
it is all kept in memory. :mod:`moa.store.archive` keeps whole runs in the same file.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from moa.errors import ConfigError
from moa.messages import Reference

SCHEMA = """
CREATE TABLE IF NOT EXISTS proposals (turn TEXT PRIMARY KEY, at REAL NOT NULL, "references" TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS proposals_at ON proposals (at);
CREATE TABLE IF NOT EXISTS spending (name TEXT, day TEXT, dollars REAL NOT NULL, PRIMARY KEY (name, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (name TEXT PRIMARY KEY, minute INTEGER, count INTEGER NOT NULL) WITHOUT ROWID;
"""

DAYS_KEPT = 7
TURNS_IN_MEMORY = 1000
TURNS_BETWEEN_SWEEPS = 256

log = logging.getLogger("moa.server")


class RunStore:
    """The file. A :class:`~moa.mixture.memory.Memory` of turns, and a ledger of keys.

    Args:
        path: the file, made if it is not there, readable by its owner alone; None keeps all in memory.

    Raises:
        ConfigError: the file cannot be opened, or is no such file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._in_memory, self._since_sweep = path is None, 0
        self._file = opened(path, self._prepare)

    def _prepare(self, file: sqlite3.Connection) -> None:
        self._file = file
        file.executescript(SCHEMA)
        self._sweep()
        file.execute("PRAGMA busy_timeout = 1000")  # milliseconds; from here on an event loop would wait

    def recall(self, turn: str) -> tuple[Reference, ...] | None:
        try:
            row = self._file.execute('SELECT "references" FROM proposals WHERE turn = ?', (turn,)).fetchone()
        except sqlite3.Error as error:
            # Asking the proposers again costs money; no answer costs more.
            log.error("the run store cannot be read: %s", error)
            return None
        return tuple(Reference(**each) for each in json.loads(row[0])) if row else None

    def keep(self, turn: str, references: Sequence[Reference]) -> None:
        kept = json.dumps([asdict(reference) for reference in references])
        try:
            self._file.execute("INSERT OR REPLACE INTO proposals VALUES (?, ?, ?)", (turn, time.time(), kept))
            self._since_sweep += 1
            if self._since_sweep >= TURNS_BETWEEN_SWEEPS:
                self._sweep()
        except sqlite3.Error as error:
            log.error("the run store cannot be written: %s", error)

    def _sweep(self) -> None:
        """Forget old turns; without a file, all but the most recent."""
        self._since_sweep = 0
        self._file.execute("DELETE FROM proposals WHERE at < ?", (time.time() - DAYS_KEPT * 86400,))
        if self._in_memory:
            oldest = "SELECT at FROM proposals ORDER BY at DESC LIMIT 1 OFFSET ?"
            self._file.execute(f"DELETE FROM proposals WHERE at <= ({oldest})", (TURNS_IN_MEMORY,))

    def count_request(self, name: str, limit: int, now: float | None = None) -> float:
        """Count a request of a key. Gives 0 where it is within ``limit`` a minute, else the seconds until it would be."""
        now = time.time() if now is None else now
        minute = int(now // 60)
        row = self._file.execute(
            "INSERT INTO requests VALUES (?, ?, 1) ON CONFLICT (name) DO UPDATE SET "
            "count = CASE WHEN minute = excluded.minute THEN count + 1 ELSE 1 END, minute = excluded.minute RETURNING count",
            (name, minute),
        ).fetchone()
        return 0.0 if row[0] <= limit else (minute + 1) * 60 - now

    def spend(self, name: str, dollars: float, now: float | None = None) -> None:
        """Add to what a key has spent today (UTC)."""
        try:
            self._file.execute(
                "INSERT INTO spending VALUES (?, ?, ?) "
                "ON CONFLICT (name, day) DO UPDATE SET dollars = dollars + excluded.dollars",
                (name, _day(now), dollars),
            )
        except sqlite3.Error as error:
            # The answer has been paid for: it is given out, and the operator told.
            log.error("the run store cannot be written, and $%g of key %s is not in it: %s", dollars, name, error)

    def spent(self, name: str, now: float | None = None) -> float:
        """US dollars that a key has spent today (UTC)."""
        row = self._file.execute(
            "SELECT dollars FROM spending WHERE name = ? AND day = ?", (name, _day(now))
        ).fetchone()
        return float(row[0]) if row else 0.0

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def opened(path: Path | None, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """A connection to the file, made if it is not there, or to memory; ``prepare`` is given it first.

    Raises:
        ConfigError: the file cannot be opened or prepared, or is no such file.
    """
    try:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        file = sqlite3.connect(path or ":memory:", timeout=5, isolation_level=None, check_same_thread=False)
        try:
            _write_ahead(file)
            file.execute("PRAGMA synchronous = NORMAL")
            file.execute("PRAGMA secure_delete = ON")
            prepare(file)
        except BaseException:
            file.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"the run store {str(path)!r} cannot be used: {error}") from None
    return file


def _write_ahead(file: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait its turn for this, as it does for all else, so it is tried again."""
    until = time.monotonic() + 5
    while True:
        try:
            file.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def store_place() -> Path:
    """Where the file is when nobody says otherwise."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "moa" / "runs.sqlite"


def _day(now: float | None) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() if now is None else now))
