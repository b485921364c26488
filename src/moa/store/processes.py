"""The processes that share a store: which of them runs a run, whether it is alive, and what the others want of it.

A row of ``run_processes`` says that a process runs this run, or that it continues it. It holds the process's heartbeat.
A process whose heartbeat is older than :data:`DEAD_AFTER` is gone, and its runs are broken off; on the same machine, and in
the same container, its number tells that at once. Other processes write their wishes into the row: to stop the run, and to
write its lines at once because somebody follows it elsewhere.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS run_processes (
    number INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE, process TEXT NOT NULL, beat REAL NOT NULL,
    stop INTEGER NOT NULL DEFAULT 0, followed REAL NOT NULL DEFAULT 0
);
"""

BEAT = 2.0
"""Seconds between two heartbeats."""

DEAD_AFTER = 10.0
"""Seconds without a heartbeat after which a process is gone."""

FOLLOWED_FOR = 5.0
"""Seconds for which the wish to follow a run holds; a follower renews it."""

clock = time.monotonic
"""Seconds since the machine started, the same in all its processes. The time of day may jump, and would end every run."""


def new_process() -> str:
    """The ID of a process: where its number is valid, the number, and something random."""
    return f"{_numbers_valid_in()}/{os.getpid()}/{uuid.uuid4().hex}"


@cache
def _numbers_valid_in() -> str:
    """The machine, until it restarts, and the container: within these, each number belongs to one process."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return platform.node()


def has_exited(process: str) -> bool:
    """Whether a process is certainly gone: its number is valid here, and is nobody's."""
    place, number, _ = process.rsplit("/", 2)
    if os.name != "posix" or place != _numbers_valid_in():
        return False
    try:
        os.kill(int(number), 0)  # sends nothing
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's process
    return False


@dataclass(frozen=True, slots=True)
class Wishes:
    """What other processes want of this one: runs to stop, and runs that are followed elsewhere."""

    stop: Collection[str]
    followed: Collection[str]


class Processes:
    """The rows of one file, as one process sees them.

    Args:
        file: a connection to the store.
        process: this process's ID.
    """

    def __init__(self, file: sqlite3.Connection, process: str) -> None:
        self._file, self._process = file, process

    # -- of this process's own runs ----------------------------------------------------------------------------------

    def beat(self) -> None:
        """Renew the heartbeat of all runs of this process."""
        self._file.execute("UPDATE run_processes SET beat = ? WHERE process = ?", (clock(), self._process))

    def wishes(self) -> Wishes:
        """What other processes want of this one now."""
        rows = self._file.execute(
            "SELECT run, stop, followed FROM run_processes JOIN runs USING (number) "
            "WHERE process = ? AND (stop OR followed > ?)",
            (self._process, clock()),
        ).fetchall()
        return Wishes([run for run, stop, _ in rows if stop], [run for run, stop, _ in rows if not stop])

    # -- of any run --------------------------------------------------------------------------------------------------

    def outcome(self, outcome: str, process: str | None, beat: float | None) -> str:
        """The outcome of a run, given the stored one: a run without an end whose process is gone was ``broken off``."""
        if outcome != "running" or self._is_alive(process, beat):
            return outcome
        if process is None or has_exited(process) or not self._is_locked():
            return "broken off"
        return outcome

    def _is_alive(self, process: str | None, beat: float | None) -> bool:
        if process is None or beat is None:  # a process of an older version, or none
            return False
        return process == self._process or (0 <= clock() - beat < DEAD_AFTER and not has_exited(process))

    def _is_locked(self) -> bool:
        """Whether nobody can write the file now. Then an old heartbeat says nothing."""
        if self._file.in_transaction:
            return False
        wait = self._file.execute("PRAGMA busy_timeout").fetchone()[0]
        self._file.execute("PRAGMA busy_timeout = 0")
        try:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            return error.sqlite_errorcode == sqlite3.SQLITE_BUSY
        finally:
            self._file.execute(f"PRAGMA busy_timeout = {wait}")
        return False

    def claim(self, run: str) -> bool:
        """Become the process that continues a run. False while another one runs or continues it, or this one does.

        Call it in a transaction that holds the file's lock, so that of several processes one succeeds.
        """
        row = self._file.execute(
            "SELECT number, process, beat FROM runs LEFT JOIN run_processes USING (number) WHERE run = ?", (run,)
        ).fetchone()
        if row is None or self._is_alive(*row[1:]):
            return False
        self._file.execute(
            "INSERT OR REPLACE INTO run_processes (number, process, beat) VALUES (?, ?, ?)",
            (row[0], self._process, clock()),
        )
        self._file.execute("UPDATE runs SET outcome = 'broken off' WHERE run = ? AND outcome = 'running'", (run,))
        return True

    def release(self, run: str) -> None:
        """Give up a claim."""
        of_run = "number = (SELECT number FROM runs WHERE run = ?)"
        self._file.execute(f"DELETE FROM run_processes WHERE {of_run} AND process = ?", (run, self._process))

    def ask_to_stop(self, run: str) -> None:
        """Ask the process that runs this run to stop it."""
        self._ask("stop = 1", run)

    def ask_to_follow(self, run: str) -> None:
        """Ask the process that runs this run to write its lines at once, for :data:`FOLLOWED_FOR` seconds."""
        self._ask(f"followed = {clock() + FOLLOWED_FOR}", run)

    def _ask(self, wish: str, run: str) -> None:
        self._file.execute(
            f"UPDATE run_processes SET {wish} WHERE number = (SELECT number FROM runs WHERE run = ?)", (run,)
        )
