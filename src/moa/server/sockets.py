"""Connections that only wait: for a client that sends nothing, or too slowly, or does not read.

Uvicorn closes a kept-alive connection that stays idle. It waits without end for the headers of a request, for a client that
does not read its response, and for the last bytes of a connection that it closes. So this server looks at all connections
once a second; nothing is added to the way of a request.

The number of connections has a bound. Above it, those that have waited longest for their client are dropped, so that idle
connections and slow requests keep nobody out. Where every connection is being answered, new ones get a 503.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import TypeAlias

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from moa.server.failures import Refusal, error_response

Connection: TypeAlias = HttpToolsProtocol | H11Protocol


class Stage(Enum):
    """What a connection waits for."""

    IDLE = auto()
    """The next request."""
    HEADERS = auto()
    """The rest of a request's headers, or the first request."""
    BODY = auto()
    """The rest of a request's body; the application has the deadline (see :mod:`moa.server.bodies`)."""
    REST = auto()
    """The rest of a body that was answered before its end (413)."""
    ANSWER = auto()
    """The server itself."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a connection may wait for its client.

    Attributes:
        headers: for the whole headers of a request, from its first byte; for the first request, from the connection's start.
        idle: between two requests. Longer than load balancers keep theirs (60 seconds at AWS), which would otherwise send a
            request just as the server closes.
            https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/config-idle-timeout.html
        rest: for the rest of a body that was answered already.
        write: without the client taking a byte of what waits to be sent.
    """

    headers: float = 10.0
    idle: float = 75.0
    rest: float = 10.0
    write: float = 30.0


class Sockets:
    """All connections of a server.

    Args:
        connections: those that are open; uvicorn adds and removes them.
        most: how many there may be.
    """

    def __init__(self, connections: set[Connection], most: int, deadlines: Deadlines | None = None) -> None:
        self._connections, self._most = connections, most
        deadlines = deadlines or Deadlines()
        self._write = deadlines.write
        self._seconds: Mapping[Stage, float] = {
            Stage.IDLE: deadlines.idle,
            Stage.HEADERS: deadlines.headers,
            Stage.REST: deadlines.rest,
        }
        self._watched: dict[Connection, _Watch] = {}

    def look(self, now: float | None = None) -> None:
        """Close every connection whose deadline has passed. ``now``: seconds of the monotonic clock."""
        now = time.monotonic() if now is None else now
        self._watched = {each: self._watched.get(each) or _Watch(now) for each in self._connections}
        for connection, watch in self._watched.items():
            if watch.stalled(connection, now) > self._write:
                connection.transport.abort()
            elif not connection.transport.is_closing():
                stage = stage_of(connection)
                if watch.waited(connection, stage, now) > self._seconds.get(stage, float("inf")):
                    _expire(connection, stage)

    def admit(self, connection: Connection) -> None:
        """Make room for a new connection, or refuse it."""
        if len(self._connections) <= self._most:
            return
        waiting = [
            (self._watched[each].since, number, each)
            for number, each in enumerate(self._connections)
            if each in self._watched and stage_of(each) is not Stage.ANSWER
        ]
        if not waiting:
            waiting = [
                (0.0, number, each)
                for number, each in enumerate(self._connections)
                if each is not connection and stage_of(each) is not Stage.ANSWER
            ]
        if waiting:
            waiting.sort()
            for _, _, oldest in waiting[: 1 + self._most // 32]:  # several at once: a flood costs one search for many
                self._connections.discard(oldest)
                oldest.transport.abort()
        else:
            message = "the server has too many connections; retry later"
            connection.transport.write(last_words(Refusal(503, message, "server_error", "busy", retry_after=1)))
            connection.transport.close()


def stage_of(connection: Connection) -> Stage:
    """What a connection waits for."""
    cycle = connection.cycle
    if cycle is None:
        return Stage.HEADERS
    if not cycle.response_complete:
        return Stage.BODY if cycle.more_body else Stage.ANSWER
    if connection.scope is not cycle.scope:
        return Stage.HEADERS
    return Stage.REST if cycle.more_body else Stage.IDLE


def last_words(refusal: Refusal) -> bytes:
    """A refusal as the bytes of a whole HTTP response, after which the connection closes."""
    response = error_response(refusal, {"connection": "close"})
    headers = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    status = f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\n".encode()
    return status + headers + b"\r\n" + bytes(response.body)


class _Watch:
    """What was seen of a connection, and when (in seconds of the monotonic clock)."""

    def __init__(self, now: float) -> None:
        self.since = self._moved = now
        self._turn: tuple[Stage, object] = (Stage.HEADERS, None)
        self._unsent = 0

    def waited(self, connection: Connection, stage: Stage, now: float) -> float:
        """Seconds in this stage of this request."""
        turn = (stage, connection.cycle)
        if turn != self._turn:
            self._turn, self.since = turn, now
        return now - self.since

    def stalled(self, connection: Connection, now: float) -> float:
        """Seconds without the client taking a byte of what waits to be sent."""
        transport: asyncio.Transport = connection.transport
        unsent = transport.get_write_buffer_size()
        # Only while nothing is added to the bytes that wait does their number tell whether the client reads.
        is_full = connection.flow.write_paused or transport.is_closing() or stage_of(connection) is not Stage.ANSWER
        if not unsent or not is_full or unsent < self._unsent:
            self._moved = now
        self._unsent = unsent
        return now - self._moved


def _expire(connection: Connection, stage: Stage) -> None:
    cycle = connection.cycle
    if stage is Stage.HEADERS and connection.scope is not (cycle and cycle.scope):
        message = "the request's headers did not arrive in time"
        connection.transport.write(last_words(Refusal(408, message, code="request_timeout")))
    connection.transport.close()
