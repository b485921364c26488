"""Several processes on one store."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import pytest

from moa.answers import Answer
from moa.store.archive import Archive
from moa.store.changes import Begun, Ended, Lines
from moa.store.processes import new_process
from moa.store.recordings import Recordings
from tests.fakes.waiting import holds
from tests.store.test_recording import agent_started, end, new, said, started

REQUEST = {"messages": [{"role": "user", "content": "Why?"}]}
GONE = new_process().rsplit("/", 2)[0] + "/4194305/0"
"""A process of this machine whose number is above the largest."""


def begun(run: str) -> Begun:
    return Begun(run, "", 1.0, "moa/trio", REQUEST)


def test_a_process_without_a_heartbeat_is_gone(tmp_path: Path) -> None:
    """Its run is broken off after ten seconds, or at once where its number is nobody's, or the clock has started anew."""
    with Archive(tmp_path / "runs.sqlite") as mine, Archive(tmp_path / "runs.sqlite") as other:
        mine.write([begun("one")])
        assert other.outcome("one") == "running"
        for change, outcome in (("beat - 9", "running"), ("beat - 60", "broken off"), ("beat + 3600", "broken off")):
            mine._file.execute(f"UPDATE run_processes SET beat = {change}")
            assert other.outcome("one") == outcome
            assert mine.outcome("one") == "running"  # a process knows of itself
            mine._processes.beat()
        mine._file.execute("UPDATE run_processes SET process = ?", (GONE,))
        assert [row.outcome for row in other.rows()] == ["broken off"]


def test_a_locked_store_ends_no_run(tmp_path: Path) -> None:
    """While nobody can write, no process can renew its heartbeat."""
    with Archive(tmp_path / "runs.sqlite") as mine, Archive(tmp_path / "runs.sqlite") as other:
        mine.write([begun("one")])
        mine._file.execute("UPDATE run_processes SET beat = beat - 60")
        mine._file.execute("BEGIN IMMEDIATE")
        assert other.outcome("one") == "running"
        mine._file.execute("ROLLBACK")
        assert other.outcome("one") == "broken off"


def test_a_broken_run_is_claimed_once(tmp_path: Path) -> None:
    """Of many processes that continue it at once, one may; after its run has ended, another may again."""
    archives = [Archive(tmp_path / "runs.sqlite") for _ in range(6)]
    dead = Archive(tmp_path / "runs.sqlite", process=GONE)
    dead.write([begun("one")])
    together = threading.Barrier(len(archives))

    def claim(archive: Archive) -> bool:
        together.wait()
        return archive.claim("one")

    with ThreadPoolExecutor(len(archives)) as threads:
        claims = [*threads.map(claim, archives)]
    assert sorted(claims) == [False] * 5 + [True]
    winner, loser = archives[claims.index(True)], archives[claims.index(False)]
    assert loser.outcome("one") == "broken off"
    winner.write([Begun("two", "", 2.0, "moa/trio", REQUEST, continues="one")])
    assert not winner.claim("one") and not loser.claim("one") and not loser.claim("two")
    winner.write([Ended("two", "answered", Answer("So."))])
    assert loser.claim("one")
    loser.release("one")
    assert winner.claim("one")
    for archive in (*archives, dead):
        archive.close()


def test_lines_after_a_number_are_read_from_their_batch(tmp_path: Path) -> None:
    """Whether the number is the last of a batch, in the middle, before the first or beyond the end."""
    with Archive(tmp_path / "runs.sqlite") as archive:
        lines = [b"%d" % number for number in range(1, 9)]
        archive.write(
            [begun("one"), Lines("one", 1, lines[:3]), Lines("one", 4, lines[3:4]), Lines("one", 5, lines[4:])]
        )
        for after in range(10):
            assert archive.lines("one", after) == lines[after:]


@pytest.mark.anyio
async def test_a_run_of_another_process_is_followed_and_stopped(tmp_path: Path) -> None:
    """Its lines come while it is in progress, long before it would write them on its own."""
    mine, other = Recordings(Archive(tmp_path / "runs.sqlite")), Recordings(Archive(tmp_path / "runs.sqlite"))
    run = new(mine)

    async def go() -> None:
        run.add(started())
        run.add(agent_started())
        try:
            await asyncio.Event().wait()
        finally:
            run.end("cancelled", Answer(run_id="one"))

    received = list[bytes]()

    async def follow() -> None:
        async with aclosing(other.follow("one")) as groups:
            async for first, lines in groups:
                assert first == len(received) + 1
                received.extend(lines)

    going = asyncio.create_task(go())
    await run.started.wait()
    await mine.share()
    following = asyncio.create_task(follow())
    await holds(lambda: len(received) == 2)
    run.add(said("words"))
    await holds(lambda: len(received) == 3)
    assert await other.stop("one", "")
    await following
    assert received == run.lines and going.cancelled()
    assert [row.outcome for row in await other.rows("")] == ["stopped"]
    await asyncio.gather(mine.aclose(), other.aclose())


@pytest.mark.anyio
async def test_a_damaged_page_costs_no_other_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run in it cannot be read, which is an error of the store; runs are written and listed as before."""
    runs = Recordings(archive := Archive(tmp_path / "runs.sqlite"))
    for name in ("old", "new"):
        run = new(runs)
        run.add(started(name))
        end(run)
        await runs.settle()
        if name == "old":
            archive._file.execute("UPDATE run_lines SET lines = x'0000'")
    with pytest.raises(sqlite3.DatabaseError, match="old is damaged"):
        await runs.saved("old", "")
    assert await runs.saved("new", "")
    assert [row.run for row in await runs.rows("")] == ["new", "old"]
    await runs.aclose()
