"""``/mcp``: the route of the Model Context Protocol, whose SDK is imported when the first request comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from moa.closing import cancelled
from moa.server.consulting import Consulting
from moa.server.failures import Refusal, error_response

PATH = "/mcp"

METHODS = ("GET", "POST", "DELETE")

INSTALL = "this server lacks the package for the Model Context Protocol: its operator can install the extra 'mcp'"


class McpRoute:
    """An ASGI application. Close it when the server shuts down."""

    def __init__(self, consulting: Consulting) -> None:
        self._consulting = consulting
        self._app: ASGIApp | None = None
        self._life: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._consulting.desk.caller(Request(scope))
            app = await self._started()
        except Refusal as refusal:
            await error_response(refusal)(scope, receive, send)
            return
        await app(scope, receive, send)

    async def _started(self) -> ASGIApp:
        async with self._starting:
            if self._app is None:
                if find_spec("mcp") is None:
                    raise Refusal(501, INSTALL, "server_error", "not_installed")
                from moa.server.mcp import mcp_app

                app, run = await asyncio.to_thread(mcp_app, self._consulting)
                started = asyncio.Event()
                self._life = asyncio.create_task(_live(run, started))
                await started.wait()
                self._app = app
            return self._app

    async def aclose(self) -> None:
        """End the requests that are being answered."""
        if self._life is not None:
            await cancelled(self._life, grace=None)


async def _live(run: Callable[[], Any], started: asyncio.Event) -> None:
    """Hold the tasks of the protocol's requests: they must start and end in one task."""
    async with run():
        started.set()
        await asyncio.Event().wait()
