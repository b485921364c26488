"""The work on one batch: check its file, answer its rows, write its files.

Every row is answered once. What a process that ended has answered is on the shelf, and so are the proposals of its rows in
flight.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial

import msgspec

from moa.server.batches.lines import Check, Line, expired_line, numbered
from moa.server.batches.rows import Kept, Later, Proposals, RowAnswer, answer_of_row
from moa.server.batches.shelf_thread import ShelfThread
from moa.server.correlation import REQUEST_ID
from moa.server.parts import Parts
from moa.store.batches import Batch
from moa.store.shelf import Shelf


class Work:
    """The work on one batch.

    Args:
        parts: of the server, which answer the rows.
        shelf: where the batch is.
        slots: of all batches together; a row holds one while it is answered.
        rows: of this batch that may be in flight or wait for a limit.

    Attributes:
        batch: as it is on the shelf.
    """

    def __init__(self, batch: Batch, parts: Parts, shelf: ShelfThread, slots: asyncio.Semaphore, rows: int) -> None:
        self.batch = batch
        self._parts, self._shelf, self._slots, self._room = parts, shelf, slots, asyncio.Semaphore(rows)
        self._rows = set[asyncio.Task[None]]()
        self._feeding: asyncio.Task[None] | None = None
        self._end, self._stopped = "", asyncio.Event()
        self._failure: BaseException | None = None

    def stop(self, status: str, *, at_once: bool = True) -> None:
        """Start no more rows, and end those in flight, or let them finish.

        Args:
            status: that the batch gets; empty: it is left to the next process.
        """
        self._end = self._end or status or "left"
        self._stopped.set()
        if self._feeding:
            self._feeding.cancel()
        for row in self._rows if at_once else ():
            row.cancel()

    async def run(self) -> None:
        """Do it; or what is left of it.

        Raises:
            sqlite3.Error: the shelf cannot be written; the batch is left as it is.
        """
        REQUEST_ID.set(self.batch.id)
        if self.batch.status == "validating" and not self._end and not await self._is_valid():
            return
        left = asyncio.get_running_loop().call_later(
            max(0.0, self.batch.expires - time.time()), lambda: self.stop("expired")
        )
        try:
            if not self._end:
                self._feeding = asyncio.create_task(self._feed())
                await asyncio.wait([self._feeding])
                if not self._feeding.cancelled():
                    self._failure = self._feeding.exception()
            while self._rows:
                await asyncio.wait(self._rows)
        finally:
            left.cancel()
        if self._failure:
            raise self._failure
        if self._end == "left" and not await self._is_answered():
            await self._shelf.do(lambda shelf: shelf.batches.release(self.batch.id))
            return
        await self._finish(self._end if self._end in ("cancelled", "expired") else "completed")

    async def _is_answered(self) -> bool:
        """Whether every row is."""
        batch = await self._shelf.do(lambda shelf: shelf.batches.of_id(self.batch.id))
        return batch.status != "validating" and batch.completed + batch.failed == batch.total

    async def _is_valid(self) -> bool:
        """Check the file; a batch of one that is wrong has failed."""
        batch, check = self.batch, Check(self._parts.bodies.most_each)
        async with aclosing(self._lines()) as groups:
            async for group in groups:
                await asyncio.to_thread(check.add, group)
                if check.is_enough or self._end:
                    break
        if self._end:
            return True
        check.end()
        if check.errors:
            batch.errors = check.errors
            await self._finish("failed")
            return False
        batch.total, batch.model = check.rows, check.model
        await self._reach("in_progress")
        return True

    async def _lines(self) -> AsyncGenerator[list[tuple[int, bytes]], None]:
        """The lines of the input with their numbers, in groups."""
        file = await self._shelf.do(lambda shelf: shelf.number_of(self.batch.input_file))
        held, lines, place = list[bytes](), 0, 0
        while piece := await self._shelf.do(partial(Shelf.piece, file=file, place=place)):
            place += 1
            whole, mark, rest = piece.rpartition(b"\n")
            if mark:
                text = b"".join([*held, whole])
                yield numbered(text, lines)
                lines, held = lines + text.count(b"\n") + 1, []
            held.append(rest)
        yield numbered(b"".join(held), lines)

    async def _feed(self) -> None:
        """Start the rows that are not answered yet, as there is room for them."""
        answered = await self._shelf.do(lambda shelf: shelf.batches.answered(self.batch.id))
        async with aclosing(self._lines()) as groups:
            async for group in groups:
                for number, data in group:
                    if number not in answered:
                        await self._room.acquire()
                        row = asyncio.create_task(self._one(number, data))
                        self._rows.add(row)
                        row.add_done_callback(self._row_ended)

    def _row_ended(self, row: asyncio.Task[None]) -> None:
        self._rows.discard(row)
        self._room.release()
        if not row.cancelled() and (error := row.exception()):
            self._failure = self._failure or error
            self.stop("")

    async def _one(self, number: int, data: bytes) -> None:
        """Answer a row, and record it."""
        line = msgspec.json.decode(data, type=Line)
        record = await self._shelf.do(lambda shelf: shelf.batches.kept(self.batch.id, number))
        before = msgspec.json.decode(record, type=Proposals) if record else Proposals()
        kept = Kept(before, partial(self._keep, number))
        while not self._end:
            try:
                async with self._slots:
                    if self._end:
                        return
                    answer = await answer_of_row(self._parts, self.batch.owner, line.custom_id, bytes(line.body), kept)
                    await self._record(number, answer)
                    return
            except Later as later:
                with suppress(TimeoutError):
                    async with asyncio.timeout(later.seconds):
                        await self._stopped.wait()

    async def _record(self, number: int, answer: RowAnswer) -> None:
        await self._shelf.do(
            lambda shelf: shelf.batches.answer(self.batch.id, number, answer.line, answer.usage, failed=answer.failed)
        )

    def _keep(self, number: int, proposals: Proposals) -> None:
        """Write the proposals of a row soon, without a wait: what is recorded later is written later."""
        record = msgspec.json.encode(proposals)
        self._shelf.later(lambda shelf: shelf.batches.keep(self.batch.id, number, record))

    async def _finish(self, status: str) -> None:
        """The batch gets its files and its last status."""
        batch = self.batch
        if status == "expired":
            await self._expire_rows()
        if status in ("completed", "expired"):
            await self._reach("finalizing")
        else:
            await self._shelf.do(lambda shelf: shelf.batches.save(batch))
        await self._shelf.do(lambda shelf: shelf.end(batch.id, status))

    async def _reach(self, status: str) -> None:
        self.batch.status = status
        self.batch.times[status] = time.time()
        await self._shelf.do(lambda shelf: shelf.batches.save(self.batch))

    async def _expire_rows(self) -> None:
        """Rows that are not answered get an error that says so."""
        answered = await self._shelf.do(lambda shelf: shelf.batches.answered(self.batch.id))
        async with aclosing(self._lines()) as groups:
            async for group in groups:
                for number, data in group:
                    if number not in answered:
                        line = expired_line(msgspec.json.decode(data, type=Line).custom_id, uuid.uuid4().hex)
                        await self._record(number, RowAnswer(line, failed=True))
