"""All batches of a server: they are begun, taken up after a restart, cancelled, and left to the next process at its end.

Notable decisions:
- Batches together have a quarter of the server's slots for runs. So there is always room for requests whose caller waits.
- A batch has one process. Other processes of the same store see its end, and take it where that process dies.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from contextlib import suppress

from moa.closing import AsyncClosing
from moa.errors import MoaError
from moa.server.batches.shelf_thread import ShelfThread
from moa.server.batches.work import Work
from moa.server.parts import Parts
from moa.store.batches import Batch
from moa.store.processes import BEAT, new_process
from moa.store.shelf import Shelf
from moa.tracebacks import traceback_of

SHARE = 4
"""Batches have one of so many slots for runs."""

BETWEEN_SWEEPS = 3600.0
"""Seconds after which files that have expired are deleted."""

log = logging.getLogger("moa.server")


class Running(AsyncClosing):
    """The batches that this process runs.

    Args:
        parts: of the server.
        shelf: where all batches are.
    """

    def __init__(self, parts: Parts, shelf: ShelfThread) -> None:
        self._parts, self._shelf, self._process = parts, shelf, new_process()
        self._most = max(1, parts.admission.runs // SHARE)
        self._slots = asyncio.Semaphore(self._most)
        self._works: dict[str, Work] = {}
        self._tasks = set[asyncio.Task[None]]()
        self._watching: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._swept = float("-inf")
        self._deadline: asyncio.TimerHandle | None = None
        self._stopping = False

    def start(self) -> None:
        """Take up the batches that an earlier process has left."""
        if self._shelf.exists:
            self.wake()

    def wake(self) -> None:
        """There is a new file, a new batch, or one to cancel."""
        self._woken.set()
        if self._watching is None and not self._stopping:
            self._watching = asyncio.create_task(self._watch())

    def stop_in(self, seconds: float) -> None:
        """Start no more rows, and end those in flight in so many seconds; a later call sets a new deadline."""
        self._stopping = True
        for work in self._works.values():
            work.stop("", at_once=False)
        if self._deadline:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._stop)

    def _stop(self) -> None:
        for work in self._works.values():
            work.stop("")

    async def aclose(self) -> None:
        """Wait until all rows in flight have ended; at once unless :meth:`stop_in` set a deadline."""
        self._stopping = True
        if self._watching:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        if self._deadline is None:
            self._stop()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._deadline:
            self._deadline.cancel()
        await asyncio.to_thread(self._shelf.close)

    async def _watch(self) -> None:
        """Take batches, and renew the heartbeat of those that run here."""
        said = ""
        while True:
            self._woken.clear()
            try:
                await self._look()
                said = ""
            except (sqlite3.Error, MoaError) as error:
                if said != (said := str(error)):
                    log.error("the store of batches failed: %s", said)
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._woken.wait()

    async def _look(self) -> None:
        held, has = set(self._works), self._parts.desk.has
        if time.monotonic() - self._swept > BETWEEN_SWEEPS:
            await self._shelf.do(Shelf.sweep)
            self._swept = time.monotonic()
        if not self._stopping:
            for batch in await self._shelf.do(lambda shelf: shelf.batches.claim(self._process, held, has)):
                self._begin(batch)
        for name in await self._shelf.do(lambda shelf: shelf.batches.beat(self._process)):
            if work := self._works.get(name):
                work.stop("cancelled")

    def _begin(self, batch: Batch) -> None:
        work = self._works[batch.id] = Work(batch, self._parts, self._shelf, self._slots, self._most)
        if self._stopping:
            work.stop("")
        task = asyncio.create_task(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Work) -> None:
        try:
            await work.run()
        except Exception as error:
            log.error("batch %s broke off on an internal error\n%s", work.batch.id, traceback_of(error))
        finally:
            del self._works[work.batch.id]
