"""What every request passes before its route and after it: who may ask, and which pages may read the answer.

A browser asks first (``OPTIONS``), and lets a page read nothing without ``Access-Control-Allow-Origin``. Pages that may not
use the server get neither.

https://fetch.spec.whatwg.org/#http-cors-protocol
https://wicg.github.io/private-network-access/
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moa.server.access import Access, Refused
from moa.server.failures import Refusal, refusal_of
from moa.tracebacks import traceback_of

OPEN_TO_ALL = frozenset({"/healthz", "/readyz"})
"""Paths for balancers and containers: they cost nothing and say nothing."""

READABLE = "x-moa-run, x-request-id, x-should-retry, retry-after, location"
"""Headers of a response that a page may read."""

SECONDS_VALID = "600"
"""How long a browser may remember what it was allowed."""

MOST_LOGGED = 100
"""Different reasons for refusals that are logged; each is logged once."""

log = logging.getLogger("moa.server")


class Entrance:
    """ASGI middleware that refuses requests, lets pages read responses, and answers what no route has foreseen.

    Args:
        app: the routes.
        access: decides.
        answer: makes the response of a refused request to this path.
    """

    def __init__(self, app: ASGIApp, access: Access, answer: Callable[[str, Refusal], Response]) -> None:
        self._app, self._access, self._answer = app, access, answer
        self._logged = set[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, method, headers, keyed = scope["path"], scope["method"], _headers(scope), self._access.keyed
        added = {"x-content-type-options": "nosniff"}
        if self._access.may_read(path, headers, keyed=keyed):
            added["access-control-allow-origin"] = headers["origin"]
            added["access-control-expose-headers"] = READABLE
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                response = MutableHeaders(scope=message)
                response.update(added)
                response.add_vary_header("Origin")
            await send(message)

        if path not in OPEN_TO_ALL and (refused := self._access.refused(method, headers, keyed=keyed)):
            self._log(refused, method, path)
            await self._answer(path, refused.refusal)(scope, receive, send_with_headers)
        elif method == "OPTIONS" and "access-control-allow-origin" in added:
            await _preflight(headers)(scope, receive, send_with_headers)
        else:
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception as error:
                log.error("%s %r failed on an internal error\n%s", method, path[:100], traceback_of(error))
                if started:
                    raise RuntimeError("the response broke off") from None  # the server closes the connection
                await self._answer(path, refusal_of(error))(scope, receive, send_with_headers)

    def _log(self, refused: Refused, method: str, path: str) -> None:
        if refused.reason not in self._logged and len(self._logged) < MOST_LOGGED:
            self._logged.add(refused.reason)
            log.warning("%s %r was refused: %s", method, path[:100], refused.reason)


def _preflight(headers: Mapping[str, str]) -> Response:
    """The answer to a browser that asks what a page may send."""
    allowed = {
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-allow-headers": headers.get("access-control-request-headers", "authorization, content-type"),
        "access-control-max-age": SECONDS_VALID,
    }
    if "access-control-request-private-network" in headers:
        allowed["access-control-allow-private-network"] = "true"
    return Response(status_code=204, headers=allowed)


def _headers(scope: Scope) -> dict[str, str]:
    """The headers of a request, names in lower case; a repeated one has all its values."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
