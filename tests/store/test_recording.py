"""Runs while they are recorded."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from moa import Mixture, Scripted
from moa.messages import Answer, Cost, Delta, Usage
from moa.mixture.codec import event_of
from moa.mixture.events import AgentFinished, AgentSaid, AgentStarted, Event, RunFinished, RunStarted
from moa.mixture.fold import fold
from moa.store import backlog, recording
from moa.store.archive import Archive
from moa.store.outcome import recorded
from moa.store.recording import Recording
from moa.store.recordings import Recordings
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio

REQUEST = {"messages": [{"role": "user", "content": "Why?"}]}


def started(run: str = "one") -> Event:
    return RunStarted(at=1.0, run_id=run, mixture="moa/m", schedule="Barrier()", started=1_700_000_000.0, seats=())


def agent_started(agent: str = "a") -> Event:
    return AgentStarted(at=1.0, agent=agent, layer=1, model=f"up/{agent}", role="proposer")


def said(text: str, agent: str = "a") -> Event:
    return AgentSaid(at=1.0, agent=agent, layer=1, delta=Delta(text=text))


def finished(agent: str = "a") -> Event:
    return AgentFinished(at=2.0, agent=agent, layer=1, finish_reason="stop", usage=Usage(1, 2), cost=Cost(0.5))


@asynccontextmanager
async def recordings(path: Path | None = None) -> AsyncIterator[Recordings]:
    runs = Recordings(Archive(path))
    try:
        yield runs
    finally:
        await runs.aclose()


def new(runs: Recordings, owner: str = "") -> Recording:
    return runs.new(owner=owner, model="moa/m", request=REQUEST)


def end(run: Recording) -> None:
    run.add(RunFinished(at=3.0))
    run.end("answered", Answer("Because.", run_id="one"))


async def lines_of(run: Recording, after: int = 0) -> list[tuple[int, bytes]]:
    """All lines that one follower receives, with their numbers."""
    lines: list[tuple[int, bytes]] = []
    async with aclosing(run.follow(after)) as following:
        async for first, several in following:
            lines += enumerate(several, first)
    return lines


async def test_every_follower_receives_the_same_lines() -> None:
    """From the start or after a line, during the run and afterwards: the same lines under the same numbers."""
    async with recordings() as runs:
        run = new(runs)
        run.add(started())
        run.add(agent_started())
        early = asyncio.create_task(lines_of(run))
        later = asyncio.create_task(lines_of(run, after=3))
        await asyncio.sleep(0)
        for number in range(1200):
            run.add(said(f"{number} "))
            if number % 100 == 0:
                await asyncio.sleep(0)
        run.add(finished())
        end(run)
        whole = [*enumerate(run.lines, 1)]
        assert await early == whole
        assert await later == whole[3:]
        assert await lines_of(run) == whole
        assert await lines_of(run, after=len(whole)) == []
        await runs.settle()
        assert runs.recent("one", "") is None
        stored = await runs.saved("one", "")
        assert stored and [*enumerate(stored.lines, 1)] == whole
        assert fold(event_of(json.loads(line)) for line in stored.lines).calls[0].text.endswith("1199 ")


async def test_a_slow_follower_blocks_nobody() -> None:
    """The run and the other followers end before it has received half; then it receives the rest, in large batches."""
    async with recordings() as runs:
        run = new(runs)
        run.add(started())
        run.add(agent_started())
        waiting, resume = asyncio.Event(), asyncio.Event()
        batches: list[list[tuple[int, bytes]]] = []

        async def follow_slowly() -> None:
            async with aclosing(run.follow()) as following:
                async for first, several in following:
                    batches.append([*enumerate(several, first)])
                    waiting.set()
                    await resume.wait()

        slow, quick = asyncio.create_task(follow_slowly()), asyncio.create_task(lines_of(run))
        await waiting.wait()
        for _ in range(900):
            run.add(said("x"))
        end(run)
        assert len(await quick) == 903
        assert len(batches) == 1
        resume.set()
        await slow
        assert [line for batch in batches for line in batch] == [*enumerate(run.lines, 1)]
        assert len(batches) == 3


async def test_finished_calls_are_written_while_the_run_is_in_progress(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Soon after an agent has finished, all lines so far are in the file, even if nothing more happens."""
    monkeypatch.setattr(recording, "FLUSH", 0.1)
    async with recordings(tmp_path / "runs.sqlite") as runs:
        with Archive(tmp_path / "runs.sqlite") as other:
            run = new(runs)
            for event in (
                started(),
                agent_started("a"),
                agent_started("b"),
                said("two", "b"),
                said("one", "a"),
                finished("a"),
            ):
                run.add(event)
            await holds(lambda: len(other.lines("one")) == 6)
            run.add(said(" three", "b"))
            run.add(finished("b"))
            await holds(lambda: len(other.lines("one")) == 8)
            found = other.saved("one")
            assert found and found.outcome == "running" and found.lines == run.lines
            end(run)
            await runs.settle()
            assert other.outcome("one") == "answered"


async def test_a_cancelled_run_is_recorded_as_stopped() -> None:
    """Its followers receive run_stopped as the last line, and lists show the outcome."""
    async with recordings() as runs:
        run = new(runs)

        async def go() -> None:
            run.add(started())
            try:
                await asyncio.Event().wait()
            finally:
                run.end("cancelled", Answer(run_id="one"))

        task = asyncio.create_task(go())
        following = asyncio.create_task(lines_of(run))
        await run.started.wait()
        await asyncio.gather(run.stop(), run.stop())
        assert task.cancelled() and run.outcome == "stopped"
        assert json.loads((await following)[-1][1])["event"] == "run_stopped"
        await run.stop()
        rows = await runs.rows("")
        assert [row.outcome for row in rows] == ["stopped"]


async def test_a_run_whose_client_disconnects_after_the_last_event_was_answered() -> None:
    """The record has one last event, and the outcome matches it."""
    async with recordings() as runs:
        run = new(runs)
        run.add(started())
        run.add(RunFinished(at=3.0))
        run.end("cancelled", Answer("Because.", run_id="one"))
        assert run.outcome == "answered" and json.loads(run.lines[-1])["event"] == "run_finished"


async def test_what_nobody_read_of_a_stopped_run_is_recorded() -> None:
    """A proposal that was finished behind the back of a slow reader is in the record when that reader leaves."""
    async with recordings() as runs:
        run, outcomes = new(runs), list[str]()
        mixture = Mixture([[Scripted("one", name="x/one")]], Scripted("x", name="x/last", first_token=60))
        reading = recorded(mixture.run("Why?"), recording=run, on_end=lambda outcome, answer: outcomes.append(outcome))
        await anext(reading)
        for _ in range(30):
            await asyncio.sleep(0)
        await reading.aclose()
        assert outcomes == ["cancelled"]
        assert any(json.loads(line)["event"] == "agent_finished" for line in run.lines)
        assert json.loads(run.lines[-1])["event"] == "run_stopped"


async def test_a_run_that_crashes_has_an_end() -> None:
    """After a defect the record ends with run_failed, so that followers do not wait for ever."""
    async with recordings() as runs:
        run = new(runs)
        run.add(started())
        run.end("failed", Answer(run_id="one"))
        last = json.loads((await lines_of(run))[-1][1])
        assert last["event"] == "run_failed" and "log" in last["error"]


@pytest.mark.parametrize("trouble", ["locked", "full"])
async def test_a_store_that_cannot_be_written_blocks_nothing(
    trouble: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run continues and can be read; as soon as the file can be written again, the run is written."""
    monkeypatch.setattr(backlog, "AGAIN", 0.05)
    path = tmp_path / "runs.sqlite"
    archive = Archive(path)
    archive._file.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(path, isolation_level=None)
    pages = archive._file.execute("PRAGMA page_count").fetchone()[0]
    if trouble == "locked":
        other.execute("BEGIN IMMEDIATE")
    else:
        archive._file.execute(f"PRAGMA max_page_count = {pages}")
    runs = Recordings(archive)
    with caplog.at_level(logging.ERROR):
        run = new(runs)
        run.add(started())
        run.add(agent_started())
        for number in range(2000):
            run.add(said(f"words {number * 7919} "))
        run.add(finished())
        end(run)
        await runs.settle()
        assert "will be retried" in caplog.text
        found = await runs.saved("one", "")
        assert found and (found.outcome, found.lines) == ("answered", run.lines)
    if trouble == "locked":
        other.execute("COMMIT")
    else:
        archive._file.execute("PRAGMA max_page_count = 100000")
    other.close()
    await holds(lambda: runs.recent("one", "") is None)
    found = await runs.saved("one", "")
    assert found and (found.outcome, found.lines) == ("answered", run.lines)
    assert "words" not in caplog.text
    await runs.aclose()


async def test_runs_that_wait_for_the_store_are_limited(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest are lost, which is logged; a run in progress is not."""
    monkeypatch.setattr(backlog, "MOST_UNSAVED", 4 * (backlog.PER_RUN + 500))
    archive = Archive(tmp_path / "runs.sqlite")
    archive._file.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    runs = Recordings(archive)
    going = new(runs)
    going.add(started("going"))
    for number in range(5):
        run = new(runs)
        run.add(started(f"run {number}"))
        end(run)
        await runs.settle()
    assert [runs.recent(f"run {number}", "") is None for number in range(5)] == [True, True, False, False, False]
    assert caplog.text.count("1 run is lost") == 2
    other.close()
    end(going)
    await runs.settle()
    assert [row.run for row in await runs.rows("")] == ["run 4", "run 3", "run 2", "going"]
    await runs.aclose()


async def test_a_run_that_cannot_be_stored_does_not_affect_others(caplog: pytest.LogCaptureFixture) -> None:
    """A run that the store refuses is logged, and the next run is stored."""
    async with recordings() as runs:
        for _ in range(2):  # the same id twice
            run = new(runs)
            run.add(started())
            end(run)
            await runs.settle()
        assert "cannot be stored" in caplog.text
        run = new(runs)
        run.add(started("two"))
        end(run)
        assert [row.run for row in await runs.rows("")] == ["two", "one"]


async def test_a_change_that_cannot_be_stored_loses_no_other_of_its_batch(caplog: pytest.LogCaptureFixture) -> None:
    """Changes that were to be written together are then written one by one."""
    async with recordings() as runs:
        for name in ("one", "one", "two"):  # the same id twice, in one batch
            run = new(runs)
            run.add(started(name))
            end(run)
        assert [row.run for row in await runs.rows("")] == ["two", "one"]
        assert "run one cannot be stored" in caplog.text


async def test_deleting_stops_first() -> None:
    """A run in progress is cancelled, and nothing of it is left."""
    async with recordings() as runs:
        run = new(runs, "ann")

        async def go() -> None:
            run.add(started())
            try:
                await asyncio.Event().wait()
            finally:
                run.end("cancelled", Answer(run_id="one"))

        task = asyncio.create_task(go())
        await run.started.wait()
        assert not await runs.delete("one", "bob")
        assert not run.has_ended
        assert await runs.delete("one", "ann")
        assert task.cancelled()
        assert await runs.saved("one", "ann") is None and await runs.rows("ann") == []
        assert not await runs.delete("one", "ann")


def test_close_writes_the_rest_without_an_event_loop(tmp_path: Path) -> None:
    """A server that must stop at once has no time for its loop."""
    runs = Recordings(Archive(tmp_path / "runs.sqlite"))

    async def go() -> None:
        run = new(runs)
        run.add(started())
        run.end("cancelled", Answer(run_id="one"))

    asyncio.run(go())
    runs.close()
    runs.close()
    with Archive(tmp_path / "runs.sqlite") as archive:
        assert [row.outcome for row in archive.rows()] == ["stopped"]
