"""The ledger off the event loop: nothing is lost while the file is locked, and nothing waits for it that need not."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from moa.store import bookings as module
from moa.store.bookings import Bookings
from moa.store.ledger import Claim, Ledger
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio


def claim(number: int, **limits: float) -> Claim:
    return Claim("ann", dollars=0.25, id=str(number), dollars_per_day=limits.get("dollars_per_day", 1.0))


async def test_a_limit_holds_for_requests_at_once(tmp_path: Path) -> None:
    """Of many requests at the same time in two processes, as many begin as fit."""
    path = tmp_path / "runs.sqlite"
    with Bookings(Ledger(path)) as one, Bookings(Ledger(path)) as two:
        verdicts = await asyncio.gather(*((one, two)[number % 2].claim(claim(number)) for number in range(50)))
    assert [verdict is None for verdict in verdicts].count(True) == 4


async def test_a_locked_file_loses_no_booking(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Requests wait, the event loop does not, and everything is booked once the file is free."""
    path = tmp_path / "runs.sqlite"
    with Bookings(Ledger(path)) as books, closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert await books.claim(claim(1)) is None
        other.execute("BEGIN IMMEDIATE")
        books.settle(claim(1), 0.5)
        books.spend("bob", 0.25)
        waiting = asyncio.create_task(books.claim(claim(2)))
        longest, until = 0.0, time.monotonic() + 0.4
        while (began := time.monotonic()) < until:
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - began)
        assert longest < 0.3 and not waiting.done()
        other.execute("COMMIT")
        assert await waiting is None
        with Ledger(path) as ledger:
            await holds(lambda: (ledger.spent("ann").total, ledger.spent("bob").total) == (0.5, 0.25))


async def test_a_file_that_stays_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A request gets the error after a time; at the end the log has the dollars that could not be booked."""
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.0)
    monkeypatch.setattr(module, "CLOSING", 0.0)
    path = tmp_path / "runs.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as other, Bookings(Ledger(path)) as books:
        other.execute("BEGIN IMMEDIATE")
        books.settle(claim(0), 0.5)
        with pytest.raises(sqlite3.Error):
            await books.claim(claim(1))
        with caplog.at_level(logging.ERROR):
            await asyncio.to_thread(books.close)
    assert "$0.5 spent by key ann is not counted" in caplog.text


async def test_a_client_that_leaves_while_it_waits_reserves_nothing(tmp_path: Path) -> None:
    """Its claim is released, whether it was admitted meanwhile or not."""
    path = tmp_path / "runs.sqlite"
    with Bookings(Ledger(path)) as books, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(books.claim(claim(number))) for number in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        other.execute("COMMIT")
        verdicts = [await books.claim(claim(number + 10)) for number in range(4)]
        assert verdicts == [None] * 4


async def test_reservations_of_long_requests_are_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as their process lives."""
    path = tmp_path / "runs.sqlite"
    monkeypatch.setattr(module, "LEASE", 0.03)
    with Bookings(Ledger(path)) as books, closing(sqlite3.connect(path)) as other:

        def until() -> float:
            return float(other.execute("SELECT max(until) FROM reservations").fetchone()[0])

        assert await books.claim(claim(1)) is None
        first = until()
        await holds(lambda: until() > first)
