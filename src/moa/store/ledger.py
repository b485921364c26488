"""What each API key has used and what its requests in flight have reserved, in the run store's file.

Notable decisions:
- A request of a key with a limit is admitted in one transaction, so several processes together keep to the limit.
- A request reserves an estimate of its dollars until it ends. The reservation is a lease, which its process renews, so that
  those of a killed process lapse.
- The clock may jump. Usage from the future counts as usage of now: it was used before, and nothing locks a key out for
  longer than a window.
- The methods block. One thread at a time may use a ledger; :class:`~moa.store.bookings.Bookings` does so for a server.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from moa.closing import Closing
from moa.store.file import opened
from moa.store.window import DAY, MINUTE, Use, Window

SCHEMA = """
CREATE TABLE IF NOT EXISTS spending (name TEXT, day TEXT, dollars REAL NOT NULL, PRIMARY KEY (name, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservations (id TEXT PRIMARY KEY, key TEXT NOT NULL, dollars REAL NOT NULL, until REAL NOT NULL)
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reservations_by_key ON reservations (key);
"""

USAGE = """
CREATE TABLE key_usage (
    key TEXT, window TEXT, slot INTEGER, amount REAL NOT NULL, last REAL NOT NULL, PRIMARY KEY (key, window, slot)
) WITHOUT ROWID;
"""

LEASE = 30.0
"""Seconds after which a reservation lapses that its process has not renewed."""

PATIENCE = 0.25
"""Seconds that a statement waits for a locked file before it fails and is tried again."""

SOON = 2.0
"""Seconds after which a caller should retry whose requests in flight may use the rest of its budget."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that wants to begin.

    Attributes:
        key: the ID of its key.
        requests_per_minute, dollars_per_day: the key's limits.
        dollars: an estimate of its cost.
        at: when it came, seconds since 1970.
    """

    key: str
    requests_per_minute: int | None = None
    dollars_per_day: float | None = None
    dollars: float = 0.0
    at: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True, slots=True)
class OverLimit:
    """Why a request may not begin: ``requests``, ``dollars``, or ``in flight``, where other requests may use the rest.

    Attributes:
        wait: seconds after which it may.
        left: US dollars of the budget that are left.
    """

    limit: str
    wait: float
    left: float = 0.0


class Spent(NamedTuple):
    """US dollars that a key has spent today (UTC), and in total."""

    today: float
    total: float


class Ledger(Closing):
    """The usage of each key, by its ID. Several processes may share it.

    In all methods ``now`` is the time, seconds since 1970; None takes the clock's.

    Args:
        path: the file, created if it is missing; None keeps everything in memory.

    Raises:
        ConfigError: the file cannot be opened, or is not a run store.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = opened(path, self._prepare)

    def _prepare(self, file: sqlite3.Connection) -> None:
        self._file = file
        file.executescript(SCHEMA)
        with self.transaction():
            if not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'key_usage'").fetchone():
                # Older versions counted days in UTC: what they have booked today counts until the day is over.
                file.execute(USAGE)
                now = time.time()
                midnight = now - now % 86400
                file.execute(
                    "INSERT INTO key_usage SELECT name, ?, ?, dollars, ? FROM spending WHERE day = ?",
                    (DAY.name, DAY.slot_of(midnight) - 1, midnight, _day(now)),
                )
        file.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")

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

    def admit(self, claim: Claim, now: float | None = None) -> OverLimit | None:
        """Count a request and reserve its dollars; or, where a limit is reached, change nothing and say which.

        A request whose estimate does not fit is admitted if nothing of its key is in flight and the budget is not spent.
        """
        now = time.time() if now is None else now
        if claim.requests_per_minute is not None:
            wait = MINUTE.wait(self._used(claim.key, MINUTE, now), claim.requests_per_minute - 1, now)
            if wait is not None:
                return OverLimit("requests", wait)
        if claim.dollars_per_day is not None and (over := self._over_budget(claim, claim.dollars_per_day, now)):
            return over
        if claim.requests_per_minute is not None:
            self._count(claim.key, MINUTE, 1, now)
        if claim.dollars_per_day is not None:
            self.renew([claim], now)
        return None

    def _over_budget(self, claim: Claim, budget: float, now: float) -> OverLimit | None:
        used = self._used(claim.key, DAY, now)
        left = budget - math.fsum(use.amount for use in used)
        if left <= 0:
            return OverLimit("dollars", DAY.wait(used, math.nextafter(budget, -1), now) or 0.0)
        reserved, latest = self._reserved(claim.key, now)
        if reserved and reserved + claim.dollars > left:
            return OverLimit("in flight", min(SOON, latest), left)
        return None

    def _reserved(self, key: str, now: float) -> tuple[float, float]:
        """US dollars that a key's requests in flight have reserved, and the seconds until the last of them lapses."""
        rows = self._file.execute("SELECT id, dollars, until FROM reservations WHERE key = ?", (key,)).fetchall()
        for each, _, until in rows:
            if until <= now:
                self._file.execute("DELETE FROM reservations WHERE id = ?", (each,))
            elif until > now + LEASE:  # the clock was set back
                self._file.execute("UPDATE reservations SET until = ? WHERE id = ?", (now + LEASE, each))
        waits = [(dollars, min(until - now, LEASE)) for _, dollars, until in rows if until > now]
        return math.fsum(dollars for dollars, _ in waits), max((wait for _, wait in waits), default=0.0)

    def release(self, claim: Claim) -> None:
        """Undo :meth:`admit`: the request did not run."""
        self._file.execute("DELETE FROM reservations WHERE id = ?", (claim.id,))
        if claim.requests_per_minute is not None:
            self._file.execute(
                "UPDATE key_usage SET amount = max(0, amount - 1) WHERE key = ? AND window = ? AND slot = "
                "(SELECT max(slot) FROM key_usage WHERE key = ? AND window = ? AND amount > 0)",
                (claim.key, MINUTE.name, claim.key, MINUTE.name),
            )

    def settle(self, claim: Claim, dollars: float, now: float | None = None) -> None:
        """A request has ended and has cost so many US dollars, which take the place of its reservation."""
        self._file.execute("DELETE FROM reservations WHERE id = ?", (claim.id,))
        if claim.dollars_per_day is not None and dollars and math.isfinite(dollars):
            self._count(claim.key, DAY, dollars, time.time() if now is None else now)
        self.spend(claim.key, dollars, now)

    def renew(self, claims: Iterable[Claim], now: float | None = None) -> None:
        """Extend the reservations of requests in flight."""
        until = (time.time() if now is None else now) + LEASE
        self._file.executemany(
            "INSERT OR REPLACE INTO reservations VALUES (?, ?, ?, ?)",
            [(claim.id, claim.key, claim.dollars, until) for claim in claims if claim.dollars_per_day is not None],
        )

    def spend(self, key: str, dollars: float, now: float | None = None) -> None:
        """Add to the US dollars that a key has spent, as lists show them; no limit counts them."""
        if not dollars or not math.isfinite(dollars):
            return
        self._file.execute(
            "INSERT INTO spending VALUES (?, ?, ?) "
            "ON CONFLICT (name, day) DO UPDATE SET dollars = dollars + excluded.dollars",
            (key, _day(now), dollars),
        )

    def spent(self, key: str, now: float | None = None) -> Spent:
        """US dollars that a key has spent today (UTC), and in total.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        row = self._file.execute(
            "SELECT total(dollars) FILTER (WHERE day = ?), total(dollars) FROM spending WHERE name = ?",
            (_day(now), key),
        ).fetchone()
        return Spent(*row)

    def close(self) -> None:
        self._file.close()

    def _count(self, key: str, window: Window, amount: float, now: float) -> None:
        self._file.execute(
            "INSERT INTO key_usage VALUES (?, ?, ?, ?, ?) ON CONFLICT (key, window, slot) "
            "DO UPDATE SET amount = amount + excluded.amount, last = excluded.last",
            (key, window.name, window.slot_of(now), amount, now),
        )

    def _used(self, key: str, window: Window, now: float) -> list[Use]:
        """What a key has used of a window. What is too old is deleted."""
        where = "WHERE key = ? AND window = ?"
        uses = [
            Use(*row)
            for row in self._file.execute(f"SELECT last, amount FROM key_usage {where}", (key, window.name)).fetchall()
        ]
        if any(use.last <= now - window.seconds for use in uses):
            old = (key, window.name, now - window.seconds)
            self._file.execute(f"DELETE FROM key_usage {where} AND last <= ?", old)
        if any(use.last > now for use in uses):  # the clock was set back
            self._file.execute(f"UPDATE key_usage SET last = ? {where} AND last > ?", (now, key, window.name, now))
        return [Use(min(use.last, now), use.amount) for use in uses if use.last > now - window.seconds]


def _day(now: float | None) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() if now is None else now))
