"""All runs: those in progress here, those that other processes run, and those in the archive.

Notable decisions:
- A recording stays in memory until its last line is in the archive. Line numbers are the same in both.
- Reading has a connection and a thread of its own: it does not wait for a write that waits for a locked file.
- A run that another process runs is read from the archive, and that process is asked through the archive to stop it.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from moa.store.archive import Archive, Row, SavedRun
from moa.store.backlog import Backlog
from moa.store.changes import Begun
from moa.store.heartbeat import Heartbeat
from moa.store.processes import FOLLOWED_FOR, Wishes
from moa.store.recording import PACKET, Recording

POLL = 0.2
"""Seconds between two looks at a run that another process runs."""

PATIENCE = 20.0
"""Seconds to wait for another process to stop a run."""

SETTLING = 1.0
"""Seconds to wait for changes that are being written before they are shown."""

BETWEEN_SWEEPS = 3600.0
"""Seconds after which runs that have become too old are deleted, if nothing else happens."""

log = logging.getLogger("moa.server")

T = TypeVar("T")


class NotStopped(Exception):
    """The process that runs a run did not stop it in time."""


class Recordings:
    """All runs. :meth:`aclose` closes the archive, too.

    ``owner`` in all methods is the name of an API key; runs of other owners count as missing.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive, self._reader = archive, archive.beside()
        self._backlog = Backlog(archive, self._gone)
        self._thread = ThreadPoolExecutor(1, "archive reader") if self._reader is not archive else None
        self._recent: dict[str, Recording] = {}
        self._claims: set[str] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._heartbeat: Heartbeat | None = None
        self._sweeping: asyncio.TimerHandle | None = None

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
        """A recording for a run that is about to start; for the arguments see :class:`~moa.store.changes.Begun`."""

        def start(recording: Recording, run: str, at: float) -> Begun:
            begun = Begun(run, owner, at, model, request, mixture, continues, request_id)
            self._recent[run] = recording
            self._claims.discard(continues or "")  # it ends with this run
            self._backlog.add(begun)
            self._beat()
            return begun

        return Recording(start, self._backlog.add)

    async def room(self) -> None:
        """Wait until the runs that have ended leave room for another: memory has a bound where they end faster than the disk
        takes them. It does not wait for an archive that cannot be written."""
        await self._backlog.room()

    def sweep_hourly(self) -> None:
        """Delete old runs from time to time, also while nothing is written."""
        self._sweeping = asyncio.get_running_loop().call_later(BETWEEN_SWEEPS, self._sweep)

    def _sweep(self) -> None:
        self.sweep_hourly()
        self._in_background(self._archive.sweep)

    async def settle(self) -> None:
        """Write all queued changes now. A failure is logged and retried later."""
        await self._backlog.settle()

    async def share(self) -> None:
        """Write all queued changes now, so that other processes see them, unless that takes long."""
        if not self._backlog.is_stuck:
            await asyncio.wait([asyncio.ensure_future(self.settle())], timeout=SETTLING)

    def _gone(self, run: str) -> None:
        self._recent.pop(run, None)
        self._beat()

    def _in_background(self, work: Callable[[], None]) -> None:
        """Do something in the thread that writes to the archive. It does not matter much if it fails."""

        async def done() -> None:
            with suppress(sqlite3.Error):
                await self._backlog.in_thread(work)

        self._spawn(done())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _read(self, work: Callable[[Archive], T]) -> T:
        if self._thread is None:
            return await self._backlog.in_thread(lambda: work(self._archive))
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._reader))

    # -- reading -----------------------------------------------------------------------------------------------------

    async def rows(self, owner: str, *, search: str = "", before: int | None = None, limit: int = 50) -> list[Row]:
        """Runs of an owner for a list, the latest first; for the arguments see :meth:`Archive.rows`."""
        await self.share()
        rows = await self._read(lambda archive: archive.rows(owner, search=search, before=before, limit=limit))
        return [replace(row, outcome=self._recent[row.run].outcome) if row.run in self._recent else row for row in rows]

    def recent(self, run: str, owner: str) -> Recording | None:
        """The recording of a run that is in progress here, or that is not yet in the archive; None if there is none."""
        recording = self._recent.get(run)
        return recording if recording and recording.begun and recording.begun.owner == owner else None

    async def saved(self, run: str, owner: str) -> SavedRun | None:
        """A run up to now; None if there is none."""
        if not run.isascii():
            return None  # no ID, and SQLite cannot look for half of a surrogate pair
        if (recording := self.recent(run, owner)) and recording.begun:
            return SavedRun(recording.begun, recording.outcome, recording.lines[:])
        saved = await self._read(lambda archive: archive.saved(run, owner))
        if saved and saved.outcome == "running":
            self._ask_to_follow(run)  # the next look finds more
        return saved

    async def follow(self, run: str, after: int = 0) -> AsyncGenerator[tuple[int, list[bytes]], None]:
        """The lines of a run as they arrive, wherever it runs, as :meth:`Recording.follow` gives them.

        It ends with the run, or with the process that runs it. The last line comes when other processes see the end, too.
        """
        if recording := self._recent.get(run):
            async with aclosing(recording.follow(after)) as groups:
                async for group in groups:
                    if recording.has_ended:
                        await self.share()
                    yield group
            return
        loop, asked = asyncio.get_running_loop(), 0.0
        while True:
            outcome, lines = await self._read(partial(_since, run=run, after=after))
            for start in range(0, len(lines), PACKET):
                yield after + start + 1, lines[start : start + PACKET]
            after += len(lines)
            if outcome != "running":
                return
            if loop.time() - asked > FOLLOWED_FOR / 2:
                self._ask_to_follow(run)
                asked = loop.time()
            await asyncio.sleep(POLL)

    # -- stopping, deleting, continuing ------------------------------------------------------------------------------

    async def stop(self, run: str, owner: str) -> bool:
        """Stop a run if it is in progress, here or in another process. False if there is none.

        Raises:
            NotStopped: the other process did not stop it.
        """
        if recording := self.recent(run, owner):
            await recording.stop()
            await self.share()
            return True
        saved = await self.saved(run, owner)
        if saved and saved.outcome == "running":
            await self._stop_elsewhere(run)
        return saved is not None

    async def delete(self, run: str, owner: str) -> bool:
        """Stop a run if it is in progress, here or in another process, and delete it. False if there is none.

        Raises:
            NotStopped: the other process did not stop it.
        """
        if not await self.stop(run, owner):
            return False
        if run in self._recent:
            await self.settle()
            self._gone(run)
            self._backlog.remove(run)
        await self._backlog.in_thread(lambda: self._archive.delete(run))
        return True

    async def rate(self, run: str, owner: str, rating: str | None, note: str = "") -> bool:
        """Rate a run; for the arguments see :meth:`Archive.rate`. False if there is none.

        Raises:
            sqlite3.Error: the archive cannot be written.
        """
        if run in self._recent:
            await self.settle()
        return await self._backlog.in_thread(lambda: self._archive.rate(run, owner, rating, note))

    async def claim(self, run: str) -> bool:
        """Claim the right to continue a run. False while it is in progress, or continued already, in any process.

        The claim ends with the run that continues it, or with :meth:`release`.
        """
        if run in self._claims or (run in self._recent and not self._recent[run].has_ended):
            return False
        self._claims.add(run)
        self._beat()
        try:
            await self.share()  # the end of a run that continued it
            claiming = asyncio.create_task(self._backlog.in_thread(lambda: self._archive.claim(run)))
            try:
                claimed = await asyncio.shield(claiming)
            except asyncio.CancelledError:  # the client has hung up
                if await claiming:
                    await self._backlog.in_thread(lambda: self._archive.release(run))
                raise
        except BaseException:
            self._claims.discard(run)
            raise
        if not claimed:
            self._claims.discard(run)
        return claimed

    async def release(self, run: str) -> None:
        """Give up a claim whose run did not start; does nothing where it did."""
        if run in self._claims:
            self._claims.discard(run)
            self._beat()
            await self._backlog.in_thread(lambda: self._archive.release(run))

    async def _stop_elsewhere(self, run: str) -> None:
        await self._backlog.in_thread(lambda: self._archive.ask_to_stop(run))
        until = asyncio.get_running_loop().time() + PATIENCE
        while await self._read(lambda archive: archive.outcome(run)) == "running":
            if asyncio.get_running_loop().time() > until:
                raise NotStopped(run)
            await asyncio.sleep(POLL)

    def _ask_to_follow(self, run: str) -> None:
        self._in_background(lambda: self._archive.ask_to_follow(run))

    # -- other processes ---------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Let the heart beat while other processes need to know of this one."""
        if self._archive.path is None:
            return
        if self._heartbeat is None:
            loop = asyncio.get_running_loop()

            def on_wishes(wishes: Wishes) -> None:
                with suppress(RuntimeError):  # the loop has just been closed
                    loop.call_soon_threadsafe(self._grant, wishes)

            self._heartbeat = Heartbeat(self._archive.path, self._archive.process, on_wishes)
        self._heartbeat.has_runs(bool(self._recent or self._claims))

    def _grant(self, wishes: Wishes) -> None:
        """Do what other processes want."""
        for run in wishes.stop:
            if (recording := self._recent.get(run)) and not (recording.has_ended or recording.stopping):
                self._spawn(recording.stop())
        for run in wishes.followed:
            if recording := self._recent.get(run):
                recording.flush()

    # -- ending ------------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Cancel all runs in progress, write everything, and close the archive."""
        await asyncio.gather(*(recording.cancel() for recording in [*self._recent.values()]))
        await self.settle()
        await self._backlog.stop()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Write everything and close the archive, without an event loop. Nothing may be recorded afterwards."""
        if self._sweeping:
            self._sweeping.cancel()
        if self._heartbeat:
            self._heartbeat.close()
        if self._thread:
            self._thread.shutdown()
            self._reader.close()
        self._backlog.close()


def _since(archive: Archive, run: str, after: int) -> tuple[str | None, list[bytes]]:
    """The outcome of a run, and the lines after this one; read in this order, an end comes with all its lines."""
    return archive.outcome(run), archive.lines(run, after)
