"""Runs while they are recorded: their event lines so far, their followers, and their way into the archive.

Notable decisions:
- A recording is a list that only grows. Followers read it at their own pace, so a slow one does not block the others.
- A thread of its own writes to the archive, in batches. Failed writes are retried: a full disk or a locked file costs no
  answer and blocks no run.
- A recording stays in memory until its last line is in the archive. Line numbers are the same in both.
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
    AgentSpent,
    Event,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
)
from moa.store.archive import Archive, Begun, Change, Ended, Lines, Row, SavedRun

FLUSH = 1.0
"""Minimum seconds between two writes of a run in progress."""

BATCH = 0.25
"""Seconds for which changes are collected into one write."""

AGAIN = 5.0
"""Seconds before a failed write is retried."""

MOST_UNSAVED = 32
"""Ended runs that wait for an archive that cannot be written. Beyond this number, the oldest are lost."""

PACKET = 500
"""Maximum lines that a follower receives at once."""

log = logging.getLogger("moa.server")

T = TypeVar("T")


class Recording:
    """One run, from its first event on. Made by :meth:`Recordings.new`.

    Attributes:
        lines: its event lines so far; the first has the number 1.
        outcome: ``running``, then ``answered``, ``degraded``, ``failed`` or ``stopped``.
        begun: how the run began; None before the first event.
        started: set with the first event.
        stopping: whether :meth:`stop` was called while the run was in progress.
    """

    def __init__(self, recordings: Recordings, start: Callable[[str, float], Begun]) -> None:
        self.lines: list[bytes] = []
        self.outcome = "running"
        self.begun: Begun | None = None
        self.started = asyncio.Event()
        self.stopping = self._cancelled = False
        self._recordings, self._start = recordings, start
        self._task: asyncio.Task[Any] | None = None
        self._more, self._ended = asyncio.Event(), asyncio.Event()
        self._written, self._last_written = 0, 0.0
        self._flush: asyncio.TimerHandle | None = None
        self._last: Event | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended, with an answer or without."""
        return self._ended.is_set()

    def add(self, event: Event) -> None:
        """Record the next event. The task that adds the first event is the one that :meth:`cancel` cancels."""
        self.lines.append(encoded_event(event))
        self._last = event
        if isinstance(event, RunStarted):
            self.begun, self._task = self._start(event.run_id, event.started), asyncio.current_task()
            self._last_written = asyncio.get_running_loop().time()
            self._recordings.begin(self, self.begun)
            self.started.set()
        elif isinstance(event, AgentFinished | AgentFailed | AgentDropped | AgentRecalled | AgentSpent):
            self._flush_soon()
        self._more.set()
        self._more.clear()

    def end(self, outcome: str, answer: Answer) -> None:
        """End the record: no more events will come. Does nothing before the first event, or when called again.

        A cancelled run gets a RunStopped event and the outcome ``stopped``, unless its last event was added already: then
        only its client disconnected too early to see it.

        Args:
            outcome: ``answered``, ``degraded``, ``failed``, or ``cancelled``.
            answer: the run's result, estimates included.
        """
        if self.begun is None or self.has_ended:
            return
        now = asyncio.get_running_loop().time()
        has_last_event = isinstance(self._last, RunFinished | RunFailed)
        if outcome == "cancelled" and has_last_event:
            outcome = "failed" if isinstance(self._last, RunFailed) else "degraded" if answer.degraded else "answered"
        elif outcome == "cancelled":
            outcome = "stopped"
            self._add_estimates(answer, now)
            self.add(RunStopped(at=now))
        elif not has_last_event:
            self._add_estimates(answer, now)
            self.add(RunFailed(at=now, error=RunError("internal error; see the log")))
        self.outcome = outcome
        self._ended.set()
        self._more.set()
        self._write()
        self._recordings.change(Ended(self.begun.run, outcome, answer))

    def _add_estimates(self, answer: Answer, now: float) -> None:
        """Record what the calls cost that were cut off, so that every reader of the record counts the same."""
        for call in answer.calls:
            if call.duration is None and call.dropped is None and call.usage and call.cost:
                spent = AgentSpent(
                    at=now, agent=call.agent, layer=call.layer, usage=call.usage, cost=call.cost, calls=call.calls
                )
                self.add(spent)

    async def follow(self, after: int = 0) -> AsyncGenerator[tuple[int, list[bytes]], None]:
        """The run's lines as they arrive, in pairs of the first line's number and the lines; ends with the run.

        Args:
            after: the number of the last line that the caller has already.
        """
        while True:
            while after < len(self.lines):
                lines = self.lines[after : after + PACKET]
                yield after + 1, lines
                after += len(lines)
            if self.has_ended:
                return
            await self._more.wait()

    async def stop(self) -> None:
        """Cancel the run at a user's request, and wait until it has ended."""
        self.stopping = not self.has_ended
        await self.cancel()

    async def cancel(self) -> None:
        """Cancel the run, and wait until it has ended."""
        if not self.has_ended and self._task:
            if not self._cancelled:
                self._cancelled = True
                self._task.cancel()
            await self._ended.wait()

    def _flush_soon(self) -> None:
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_at(self._last_written + FLUSH, self._write)

    def _write(self) -> None:
        """Queue the lines that the archive does not have yet."""
        if self._flush:
            self._flush.cancel()
            self._flush = None
        self._last_written = asyncio.get_running_loop().time()
        if self.begun and self._written < len(self.lines):
            self._recordings.change(Lines(self.begun.run, self._written + 1, self.lines[self._written :]))
            self._written = len(self.lines)


class Recordings:
    """All runs: those in progress, and those in the archive. :meth:`aclose` closes the archive, too.

    ``owner`` in all methods is the name of an API key; runs of other owners count as missing.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._thread = ThreadPoolExecutor(1, "archive")
        self._recent: dict[str, Recording] = {}
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
        request_id: str | None = None,
    ) -> Recording:
        """A recording for a run that is about to start; for the arguments see :class:`~moa.store.archive.Begun`."""
        return Recording(self, lambda run, at: Begun(run, owner, at, model, request, mixture, continues, request_id))

    # -- called by recordings ----------------------------------------------------------------------------------------

    def begin(self, recording: Recording, begun: Begun) -> None:
        """Hold a recording until its end is in the archive, and queue its beginning."""
        self._recent[begun.run] = recording
        self.change(begun)

    def change(self, change: Change) -> None:
        """Queue a change for the archive; it is written within :data:`BATCH` seconds."""
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
            # The disk is full, or another process has locked the file: a later write may succeed.
            log.error("the run store cannot be written and will be retried: %s", error)
            self._changes, again = [*self._fewer(changes), *self._changes], AGAIN
        except Exception:
            await self._in_thread(lambda: self._write_each(changes))
            self._forget(changes)
        else:
            self._forget(changes)
        finally:
            self._writing = None
            if self._changes:
                self._write_in(again)

    def _write_each(self, changes: Sequence[Change]) -> None:
        """Write changes one by one, after a write of all failed: one that the store refuses affects no other."""
        for change in changes:
            try:
                self._archive.write([change])
            except Exception as error:
                log.error("run %s cannot be stored", change.run, exc_info=error)

    def _forget(self, changes: Sequence[Change]) -> None:
        """Release the recordings that have ended: the archive has them now."""
        for change in changes:
            if isinstance(change, Ended):
                self._recent.pop(change.run, None)

    def _fewer(self, changes: list[Change]) -> list[Change]:
        """The changes without those of the oldest ended runs, if more than :data:`MOST_UNSAVED` are waiting."""
        ended = [change.run for change in changes if isinstance(change, Ended)]
        lost = set(ended[:-MOST_UNSAVED])
        for run in lost:
            log.error("run %s is lost: the run store could not be written for too long", run)
            self._recent.pop(run, None)
        return [change for change in changes if change.run not in lost]

    async def settle(self) -> None:
        """Write all queued changes now. A failure is logged and retried later."""
        if self._writing:
            await asyncio.shield(self._writing)
        if self._writing or self._changes:
            await asyncio.shield(self._begin_writing())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def rows(self, owner: str, *, search: str = "", before: int | None = None, limit: int = 50) -> list[Row]:
        """Runs of an owner for a list, the latest first; for the arguments see :meth:`Archive.rows`."""
        await self.settle()
        return await self._in_thread(lambda: self._archive.rows(owner, search=search, before=before, limit=limit))

    def recent(self, run: str, owner: str) -> Recording | None:
        """The recording of a run in progress, or of one that is not yet in the archive; None if there is none."""
        recording = self._recent.get(run)
        return recording if recording and recording.begun and recording.begun.owner == owner else None

    async def saved(self, run: str, owner: str) -> SavedRun | None:
        """A run up to now; None if there is none."""
        if (recording := self.recent(run, owner)) and recording.begun:
            return SavedRun(recording.begun, recording.outcome, recording.lines[:])
        return await self._in_thread(lambda: self._archive.saved(run, owner))

    def outcome(self, run: str, outcome: str) -> str:
        """The outcome of a run, given the archive's. A run without an end that is not recorded here was ``broken off``."""
        recording = self._recent.get(run)
        if recording:
            return recording.outcome
        return "broken off" if outcome == "running" else outcome

    # -- ending ------------------------------------------------------------------------------------------------------

    async def delete(self, run: str, owner: str) -> bool:
        """Stop a run if it is in progress, and delete it. False if there is none."""
        if recording := self.recent(run, owner):
            await recording.stop()
            await self.settle()
            self._recent.pop(run, None)
            self._changes = [change for change in self._changes if change.run != run]
        elif await self._in_thread(lambda: self._archive.saved(run, owner)) is None:
            return False
        await self._in_thread(lambda: self._archive.delete(run))
        return True

    async def aclose(self) -> None:
        """Cancel all runs in progress, write everything, and close the archive."""
        await asyncio.gather(*(recording.cancel() for recording in [*self._recent.values()]))
        await self.settle()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Write everything and close the archive, without an event loop. Nothing may be recorded afterwards."""
        self._thread.shutdown()
        changes, self._changes = self._changes, []
        try:
            if changes:
                self._archive.write(changes)
        except Exception:
            self._write_each(changes)
        finally:
            self._archive.close()
