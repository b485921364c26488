"""Runs while they are recorded: their lines so far, whoever follows them, and their way into the archive.

Notable decisions:
- A recording is a list that only grows. Followers read it at their own pace, so a slow one holds up nobody.
- The archive is written by a thread of its own, in batches. What cannot be written is kept and tried again: a full disk or a
  locked file costs no answer, and holds up no run.
- A recording stays at hand until its last line is in the archive; ids of lines are the same here and there.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from moa.errors import RunError
from moa.messages import Answer
from moa.mixture.codec import encoded_event
from moa.mixture.events import (
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentRecalled,
    Event,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
)
from moa.store.archive import Archive, Begun, Change, Ended, Lines, Row, StoredRun

FLUSH = 1.0
"""Seconds that must pass between two writes of a run that goes on."""

BATCH = 0.25
"""Seconds in which changes are gathered for one write."""

AGAIN = 5.0
"""Seconds after which a write that failed is tried again."""

MOST_UNSAVED = 32
"""How many finished runs wait for an archive that cannot be written; the oldest are then given up."""

PACKET = 500
"""Lines that a follower gets at once, at most."""

log = logging.getLogger("moa.server")

T = TypeVar("T")


class Recording:
    """One run, from its first event on. Made by :meth:`Recordings.new`.

    Attributes:
        lines: its events so far, as JSON; the first has the id 1.
        outcome: ``running``, then how it ended.
        begun: set with the first event.
        stopping: whether somebody asked for its end.
    """

    def __init__(self, recordings: Recordings, start: Callable[[str, float], Begun]) -> None:
        self.lines: list[bytes] = []
        self.outcome = "running"
        self.begun: Begun | None = None
        self.started = asyncio.Event()
        self.stopping = self._cancelled = False
        self._recordings, self._start = recordings, start
        self._task: asyncio.Task[Any] | None = None
        self._more, self._over = asyncio.Event(), asyncio.Event()
        self._written, self._last_written = 0, 0.0
        self._flush: asyncio.TimerHandle | None = None
        self._last: Event | None = None

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def add(self, event: Event) -> None:
        """Take in the next event. The task that gives the first one is the one to cancel when the run is to stop."""
        self.lines.append(encoded_event(event))
        self._last = event
        if isinstance(event, RunStarted):
            self.begun, self._task = self._start(event.run_id, event.started), asyncio.current_task()
            self._last_written = asyncio.get_running_loop().time()
            self._recordings.begin(self, self.begun)
            self.started.set()
        elif isinstance(event, AgentFinished | AgentFailed | AgentDropped | AgentRecalled):
            self._flush_soon()
        self._more.set()
        self._more.clear()

    def end(self, outcome: str, answer: Answer) -> None:
        """There are no more events. A run that was cancelled is told as stopped.

        Args:
            outcome: ``answered``, ``degraded``, ``failed``, or ``cancelled``.
            answer: what it came to.
        """
        if self.begun is None or self.is_over:
            return
        now = asyncio.get_running_loop().time()
        is_told = isinstance(self._last, RunFinished | RunFailed)
        if outcome == "cancelled" and is_told:  # whoever asked left behind the last event
            outcome = "failed" if isinstance(self._last, RunFailed) else "degraded" if answer.degraded else "answered"
        elif outcome == "cancelled":
            outcome = "stopped"
            self.add(RunStopped(at=now))
        elif not is_told:
            self.add(RunFailed(at=now, error=RunError("the server broke; its log says how")))
        self.outcome = outcome
        self._over.set()
        self._more.set()
        self._write()
        self._recordings.end(self, Ended(self.begun.run, outcome, answer))

    async def follow(self, after: int = 0, quiet: float | None = None) -> AsyncGenerator[tuple[int, list[bytes]], None]:
        """Its lines from that id on, as they come: the id of the first, and the lines; ends with the run.

        Args:
            after: the id of the last line that is known already.
            quiet: seconds after which, when nothing happened, no lines are given, too.
        """
        while True:
            while after < len(self.lines):
                lines = self.lines[after : after + PACKET]
                yield after + 1, lines
                after += len(lines)
            if self.is_over:
                return
            try:
                async with asyncio.timeout(quiet):
                    await self._more.wait()
            except TimeoutError:
                yield after + 1, []

    async def stop(self) -> None:
        """Somebody asks for its end: cancel the run, and wait until it is over."""
        self.stopping = not self.is_over
        await self.cancel()

    async def cancel(self) -> None:
        """Cancel the run, and wait until it is over."""
        if not self.is_over and self._task:
            if not self._cancelled:
                self._cancelled = True
                self._task.cancel()
            await self._over.wait()

    def _flush_soon(self) -> None:
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_at(self._last_written + FLUSH, self._write)

    def _write(self) -> None:
        """Give the archive what it does not have yet."""
        if self._flush:
            self._flush.cancel()
            self._flush = None
        self._last_written = asyncio.get_running_loop().time()
        if self.begun and self._written < len(self.lines):
            self._recordings.change(Lines(self.begun.run, self._written + 1, self.lines[self._written :]))
            self._written = len(self.lines)


class Recordings:
    """All runs: those that are recorded now, and those in the archive.

    Args:
        archive: closed with it.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._thread = ThreadPoolExecutor(1, "archive")
        self._at_hand: dict[str, Recording] = {}
        self._changes: list[Change] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    def new(
        self,
        *,
        owner: str,
        model: str,
        request: Mapping[str, Any],
        mixture: Mapping[str, Any] | None = None,
        continues: str | None = None,
    ) -> Recording:
        """A recording for a run that is about to begin; see :class:`~moa.store.archive.Begun`."""
        return Recording(self, lambda run, at: Begun(run, owner, at, model, request, mixture, continues))

    # -- what recordings tell ----------------------------------------------------------------------------------------

    def begin(self, recording: Recording, begun: Begun) -> None:
        self._at_hand[begun.run] = recording
        self.change(begun)

    def end(self, recording: Recording, ended: Ended) -> None:
        self.change(ended)

    def change(self, change: Change) -> None:
        """Have this written to the archive before long."""
        self._changes.append(change)
        self._write_in(BATCH)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write_in(self, seconds: float) -> None:
        if self._timer is None and self._writing is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._begin_writing)

    def _begin_writing(self) -> asyncio.Future[None]:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write())
        return self._writing

    async def _write(self) -> None:
        changes, self._changes = self._changes, []
        again = BATCH
        try:
            await self._in_thread(lambda: self._archive.write(changes))
        except sqlite3.OperationalError as error:
            # The disk is full, or another process holds the file: it may be better soon.
            log.error("the run store cannot be written, which is tried again: %s", error)
            self._changes, again = [*self._fewer(changes), *self._changes], AGAIN
        except Exception as error:
            log.error("a run cannot be kept", exc_info=error)
            self._forget(changes)
        else:
            self._forget(changes)
        finally:
            self._writing = None
            if self._changes:
                self._write_in(again)

    def _forget(self, changes: Sequence[Change]) -> None:
        """The archive has these runs."""
        for change in changes:
            if isinstance(change, Ended):
                self._at_hand.pop(change.run, None)

    def _fewer(self, changes: list[Change]) -> list[Change]:
        ended = [change.run for change in changes if isinstance(change, Ended)]
        lost = set(ended[:-MOST_UNSAVED])
        for run in lost:
            log.error("run %s is not kept: the run store could not be written for too long", run)
            self._at_hand.pop(run, None)
        return [change for change in changes if change.run not in lost]

    async def settle(self) -> None:
        """Write what there is to write, now. Where that fails, the log tells."""
        if self._writing:
            await asyncio.shield(self._writing)
        if self._writing or self._changes:
            await asyncio.shield(self._begin_writing())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def rows(self, owner: str, *, search: str = "", before: int | None = None, limit: int = 50) -> list[Row]:
        """Runs of an owner as a list shows them, the latest first; see :meth:`Archive.rows`."""
        await self.settle()
        return await self._in_thread(lambda: self._archive.rows(owner, search=search, before=before, limit=limit))

    def at_hand(self, run: str, owner: str) -> Recording | None:
        """The run of this owner where it is recorded now, or was just now."""
        recording = self._at_hand.get(run)
        return recording if recording and recording.begun and recording.begun.owner == owner else None

    async def kept(self, run: str, owner: str) -> StoredRun | None:
        """A run of this owner, as far as it came; None where there is none."""
        if (recording := self.at_hand(run, owner)) and recording.begun:
            return StoredRun(recording.begun, recording.outcome, recording.lines[:])
        return await self._in_thread(lambda: self._archive.kept(run, owner))

    def outcome(self, run: str, outcome: str) -> str:
        """A run's outcome; what the archive knows no end of, and is not recorded here, was broken off."""
        recording = self._at_hand.get(run)
        if recording:
            return recording.outcome
        return "broken off" if outcome == "running" else outcome

    # -- ending ------------------------------------------------------------------------------------------------------

    async def delete(self, run: str, owner: str) -> bool:
        """Stop it, and forget it; False where there is none."""
        if recording := self.at_hand(run, owner):
            await recording.stop()
            await self.settle()
            self._at_hand.pop(run, None)
            self._changes = [change for change in self._changes if change.run != run]
        elif await self._in_thread(lambda: self._archive.kept(run, owner)) is None:
            return False
        await self._in_thread(lambda: self._archive.delete(run))
        return True

    async def aclose(self) -> None:
        """Stop what goes on, and write all of it."""
        await asyncio.gather(*(recording.cancel() for recording in [*self._at_hand.values()]))
        await self.settle()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """The same without an event loop; nothing may be recorded any more."""
        self._thread.shutdown()
        changes, self._changes = self._changes, []
        try:
            if changes:
                self._archive.write(changes)
        except sqlite3.Error as error:
            log.error("the run store cannot be written: %s", error)
        finally:
            self._archive.close()
