"""Changes on their way into an archive that does not take all of them."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from moa.answers import Answer, Cost
from moa.store import backlog
from moa.store.archive import Archive
from moa.store.backlog import Backlog
from moa.store.changes import ROWS, Begun, Change, Ended, Lines
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio

REQUEST = {"messages": [{"role": "user", "content": "Why?"}]}


def changes(run: str, size: int = 100, cost: float = 0.5) -> list[Change]:
    """A whole run whose text cannot be compressed."""
    answer = Answer("Because.", cost=Cost(cost))
    return [
        Begun(run, "", 1.0, "moa/trio", REQUEST),
        Lines(run, 1, [os.urandom(size // 2).hex().encode()]),
        Ended(run, "answered", answer),
    ]


def outcomes(archive: Archive) -> dict[str, str]:
    return {row.run: row.outcome for row in archive.rows(limit=200)}


async def test_what_the_store_refuses_loses_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A number beyond any float, and the same run twice: the other runs of the batch are whole."""
    gone = list[str]()
    waiting = Backlog(archive := Archive(tmp_path / "runs.sqlite"), gone.append)
    batch = [*changes("one"), *changes("two", cost=10**400), *changes("one"), *changes("three")]
    for change in batch:
        waiting.add(change)
    await waiting.settle()
    assert outcomes(archive) == {"one": "answered", "two": "broken off", "three": "answered"}
    assert len(archive.lines("two")) == 1
    assert "the end of run two cannot be stored" in caplog.text and {*gone} == {"one", "two", "three"}
    waiting.close()


async def test_a_change_that_comes_while_it_closes_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No write begins after the stop, when the thread that writes may have ended; closing writes what is left."""
    monkeypatch.setattr(backlog, "BATCH", 0.0)
    waiting = Backlog(Archive(tmp_path / "runs.sqlite"), lambda run: None)
    waiting.add(changes("one")[0])
    await waiting.stop()
    for change in changes("one")[1:]:
        waiting.add(change)
    await waiting.settle()
    await asyncio.to_thread(waiting.close)
    assert outcomes(Archive(tmp_path / "runs.sqlite")) == {"one": "answered"}


async def test_a_timer_that_fires_after_the_end_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing without the event loop leaves the timer of a write; the thread that writes has ended by then."""
    monkeypatch.setattr(backlog, "BATCH", 0.0)
    waiting = Backlog(Archive(tmp_path / "runs.sqlite"), lambda run: None)
    for change in changes("one"):
        waiting.add(change)
    waiting.close()
    await asyncio.sleep(0.01)
    assert outcomes(Archive(tmp_path / "runs.sqlite")) == {"one": "answered"}


async def test_a_full_disk_takes_what_fits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a batch that does not fit as a whole, small runs are written, also those behind a large one; it follows later."""
    monkeypatch.setattr(backlog, "AGAIN", 0.05)
    waiting = Backlog(archive := Archive(tmp_path / "runs.sqlite"), lambda run: None)
    pages = archive._file.execute("PRAGMA page_count").fetchone()[0]
    archive._file.execute(f"PRAGMA max_page_count = {pages + 40}")
    for change in (*changes("small"), *changes("large", 400_000), *changes("another")):
        waiting.add(change)
    with caplog.at_level(logging.WARNING):
        await waiting.settle()
        assert {"small", "another"} <= {*outcomes(archive)} and archive.lines("large") == []
        assert waiting.is_stuck and "full" in caplog.text and "rollback" not in caplog.text
        archive._file.execute("PRAGMA max_page_count = 100000")
        await holds(lambda: not waiting.is_stuck)
    assert outcomes(archive) == {"small": "answered", "large": "answered", "another": "answered"}
    assert caplog.text.count("cannot be written") == 1 and caplog.text.count("can be written again") == 1
    waiting.close()


async def test_the_oldest_runs_are_lost_when_too_many_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says how many; what the store has of them is broken off, once it can be written."""
    monkeypatch.setattr(backlog, "MOST_UNSAVED", 3 * (backlog.PER_RUN + 10_100))
    gone = list[str]()
    waiting = Backlog(archive := Archive(tmp_path / "runs.sqlite"), gone.append)
    half = changes("half written", 10_000)
    archive.write(half[:1])
    archive._file.execute("PRAGMA busy_timeout = 1")
    lock = sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    for change in (*half[1:], *(change for number in range(5) for change in changes(str(number), 10_000))):
        waiting.add(change)
    await waiting.settle()
    assert gone == ["half written", "0", "1"] and caplog.text.count("3 runs are lost") == 1
    lock.close()
    await waiting.settle()
    assert outcomes(archive) == {"4": "answered", "3": "answered", "2": "answered", "half written": "broken off"}
    waiting.close()


async def test_new_runs_wait_while_the_writer_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run waits for a slow write beyond the bound in bytes, and never for an archive that cannot be written."""
    monkeypatch.setattr(backlog, "MOST_WAITING", 2 * backlog.PER_RUN)
    waiting, free = Backlog(archive := Archive(tmp_path / "runs.sqlite"), lambda run: None), threading.Event()
    write = archive.write

    def slow(changes: Sequence[Change]) -> None:
        free.wait(10)
        write(changes)

    monkeypatch.setattr(archive, "write", slow)
    for change in changes("one"):
        waiting.add(change)
    await asyncio.wait_for(waiting.room(), 0.1)  # within the bound
    for change in changes("two"):
        waiting.add(change)
    room = asyncio.ensure_future(waiting.room())
    await holds(lambda: waiting._writing is not None)
    assert not room.done()
    free.set()
    await room
    assert outcomes(archive) == {"one": "answered", "two": "answered"} and waiting._waiting == 0
    archive._file.execute("PRAGMA query_only = ON")
    for change in (*changes("three"), *changes("four"), *changes("five")):
        waiting.add(change)
    await waiting.room()
    assert waiting.is_stuck and waiting._waiting > backlog.MOST_WAITING
    archive._file.execute("PRAGMA query_only = OFF")
    waiting.close()


async def test_a_batch_takes_few_statements(tmp_path: Path) -> None:
    """However many runs it has: a busy event loop delays the writing thread at each statement."""
    archive, executed = Archive(tmp_path / "runs.sqlite"), list[str]()
    archive._file.set_trace_callback(executed.append)
    batch = [change for run in range(2 * ROWS + 1) for change in changes(str(run), cost=run)]
    archive.write(batch)
    assert len(executed) < ROWS
    archive._file.set_trace_callback(None)
    assert [row.run for row in archive.rows(limit=200)] == [*map(str, reversed(range(2 * ROWS + 1)))]
    assert {row.run: row.cost.dollars for row in archive.rows(limit=200)} == {
        str(run): run for run in range(2 * ROWS + 1)
    }
    archive.close()
