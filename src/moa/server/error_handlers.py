"""Answers to errors: each in the form of the API whose route was called, or else in OpenAI's."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from moa.server.dialects.dialect import Dialect
from moa.server.directions import no_such_method, no_such_path
from moa.server.discretion import Discretion
from moa.server.failures import Refusal, error_response, openai_error
from moa.server.refusal_log import RefusalLog
from moa.server.telemetry import Metrics

log = logging.getLogger("moa.server")


def answer_errors(
    app: FastAPI, dialects: Sequence[Dialect], metrics: Metrics, discretion: Discretion
) -> Callable[[str, Refusal], Response]:
    """Answer every error of the application. Gives the function that counts a refusal and answers it, for a path."""
    refusals = RefusalLog()
    bodies = {dialect.path: dialect.error for dialect in dialects}
    bodies |= {dialect.counting[0]: dialect.error for dialect in dialects if dialect.counting}

    def answer(request: Request, refusal: Refusal, headers: dict[str, str] | None = None) -> Response:
        return error_response(refusal, headers, bodies.get(request.scope["path"], openai_error))

    def refuse(path: str, refusal: Refusal) -> Response:
        metrics.refusals.labels(refusal.status).inc()
        return error_response(discretion.refusal(refusal), body=bodies.get(path, openai_error))

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        refusals.add(request, refusal)
        return refuse(request.scope["path"], refusal)

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # no client is left to read it

    @app.exception_handler(sqlite3.Error)
    async def store_failed(request: Request, error: sqlite3.Error) -> Response:
        log.error("the run store failed: %s", error)
        return answer(request, Refusal(503, "the run store failed; see the server's log", "server_error"))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        path, method = request.scope["path"], request.method
        if error.status_code == 405:
            allowed = _methods_at(request)
            headers = {"allow": ", ".join([*allowed, *(["HEAD"] if "GET" in allowed else []), "OPTIONS"])}
            if method == "OPTIONS":
                return Response(status_code=204, headers=headers)
            return answer(request, no_such_method(method, path, allowed), headers)
        if error.status_code == 404:
            refusal, body = no_such_path(method, path)
            return error_response(refusal, body=body)
        return answer(request, Refusal(error.status_code, str(error.detail)), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        problem = error.errors()[0]
        return answer(request, Refusal(400, problem["msg"], param=".".join(map(str, problem["loc"][1:]))))

    return refuse


def _methods_at(request: Request) -> list[str]:
    """The methods of all routes at a request's path."""

    def taken(method: str) -> bool:
        scope = {"type": "http", "path": request.scope["path"], "method": method, "headers": []}
        return any(route.matches(scope)[0] == Match.FULL for route in request.app.routes)

    return [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if taken(method)]
