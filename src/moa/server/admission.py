"""A limit on concurrent runs, with a bounded queue behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from moa.server.failures import Refusal


class Admission:
    """Slots for runs.

    Args:
        runs: concurrent runs.
        queue: requests that may wait for a slot; further ones are refused.

    Attributes:
        running, waiting: how many there are now.
    """

    def __init__(self, runs: int, queue: int) -> None:
        self.runs, self.queue = runs, queue
        self.running = self.waiting = 0
        self._free = asyncio.Semaphore(runs)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A slot for one run; waits until one is free.

        Raises:
            Refusal: 429, all slots are taken and the queue is full.
        """
        if self._free.locked() and self.waiting >= self.queue:
            message = f"the server is busy: {self.running} runs in progress and {self.waiting} queued; retry later"
            raise Refusal(429, message, "rate_limit_error", "busy", retry_after=1)
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._free.release()
