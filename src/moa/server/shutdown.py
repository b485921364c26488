"""The end of a server: what it still accepts, and what becomes of the requests that it cannot finish.

In this order: ``/readyz`` answers 503, so that load balancers send no more requests; the listener closes, and requests in
flight go on; those that are still in flight when their time is over get a 503, or an error event where they stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moa.server.failures import Refusal


class Shutdown:
    """How far the server's end has come.

    Attributes:
        announced: ``/readyz`` answers 503.
        closed: no run of the server's own starts.
        cut_off: requests in flight have been cancelled.
    """

    def __init__(self) -> None:
        self.announced = self.closed = self.cut_off = False
        self.requests = set[asyncio.Task[None]]()

    @property
    def refusal(self) -> Refusal:
        """What callers get."""
        return Refusal(503, "the server is shutting down; retry on another instance", "server_error", "stopping")

    def cancel_requests(self) -> None:
        """Cancel every request in flight; its response is :attr:`refusal`."""
        self.announced = self.closed = self.cut_off = True
        for task in list(self.requests):
            task.cancel()


class CutOff:
    """ASGI middleware that ends the response of a request that a shutdown cancels.

    Args:
        answer: makes the response of a refused request to this path.
    """

    def __init__(self, app: ASGIApp, shutdown: Shutdown, answer: Callable[[str, Refusal], Response]) -> None:
        self._app, self._shutdown, self._answer = app, shutdown, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self._app(scope, receive, send)
            return
        self._shutdown.requests.add(task)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._shutdown.cut_off:
                raise
            while task.cancelling():
                task.uncancel()
            await self._end(scope, receive, send)
        finally:
            self._shutdown.requests.discard(task)

    async def _end(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the refusal, or end the response that has started. The server raises RuntimeError for what comes too late."""
        try:
            await self._answer(scope["path"], self._shutdown.refusal)(scope, receive, send)
        except RuntimeError:
            with suppress(RuntimeError):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
