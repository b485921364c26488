"""How many saved runs a store keeps, for how long, and in how many bytes; and which runs go when there are more."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

from moa.store.processes import DEAD_AFTER, clock

BYTES_KEPT = 2 * 2**30
"""Bytes of disk that the store of a server may take, unless its operator says otherwise."""

LINGERING = 86400.0
"""Seconds for which a run without an end is spared where no process is known to run it: an older version may run it."""

AT_ONCE = 200
"""Runs that one sweep deletes at most, since it locks the file; the next sweep deletes more."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a store keeps.

    Attributes:
        runs: how many.
        bytes: of disk that the store may use, without the space that deleted runs leave; None sets no bound.
        days: for which a run is kept; None sets no bound.
    """

    runs: int = 10_000
    bytes: int | None = None
    days: float | None = None


def used_bytes(file: sqlite3.Connection) -> int:
    """Bytes that a file's content takes. Space of deleted runs is used again, and does not count."""
    pages, free, size = (
        file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def sweep(file: sqlite3.Connection, bounds: Bounds, process: str) -> None:
    """Delete the runs beyond the bounds, the oldest first; never a run in flight. Call it in a transaction.

    Args:
        process: this process, whose runs are in flight.
    """
    oldest = (
        "SELECT number FROM runs LEFT JOIN run_processes USING (number) WHERE {} "
        "AND NOT (run_processes.process IS NOT NULL AND (run_processes.process = :process OR beat BETWEEN :fresh AND :now)) "
        "AND NOT (outcome = 'running' AND run_processes.process IS NULL AND started > :lingering) "
        f"ORDER BY number LIMIT {AT_ONCE}"
    )
    now, today = clock(), time.time()
    values = {
        "process": process,
        "fresh": now - DEAD_AFTER,
        "now": now,
        "lingering": today - LINGERING,
        "runs": bounds.runs,
        "before": today - (bounds.days or 0) * 86400,
    }
    beyond = "number <= (SELECT number FROM runs ORDER BY number DESC LIMIT 1 OFFSET :runs)"
    if bounds.days is not None:
        beyond = f"(started < :before OR {beyond})"
    file.execute(f"DELETE FROM runs WHERE number IN ({oldest.format(beyond)})", values)
    if bounds.bytes is None or used_bytes(file) <= bounds.bytes:
        return
    for (number,) in file.execute(oldest.format("1"), values).fetchall():
        file.execute("DELETE FROM runs WHERE number = ?", (number,))
        if used_bytes(file) <= bounds.bytes:
            return
