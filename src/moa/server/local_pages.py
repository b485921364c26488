"""Web pages on this machine and desktop applications may use the API: the headers that their browsers ask for.

A browser asks first (``OPTIONS``), and lets a page read nothing without ``Access-Control-Allow-Origin``. Pages elsewhere get
neither, so their browsers refuse them; without keys the server does, too. The paths outside the API (saved runs, the page)
answer no other page.

https://fetch.spec.whatwg.org/#http-cors-protocol
https://wicg.github.io/private-network-access/
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moa.server.origins import is_local_page

API = "/v1/"

READABLE = "x-moa-run, x-request-id, retry-after"
"""Headers of a response that a page may read."""

SECONDS_VALID = "600"
"""How long a browser may remember what it was allowed."""


class LocalPages:
    """ASGI middleware that lets pages on this machine read what the API answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API):
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        origin = asked.get("origin")
        if origin is None or not is_local_page(origin):
            await self._app(scope, receive, send)
            return
        allowed = {"access-control-allow-origin": origin, "vary": "Origin", "access-control-expose-headers": READABLE}
        if scope["method"] == "OPTIONS" and "access-control-request-method" in asked:
            allowed["access-control-allow-methods"] = "GET, POST"
            allowed["access-control-allow-headers"] = asked.get("access-control-request-headers", "*")
            allowed["access-control-max-age"] = SECONDS_VALID
            if "access-control-request-private-network" in asked:
                allowed["access-control-allow-private-network"] = "true"
            await Response(status_code=204, headers=allowed)(scope, receive, send)
            return

        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(allowed)
            await send(message)

        await self._app(scope, receive, send_allowed)
