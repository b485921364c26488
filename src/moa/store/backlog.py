"""Changes on their way into the archive.

Notable decisions:
- A thread of its own writes to the archive, in batches. A full disk or a locked file costs no answer and blocks no run.
- A batch that fails is written change by change: one that the store refuses affects no other run.
- What a full, locked, damaged or read-only file does not take stays in memory and is tried again. Beyond a bound in bytes,
  the oldest runs that have ended are lost.
- Where runs end faster than the thread writes, new runs wait for it beyond a bound in bytes. Otherwise, no run waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from moa.store.archive import Archive
from moa.store.changes import Begun, BrokenOff, Change, Ended, Lines
from moa.store.file import is_locked, is_passing
from moa.tracebacks import traceback_of

BATCH = 0.25
"""Seconds for which changes are collected into one write."""

AGAIN = 5.0
"""Seconds before a failed write is retried."""

MOST_UNSAVED = 64 * 2**20
"""Bytes of runs that wait for an archive that cannot be written, about."""

MOST_WAITING = 16 * 2**20
"""Bytes of runs that wait to be written, about, before new runs wait for the write."""

PER_RUN = 16_384
"""Bytes that a waiting run takes beside its text, about."""

MOST_REFUSED = 8
"""Runs of one batch that the file does not take before the rest of the batch is not tried any more."""

log = logging.getLogger("moa.server")

T = TypeVar("T")


class Backlog:
    """The queue of changes, and the thread that writes them.

    Args:
        archive: it is closed with the backlog.
        on_gone: called with the ID of a run that the backlog holds no more: its end is in the archive, or it is lost.
    """

    def __init__(self, archive: Archive, on_gone: Callable[[str], None]) -> None:
        self._archive, self._on_gone = archive, on_gone
        self._thread = ThreadPoolExecutor(1, "archive")
        self._changes: list[Change] = []
        self._waiting = 0  # bytes of changes that are queued or being written
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self._stopped = False
        self._trouble = ""

    @property
    def is_stuck(self) -> bool:
        """Whether the last write failed, and has not succeeded since."""
        return bool(self._trouble)

    def add(self, change: Change) -> None:
        """Queue a change; it is written within :data:`BATCH` seconds."""
        self._changes.append(change)
        self._waiting += _size(change)
        self._write_in(BATCH)

    async def room(self) -> None:
        """Wait while more than :data:`MOST_WAITING` bytes wait, unless the archive cannot be written."""
        while self._waiting > MOST_WAITING and not (self.is_stuck or self._stopped):
            await asyncio.shield(self._begin_writing())

    def remove(self, run: str) -> None:
        """Forget what waits of a run."""
        self._changes = [change for change in self._changes if change.run != run]

    async def settle(self) -> None:
        """Write all queued changes now. A failure is logged and retried later."""
        if self._writing:
            await asyncio.shield(self._writing)
        if self._writing or self._changes:
            await asyncio.shield(self._begin_writing())

    async def stop(self) -> None:
        """Start no further write; what is added from now on is written by :meth:`close`."""
        self._stopped = True
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._writing:
            await asyncio.shield(self._writing)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do other work with the archive, in the thread that writes to it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Write everything and close the archive, without an event loop. Nothing may be added afterwards."""
        self._stopped = True  # a timer may still fire
        self._thread.shutdown()
        changes, self._changes = self._changes, []
        try:
            left, trouble = self._written(changes)
            if lost := {change.run for change in left}:
                log.error("%s lost: the run store cannot be written: %s", _count(lost), trouble)
        finally:
            self._archive.close()

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write_in(self, seconds: float) -> None:
        if self._timer is None and self._writing is None and not self._stopped:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._begin_writing)

    def _begin_writing(self) -> asyncio.Future[None]:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            return self._writing
        if self._stopped:  # a caller that waited for the last write would begin another one
            written = asyncio.get_running_loop().create_future()
            written.set_result(None)
            return written
        self._writing = asyncio.ensure_future(self._write())
        return self._writing

    async def _write(self) -> None:
        changes, self._changes = self._changes, []
        left: list[Change] = []
        try:
            left, trouble = await self.in_thread(lambda: self._written(changes))
            self._report(trouble)
            left, lost = await self.in_thread(lambda: _fewer(left)) if left and not self._stopped else (left, [])
            self._changes = [*left, *self._changes]
            waiting = {change.run for change in (*left, *lost)}
            for change in changes:
                if isinstance(change, Ended | BrokenOff) and change.run not in waiting:
                    self._on_gone(change.run)
            self._give_up(lost)
        finally:
            self._writing = None
            self._waiting = sum(map(_size, self._changes))
            if self._changes:
                self._write_in(AGAIN if left else BATCH)

    def _written(self, changes: Sequence[Change]) -> tuple[list[Change], str]:
        """Write changes. Returns those that the file does not take now, and why."""
        try:
            if changes:
                self._archive.write(changes)
            return [], ""
        except Exception as error:
            if is_locked(error):
                return [*changes], str(error)
        return self._written_one_by_one(changes)

    def _written_one_by_one(self, changes: Sequence[Change]) -> tuple[list[Change], str]:
        left, trouble, refused = list[Change](), "", set[str]()
        for place, change in enumerate(changes):
            if change.run in refused:
                left.append(change)
                continue
            try:
                self._archive.write([change])
            except Exception as error:
                if not is_passing(error):
                    part = {Begun: "the request", Lines: "events"}.get(type(change), "the end")
                    log.error("%s of run %s cannot be stored\n%s", part, change.run, traceback_of(error))
                    if isinstance(change, Ended):
                        with suppress(Exception):
                            self._archive.write([BrokenOff(change.run)])  # else it would be in progress for ever
                    continue
                left.append(change)
                trouble = str(error)
                refused.add(change.run)
                if is_locked(error) or len(refused) >= MOST_REFUSED:
                    return [*left, *changes[place + 1 :]], trouble
        return left, trouble

    def _report(self, trouble: str) -> None:
        """Log that the store cannot be written, and that it can be again; once each."""
        if trouble and trouble != self._trouble:
            log.error("the run store cannot be written and will be retried: %s", trouble)
        elif self._trouble and not trouble:
            log.warning("the run store can be written again")
        self._trouble = trouble

    def _give_up(self, lost: Sequence[Change]) -> None:
        """Lose runs that have waited too long; what the archive has of them is marked as broken off."""
        runs = dict.fromkeys(change.run for change in lost)
        if not runs:
            return
        log.error("%s lost: the run store could not be written for too long", _count(runs))
        begun = {change.run for change in lost if isinstance(change, Begun)}
        for run in runs:
            self._on_gone(run)
            if run not in begun:
                self._changes.append(BrokenOff(run))


def _fewer(changes: Sequence[Change]) -> tuple[list[Change], list[Change]]:
    """The changes without those of the oldest ended runs, if more than :data:`MOST_UNSAVED` bytes wait; and the others."""
    sizes = dict[str, int]()
    for change in changes:
        sizes[change.run] = sizes.get(change.run, 0) + _size(change)
    surplus, lost = sum(sizes.values()) - MOST_UNSAVED, set[str]()
    for change in changes:
        if surplus > 0 and isinstance(change, Ended):
            lost.add(change.run)
            surplus -= sizes[change.run]
    return [change for change in changes if change.run not in lost], [
        change for change in changes if change.run in lost
    ]


def _size(change: Change) -> int:
    match change:
        case Begun():
            return PER_RUN + _length(change.request)
        case Lines():
            return sum(map(len, change.lines))
        case Ended():
            return len(change.answer.text)
    return 0


def _length(value: Any) -> int:
    """Characters of a JSON value, about."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(name) + _length(item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_length, value))
    return 8


def _count(runs: Sized) -> str:
    return "1 run is" if len(runs) == 1 else f"{len(runs)} runs are"
