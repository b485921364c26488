"""Requests whose addresses are right but for their writing: slashes too many, and ``HEAD`` instead of ``GET``.

A base URL with a slash at its end gives ``/v1//chat/completions``. A redirect would not do: many clients follow none for a
``POST``.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

FOLDERS = ("/", "/v1/")
"""Paths that end in a slash."""

NAMES = "/v1/models/"
"""Below it are names of models, which may hold two slashes."""

STREAMS = "/events"
"""The end of paths that stream until a run ends: a HEAD there would wait as long."""


class Paths:
    """ASGI middleware: routes get a path without slashes too many, and GET for HEAD. (Uvicorn sends no body to a HEAD.)"""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path, method = written(scope["path"]), scope["method"]
            if method == "HEAD" and not path.endswith(STREAMS):
                method = "GET"
            if (path, method) != (scope["path"], scope["method"]):
                scope = {**scope, "path": path, "method": method}
        await self._app(scope, receive, send)


def written(path: str) -> str:
    """The path as routes have it."""
    if "//" in path and not path.startswith(NAMES):
        path = re.sub("/+", "/", path)
    return path if path in FOLDERS or not path.endswith("/") else path.rstrip("/")
