"""Reading request bodies: how large one may be and all together, how long they may take, and where they are parsed.

Notable decisions:
- A body counts from its first packet until its request has been answered, since the parsed body lives that long. The first
  :data:`FREE` bytes of each are free, so that large bodies keep no small one out.
- A large body is parsed in a thread, and one after another: a parser holds the interpreter's lock, and several of them
  would take turns with each other rather than with the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request

from moa.server.body import is_simple, values_in
from moa.server.failures import Refusal

FREE = 65536
"""Bytes of each body that do not count."""

BYTES_PER_VALUE = 100
"""Memory of a parsed value, beside its text."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """How slowly a body may arrive.

    Attributes:
        pause: seconds between two packets.
        start: seconds for a whole body, and one more for every ``rate`` bytes of it.
    """

    pause: float = 15.0
    start: float = 30.0
    rate: float = 65536.0


class Bodies:
    """The bodies of all requests that are in progress.

    Args:
        most_each: bytes that one may have.
        most_together: bytes that all of them may take, parsed.
        pace: see :class:`Pace`.

    Attributes:
        held: bytes that they take now.
    """

    def __init__(self, most_each: int, most_together: int, pace: Pace | None = None) -> None:
        self.most_each, self.most_together, self._pace = most_each, most_together, pace or Pace()
        self.held = 0
        self._worker = ThreadPoolExecutor(1, "bodies")

    async def parsed(self, request: Request, parse: Callable[[bytes], T]) -> T:
        """The request's body, parsed.

        Raises:
            Refusal: as :meth:`_read` does, and as ``parse`` does.
        """
        held = _Held(self)
        # The request's task ends when its response has been sent.
        if task := asyncio.current_task():
            task.add_done_callback(lambda _: held.grow_to(0))
        data = await self._read(request, held)
        if is_simple(data):
            return parse(data)
        values = await self.apart(lambda: values_in(data))
        held.grow_to(len(data) - FREE + BYTES_PER_VALUE * values)
        return await self.apart(lambda: parse(data))

    async def apart(self, work: Callable[[], T]) -> T:
        """The result of work on a large body, done in the thread for it."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def _read(self, request: Request, held: _Held) -> bytes:
        """The request's body.

        Raises:
            Refusal: 400, its length is no number; 408, it arrives too slowly; 413, it is too large; 415, it is compressed;
                503, all bodies together are too large.
        """
        too_large = Refusal(413, f"the body is larger than {self.most_each} bytes", code="request_too_large")
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or len(length) > 18:
            raise Refusal(400, "content-length is not a number")
        if int(length) > self.most_each:
            raise too_large
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            message = f"content-encoding {encoding[:40]!r} is not supported: send the body uncompressed"
            raise Refusal(415, message, code="unsupported_encoding")
        packets, size, pace = list[bytes](), 0, self._pace
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(pace.pause) as deadline:
                async for packet in request.stream():
                    packets.append(packet)
                    size += len(packet)
                    if size > self.most_each:
                        raise too_large
                    held.grow_to(max(0, size - FREE))
                    deadline.reschedule(min(loop.time() + pace.pause, began + pace.start + size / pace.rate))
        except TimeoutError:
            message = f"the body did not arrive in time: {size} bytes in {loop.time() - began:.0f} seconds"
            raise Refusal(408, message, code="request_timeout") from None
        return b"".join(packets)

    def close(self) -> None:
        """End the thread."""
        self._worker.shutdown(wait=False, cancel_futures=True)


class _Held:
    """What one request holds of the memory for all bodies."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._size = bodies, 0

    def grow_to(self, size: int) -> None:
        """Hold so many bytes.

        Raises:
            Refusal: 503, they are more than before, and more than there are.
        """
        together = self._bodies.held + size - self._size
        if size > self._size and together > self._bodies.most_together:
            message = "the bodies of all requests in progress are too large together; retry later"
            raise Refusal(503, message, "server_error", "busy", retry_after=5)
        self._bodies.held, self._size = together, size
