"""The server as a process: its connections, the signals that end it, and a shutdown that loses nothing."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from moa.server.http10 import Protocol
from moa.server.parts import Parts
from moa.server.sockets import Connection, Deadlines, Sockets

if sys.platform != "win32":
    import resource

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]

MOST_DESCRIPTORS = 65536
"""Files and sockets that the process may open; many systems allow 1,024 unless a process asks for more."""

LAST_WORDS = 0.25
"""Seconds in which those who follow a run that was stopped get its last events."""


class GracefulServer(uvicorn.Server):
    """Uvicorn with a shutdown that finishes requests in flight and ends with exit code 0.

    SIGTERM, SIGINT (Ctrl-C) and SIGHUP start the shutdown, also before the server runs. A second signal ends it at once.

    Args:
        app: of :func:`~moa.server.app.create_app`.
        drain: seconds in which ``/readyz`` answers 503 and everything else goes on.
        grace: seconds for requests in flight after that.
        on_notice: receives a line for the operator when the shutdown starts.
    """

    def __init__(self, app: FastAPI, *, drain: float, grace: float, on_notice: Callable[[str], None]) -> None:
        class Watched(Protocol):
            pass

        config = uvicorn.Config(
            app,
            http=Watched,
            ws="none",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            log_config=None,
            lifespan="on",
            timeout_keep_alive=round(Deadlines().idle),
            timeout_graceful_shutdown=math.ceil(grace + 5),  # for tasks that ignore their cancellation
        )
        super().__init__(config)
        self._parts: Parts = app.state.parts
        admission = self._parts.admission
        self._sockets = Watched.sockets = Sockets(
            cast("set[Connection]", self.server_state.connections), _most_connections(admission.runs + admission.queue)
        )
        self._drain, self._grace, self._on_notice = drain, grace, on_notice
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Handle the signals. They are handled before the loop runs, so a handler sets no more than flags."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in before.items():
            if number in (signal.SIGTERM, signal.SIGINT) or handler is not signal.SIG_IGN:  # `nohup` ignores SIGHUP
                signal.signal(number, self._stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        if self.force_exit and self._loop:
            self._loop.call_soon_threadsafe(self._cut_off)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # see signals()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            self._sockets.look()
        return await super().on_tick(counter)

    async def main_loop(self) -> None:
        await super().main_loop()
        self._parts.shutdown.announced = True
        with suppress(OSError):  # after SIGHUP there is no terminal
            self._on_notice("shutting down: finishing requests in flight (press Ctrl-C again to stop immediately)")
        for counter in range(round(self._drain * 10)):
            if not self.force_exit:
                await asyncio.sleep(0.1)
                await self.on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._parts.stop_in(self._grace)
        end = asyncio.get_running_loop().call_later(self._grace, self._cut_off)
        await super().shutdown(sockets)
        end.cancel()
        if self.force_exit:  # uvicorn has waited for nothing
            self._cut_off()
            if requests := self._parts.shutdown.requests:
                await asyncio.wait(requests, timeout=1 + LAST_WORDS)
            await self.lifespan.shutdown()  # saves what the runs in flight have said

    def _cut_off(self) -> None:
        """End all runs now, then the requests in flight, then all connections: each a moment after its cause."""
        loop = asyncio.get_running_loop()
        self._parts.stop_in(0)
        loop.call_later(LAST_WORDS, self._parts.shutdown.cancel_requests)
        loop.call_later(1 + LAST_WORDS, self._abort)

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _most_connections(requests: int) -> int:
    """How many connections a server of so many concurrent requests accepts: twice as many, and a thousand others (pages
    that follow runs, clients between two requests), but at most two thirds of what the system lets this process open."""
    most = 1024 + 2 * requests
    if sys.platform != "win32":
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
        most = min(most, descriptors * 2 // 3)
    return most
