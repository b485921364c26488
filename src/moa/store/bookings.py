"""The ledger as a server uses it: off the event loop, and patient with a file that is locked.

Notable decisions:
- A thread of its own works off everything in the order in which it came, as many entries in one transaction as there are.
- A booking that cannot be written stays in memory and is tried again until it can be. A request that wants to begin waits
  for the file, for at most :data:`LONGEST_WAIT` seconds: no limit is passed because the file is locked.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from moa.closing import Closing
from moa.store.ledger import LEASE, PATIENCE, Claim, Ledger, OverLimit

LONGEST_WAIT = 15.0
"""Seconds that a request waits for a file that cannot be written."""

LATER = 0.25
"""Seconds after which the dollars of keys without limits are booked."""

UNSAID = 1.0
"""Seconds of failure after which the log says so."""

CLOSING = 5.0
"""Seconds after which bookings that cannot be written are given up when the server ends."""

log = logging.getLogger("moa.server")


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that waits for its verdict."""

    claim: Claim
    answer: Callable[[OverLimit | sqlite3.Error | None], None]
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class _End:
    """A request ended and cost so many dollars; None: it did not run. ``claim`` is None where the key has no limit."""

    key: str
    claim: Claim | None
    dollars: float | None


_Entry = _Request | _End


class Bookings(Closing):
    """Admits requests of keys with limits, and books what requests cost.

    Args:
        ledger: used by nobody else in this process; closed at the end.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._queue: SimpleQueue[_Entry | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._held: dict[str, Claim] = {}
        self._unbooked: dict[str, float] = {}
        self._failing: float | None = None  # since when
        self._said = False

    async def claim(self, claim: Claim) -> OverLimit | None:
        """Wait for the ledger; None where the request may begin. Then :meth:`settle` or :meth:`release` must follow.

        Raises:
            sqlite3.Error: the file could not be written for too long.
        """
        loop = asyncio.get_running_loop()
        verdict: asyncio.Future[OverLimit | None] = loop.create_future()

        def deliver(result: OverLimit | sqlite3.Error | None) -> None:
            if verdict.done():
                return
            if isinstance(result, sqlite3.Error):
                verdict.set_exception(result)
            else:
                verdict.set_result(result)

        def answer(result: OverLimit | sqlite3.Error | None) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(deliver, result)

        self._put(_Request(claim, answer))
        try:
            return await verdict
        except asyncio.CancelledError:
            self.release(claim)
            raise

    def settle(self, claim: Claim, dollars: float) -> None:
        """The request has ended and cost so many US dollars."""
        self._put(_End(claim.key, claim, dollars))

    def release(self, claim: Claim) -> None:
        """The request did not run: it counts for no limit."""
        self._put(_End(claim.key, claim, None))

    def spend(self, key: str, dollars: float) -> None:
        """Book US dollars of a request without a claim, with those of the next moments."""
        if not dollars:
            return
        if not self._unbooked:
            asyncio.get_running_loop().call_later(LATER, self._book)
        self._unbooked[key] = self._unbooked.get(key, 0.0) + dollars

    def _book(self) -> None:
        unbooked, self._unbooked = self._unbooked, {}
        for key, dollars in unbooked.items():
            self._put(_End(key, None, dollars))

    def close(self) -> None:
        """Write everything and close the ledger. What cannot be written within :data:`CLOSING` seconds is logged."""
        self._book()
        if self._thread:
            self._queue.put(None)
            self._thread.join()
        self._ledger.close()

    def _put(self, entry: _Entry) -> None:
        self._queue.put(entry)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="moa-bookings", daemon=True)
            self._thread.start()

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        entries: list[_Entry] = []
        closing: float | None = None  # when to give up
        renewed = time.monotonic()
        while True:
            more, ends = self._taken(wait=None if entries or closing else LEASE / 3 if self._held else -1.0)
            entries += more
            if ends and closing is None:
                closing = time.monotonic() + CLOSING
            due = bool(self._held) and time.monotonic() - renewed > LEASE / 3
            if entries or due:
                began = time.monotonic()
                entries = self._written(entries, renew=due)
                if self._failing:
                    time.sleep(max(0.0, began + PATIENCE - time.monotonic()))  # a full disk fails at once
                elif due:
                    renewed = began
            if closing and (not entries or time.monotonic() > closing):
                self._give_up(entries)
                return

    def _taken(self, wait: float | None) -> tuple[list[_Entry], bool]:
        """All entries that have come, and whether it is time to end. ``wait``: seconds; None: none; below 0: for ever."""
        taken: list[_Entry | None] = []
        with suppress(Empty):
            if wait is not None:
                taken.append(self._queue.get(timeout=None if wait < 0 else wait))
            while True:
                taken.append(self._queue.get_nowait())
        return [entry for entry in taken if entry], None in taken

    def _written(self, entries: list[_Entry], *, renew: bool) -> list[_Entry]:
        """Write entries in one transaction; returns those that are to be tried again."""
        held = dict(self._held)
        verdicts: list[tuple[_Request, OverLimit | None]] = []
        try:
            with self._ledger.transaction():
                for entry in entries:
                    self._write(entry, held, verdicts)
                if renew:
                    self._ledger.renew(held.values())
        except sqlite3.Error as error:
            self._failing = self._failing or time.monotonic()
            if not self._said and time.monotonic() - self._failing > UNSAID:
                self._said = True
                log.error("the run store cannot be written, so requests of keys with limits wait: %s", error)
            return self._patient(entries, error)
        if self._said:
            log.error("the run store can be written again; every cost is booked")
        self._failing, self._said, self._held = None, False, held
        for request, verdict in verdicts:
            request.answer(verdict)
        return []

    def _write(self, entry: _Entry, held: dict[str, Claim], verdicts: list[tuple[_Request, OverLimit | None]]) -> None:
        match entry:
            case _Request(claim=claim):
                verdict = self._ledger.admit(claim)
                if verdict is None:
                    held[claim.id] = claim
                verdicts.append((entry, verdict))
            case _End(claim=None, dollars=dollars):
                self._ledger.spend(entry.key, dollars or 0.0)
            case _End(claim=Claim() as claim, dollars=None):
                if held.pop(claim.id, None):
                    self._ledger.release(claim)
            case _End(claim=Claim() as claim, dollars=float() | int() as dollars):
                held.pop(claim.id, None)
                self._ledger.settle(claim, dollars)

    def _patient(self, entries: list[_Entry], error: sqlite3.Error) -> list[_Entry]:
        """The entries without the requests that have waited for too long, which get the error."""
        kept: list[_Entry] = []
        for entry in entries:
            if isinstance(entry, _Request) and time.monotonic() - entry.since > LONGEST_WAIT:
                entry.answer(error)
            else:
                kept.append(entry)
        return kept

    def _give_up(self, entries: list[_Entry]) -> None:
        lost: dict[str, float] = {}
        for entry in entries:
            if isinstance(entry, _End) and entry.dollars:
                lost[entry.key] = lost.get(entry.key, 0.0) + entry.dollars
        for key, dollars in lost.items():
            log.error("the run store could not be written: $%g spent by key %s is not counted", dollars, key)
