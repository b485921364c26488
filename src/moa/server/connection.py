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

    Packets wait here until the client takes them: a run does not wait for its reader, and its slot is free when it ends.

    Args:
        send: of the request.
        keep_alive: writes the frame that is sent when there is nothing else to send.
        most_unsent: bytes that may wait; :meth:`write` waits while there are more.

    Attributes:
        headers: further headers; they can be set until the stream starts.
        started: whether the response is a stream by now.
    """

    def __init__(self, send: Send, keep_alive: Callable[[], bytes] = lambda: COMMENT, most_unsent: int = 2**16) -> None:
        self.headers: Mapping[str, str] = {}
        self.started = False
        self._send, self._frame, self._most_unsent = send, keep_alive, most_unsent
        self._packets: list[bytes] = []
        self._unsent = 0
        self._last_sent = time.monotonic()
        self._ended = False
        self._news, self._room = asyncio.Event(), asyncio.Event()

    def start(self) -> None:
        """Send the status and the headers now; otherwise they wait for the first packet."""
        self.started = True
        self._news.set()

    async def write(self, packet: bytes) -> None:
        """Send frames, if there are any."""
        if not packet:
            return
        self._packets.append(packet)
        self._unsent += len(packet)
        self.start()
        while self._unsent > self._most_unsent:
            self._room.clear()
            await self._room.wait()

    @asynccontextmanager
    async def sent(self) -> AsyncIterator[None]:
        """Send in the background what is written, and comments in long pauses; at the end, wait until all is sent."""
        sending, comments = asyncio.create_task(self._send_all()), asyncio.create_task(self._keep_alive())
        try:
            yield
            if self.started:
                self._ended = True
                self._news.set()
                await sending
        finally:
            await cancelled(sending, comments)

    async def _send_all(self) -> None:
        await self._news.wait()
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),  # without it nginx holds the stream back
            *((name.encode(), value.encode()) for name, value in self.headers.items()),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        while not self._ended or self._packets:
            if packet := b"".join(self._packets):
                self._packets.clear()
                self._last_sent = time.monotonic()
                await self._send({"type": "http.response.body", "body": packet, "more_body": True})
                self._unsent -= len(packet)
                self._room.set()
            else:
                self._news.clear()
                await self._news.wait()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_alive(self) -> None:
        self._last_sent = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, self._last_sent + QUIET - time.monotonic()))
            if time.monotonic() - self._last_sent >= QUIET:
                self._last_sent = time.monotonic()
                if not self._packets:
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
        async with stream.sent(), aclosing(self._packets) as packets:
            stream.start()
            async for packet in packets:
                await stream.write(packet)
