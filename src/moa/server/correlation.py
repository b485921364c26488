"""What ties a request to the log, to the record of its run, and to its upstream calls: ``x-request-id`` and ``traceparent``.

Every response has ``x-request-id``: the caller's own where it sent one, so that its log and ours name the same request.
"""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID: ContextVar[str | None] = ContextVar("REQUEST_ID", default=None)
"""The ID of the request that the running task answers."""

CALLER_TRACE: ContextVar[Context | None] = ContextVar("CALLER_TRACE", default=None)
"""The caller's trace; None without a valid one."""

W3C = TraceContextTextMapPropagator()

_TOKEN = re.compile(rb"[\w.:+/=@-]{1,128}")
"""A caller's ID that is used as it is: a UUID and what proxies make, and nothing that a log or a header must quote."""


class Correlation:
    """ASGI middleware that gives each request its ID, and its response the header ``x-request-id``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given if _TOKEN.fullmatch(given) else uuid.uuid4().hex.encode()
        REQUEST_ID.set(request_id.decode())
        if b"traceparent" in headers:
            CALLER_TRACE.set(_trace(scope))
        header = (b"x-request-id", request_id)

        async def send_identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await self._app(scope, receive, send_identified)


def _trace(scope: Scope) -> Context | None:
    """The trace that a request's headers name. Several ``traceparent`` are none, and several ``tracestate`` are one list."""
    given: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        given.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return W3C.extract(given) if len(given["traceparent"]) == 1 else None
