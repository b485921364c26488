"""A client's connection: notice when the client disconnects, stream events to it, and keep it alive.

Notable decisions:
- A stream's status line waits for its first packet, so that a run that fails before it can still get an error status.
  After :data:`QUIET` seconds without a packet the stream starts anyway, with a comment, so that no proxy times out.
- Comments are part of every server-sent event stream, whatever its dialect; clients skip them. A dialect whose clients wait
  for events may send one of its own instead.
  https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from moa.closing import cancelled

QUIET = 10.0
"""Seconds without a packet after which the connection is kept alive. Codex waits 300 s for an event
(``stream_idle_timeout_ms``), Claude Code shows a stall after 20 s, and nginx closes a silent connection after 60 s."""

COMMENT = b": still at work\n\n"

T = TypeVar("T")


class ClientGone(Exception):
    """The client disconnected before it had its response."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled as soon as the client disconnects.

    Raises:
        ClientGone: the client disconnected.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        await cancelled(task, gone, grace=None)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream:
    """The response of one request as server-sent events.

    Args:
        send: of the request.
        keep_alive: writes the frame that is sent when there is nothing else to send.

    Attributes:
        headers: further headers; they can be set until the stream starts.
        started: whether the status has been sent.
    """

    def __init__(self, send: Send, keep_alive: Callable[[], bytes] = lambda: COMMENT) -> None:
        self.headers: Mapping[str, str] = {}
        self.started = False
        self._send, self._frame = send, keep_alive
        self._last_sent = time.monotonic()
        self._sending = asyncio.Lock()  # shared by the packets and the comments between them

    async def start(self) -> None:
        """Send the status and the headers, unless they have been sent."""
        if self.started:
            return
        self.started = True
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),  # without it nginx holds the stream back
            *((name.encode(), value.encode()) for name, value in self.headers.items()),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, packet: bytes) -> None:
        """Send one or more frames; the first packet starts the stream."""
        async with self._sending:
            self._last_sent = time.monotonic()
            await self.start()
            await self._send({"type": "http.response.body", "body": packet, "more_body": True})

    async def write_all(self, packets: AsyncGenerator[bytes, None]) -> None:
        """Send every packet, with comments in long pauses between them; ``packets`` is closed at the end."""
        async with aclosing(packets), self._kept_alive():
            async for packet in packets:
                await self.write(packet)

    async def end(self) -> None:
        """End the response."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    @asynccontextmanager
    async def _kept_alive(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._keep_alive())
        try:
            yield
        finally:
            await cancelled(task)

    async def _keep_alive(self) -> None:
        self._last_sent = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, self._last_sent + QUIET - time.monotonic()))
            if time.monotonic() - self._last_sent >= QUIET:
                await self.write(self._frame())


class StreamResponse(Response):
    """Packets as server-sent events, until they end or the client disconnects."""

    def __init__(self, packets: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self._packets = packets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientGone):
            await unless_gone(receive, self._stream(EventStream(send)))

    async def _stream(self, stream: EventStream) -> None:
        await stream.start()
        await stream.write_all(self._packets)
        await stream.end()
