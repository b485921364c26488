"""The proposals of each turn, reused while the turn's tool calls continue, also by other processes."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from moa.answers import Reference
from moa.closing import Closing
from moa.errors import ConfigError
from moa.mixture.events import AnswerBegan
from moa.store.file import is_locked, is_passing, opened

SCHEMA = """
CREATE TABLE IF NOT EXISTS proposals (turn TEXT PRIMARY KEY, at REAL NOT NULL, "references" TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS proposals_at ON proposals (at);
"""

KEEP = "INSERT OR REPLACE INTO proposals VALUES (?, ?, ?)"

LONGEST_WAIT = 15.0
"""Seconds to wait for a locked file. Turns that cannot be written stay in memory, and are written with a later one."""

DAYS_KEPT = 7
TURNS_IN_MEMORY = 1000
TURNS_BETWEEN_SWEEPS = 256

log = logging.getLogger("moa.server")


class Turns(Closing):
    """A :class:`~moa.mixture.memory.Memory` of turns in the run store's file.

    Turns are kept for :data:`DAYS_KEPT` days; in memory, at most :data:`TURNS_IN_MEMORY`. While another process has locked
    the file, a thread waits to write, and what it has not written is recalled from memory.

    Args:
        path: the file, created if it is missing; None keeps everything in memory.

    Raises:
        ConfigError: the file cannot be opened, or is not a run store.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._since_sweep = path, 0
        self._unsaved: dict[str, str] = {}
        self._thread = ThreadPoolExecutor(1, "moa-turns")
        self._file = opened(path, self._prepare)

    def _prepare(self, file: sqlite3.Connection) -> None:
        self._file = file
        file.executescript(SCHEMA)
        self._sweep()
        file.execute("PRAGMA busy_timeout = 0")  # from here on, waiting would block an event loop

    def recall(self, turn: str) -> tuple[Reference, ...] | None:
        """The proposals of a turn; None where there are none, or where the file cannot be read, which is logged."""
        if kept := self._unsaved.get(turn):
            return _references(kept)
        try:
            row = self._file.execute('SELECT "references" FROM proposals WHERE turn = ?', (turn,)).fetchone()
            return _references(row[0]) if row else None
        except (sqlite3.Error, ValueError, TypeError) as error:  # the others: its text is damaged
            # Calling the proposers again costs money; no answer costs more.
            log.error("the run store cannot be read: %s", error)
            return None

    def keep(self, turn: str, references: Sequence[Reference]) -> None:
        """Keep the proposals of a turn. A failure to write is logged: the run that made them continues."""
        kept = json.dumps([asdict(reference) for reference in references])
        try:
            self._file.execute(KEEP, (turn, time.time(), kept))
            self._since_sweep += 1
            if self._since_sweep >= TURNS_BETWEEN_SWEEPS:
                self._sweep()
        except sqlite3.Error as error:
            if not is_locked(error):
                log.error("the run store cannot be written: %s", error)
            if not is_passing(error):
                return
            self._unsaved[turn] = kept
            if len(self._unsaved) > TURNS_IN_MEMORY:
                self._unsaved.pop(next(iter(self._unsaved)), None)
        if self._unsaved:
            self._thread.submit(self._save)

    def _save(self) -> None:
        """Wait until the file can be written, and write what is unsaved."""
        turns = dict(self._unsaved)
        try:
            if turns and self._path:
                with closing(opened(self._path, lambda file: None)) as file:
                    file.execute(f"PRAGMA busy_timeout = {LONGEST_WAIT * 1000:.0f}")
                    for turn, kept in turns.items():
                        file.execute(KEEP, (turn, time.time(), kept))
        except (sqlite3.Error, ConfigError) as error:
            log.error("the run store cannot be written: %s", error)
            return
        for turn, kept in turns.items():
            if self._unsaved.get(turn) == kept:
                del self._unsaved[turn]

    def _sweep(self) -> None:
        """Delete old turns; in memory, all but the most recent."""
        self._since_sweep = 0
        self._file.execute("DELETE FROM proposals WHERE at < ?", (time.time() - DAYS_KEPT * 86400,))
        if self._path is None:
            oldest = "SELECT at FROM proposals ORDER BY at DESC LIMIT 1 OFFSET ?"
            self._file.execute(f"DELETE FROM proposals WHERE at <= ({oldest})", (TURNS_IN_MEMORY,))

    def close(self) -> None:
        self._thread.shutdown()
        self._file.close()


def forget(file: sqlite3.Connection, runs: Iterable[AnswerBegan]) -> None:
    """Delete the turns of runs from a file, which may have no table of turns. Part of the caller's transaction.

    Runs of older versions do not name their turn, so theirs is found by its proposals.
    """
    if not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'proposals'").fetchone():
        return
    for run in runs:
        turns = [run.turn] if run.turn else _turns_with(file, run.references)
        file.executemany("DELETE FROM proposals WHERE turn = ?", [(turn,) for turn in turns])


def _turns_with(file: sqlite3.Connection, references: tuple[Reference, ...]) -> list[str]:
    rows = file.execute('SELECT turn, "references" FROM proposals')
    return [turn for turn, kept in rows if _references(kept) == references]


def _references(kept: str) -> tuple[Reference, ...]:
    return tuple(Reference(**each) for each in json.loads(kept))
