"""The server's parts, put together: mixtures and single models behind the APIs that clients speak, runs, and the page."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match, Route

from moa.config.config import Config
from moa.server import completions, mcp_route, mixtures, model_routes, runs, static, stored_responses, token_counts
from moa.server.access import Access
from moa.server.admission import Admission
from moa.server.bodies import Bodies
from moa.server.charges import Charges
from moa.server.consulting import Consulting
from moa.server.correlation import Correlation
from moa.server.described import DescribedAPI
from moa.server.desk import Desk
from moa.server.dialects.chat import CHAT
from moa.server.dialects.completions import COMPLETIONS
from moa.server.dialects.messages import MESSAGES
from moa.server.dialects.responses import RESPONSES
from moa.server.directions import no_such_method, no_such_path
from moa.server.discretion import Discretion
from moa.server.entrance import Entrance
from moa.server.failures import Refusal, error_response, openai_error
from moa.server.forecast import Forecast
from moa.server.keys import Keys
from moa.server.mcp_route import McpRoute
from moa.server.mixtures import Tables
from moa.server.model_list import ModelList
from moa.server.paths import Paths
from moa.server.refusal_log import RefusalLog
from moa.server.reports import Reports
from moa.server.runner import Runner
from moa.server.shutdown import CutOff, Shutdown
from moa.server.small_tasks import SmallTasks
from moa.server.telemetry import Metrics
from moa.server.unanswered import Unanswered
from moa.store.archive import Archive
from moa.store.bookings import Bookings
from moa.store.bounds import Bounds
from moa.store.ledger import Ledger
from moa.store.recordings import Recordings
from moa.tracebacks import traceback_of

DIALECTS = (CHAT, RESPONSES, MESSAGES, COMPLETIONS)

TOGETHER, LEAST_TOGETHER = 8, 64 * 2**20
"""How many bodies of the largest size the server holds at the same time, and at least how many bytes."""

RUNS_IN_MEMORY = 32
"""Finished runs that stay available where none are stored."""

log = logging.getLogger("moa.server")


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of a server.

    Attributes:
        max_runs: concurrent runs; ``max_queue`` may wait behind them.
        max_body: bytes that a request body may have.
    """

    max_runs: int = 64
    max_queue: int = 256
    max_body: int = 32 * 2**20


class Server:
    """The parts of one server.

    Args:
        config: the mixtures and models.
        ledger: what each key has used.
        keys: the callers' keys; None lets anyone use the server.
        settings: see :class:`Settings`.
        archive: stores runs; None keeps only the last few of the server's own runs, in memory.
        discretion: what callers may read of errors and notices.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        keys: Keys | None,
        settings: Settings,
        archive: Archive | None,
        discretion: Discretion,
    ) -> None:
        self.config, self.keeps = config, archive is not None
        self.desk = Desk(keys)
        self.bodies = Bodies(settings.max_body, max(LEAST_TOGETHER, TOGETHER * settings.max_body))
        self.shutdown = Shutdown()
        self.charges = Charges(Bookings(ledger), Forecast(config.prices))
        self.admission = Admission(settings.max_runs, settings.max_queue)
        self.discretion, self.model_list = discretion, ModelList(config, discretion)
        self.tables = Tables(config, self.model_list)
        self.recordings = Recordings(archive or Archive(bounds=Bounds(runs=RUNS_IN_MEMORY)))
        self.runner = Runner(self.model_list, self.tables, self.recordings, self.admission, self.bodies, self.shutdown)
        self.metrics = Metrics(lambda: self.admission.running, lambda: self.admission.waiting, self._label)
        self.reports = Reports(self.metrics)
        self.consulting = Consulting(
            *(self.desk, self.model_list, self.runner, self.recordings),
            *(self.charges, self.reports, config.prices, discretion),
        )

    def _label(self, model: str) -> str:
        return self.discretion.text(self.model_list.label(model))

    async def start(self) -> None:
        """Load what the first request would otherwise wait for."""
        self.recordings.sweep_hourly()
        loop = asyncio.get_running_loop()
        if loop.get_exception_handler() is None:
            loop.set_exception_handler(_log_unhandled)
        await asyncio.to_thread(self.config.prices.load)
        await asyncio.to_thread(lambda: self.model_list.rows)

    def stop_in(self, seconds: float) -> None:
        """Start no more runs of the server's own, and stop those in progress in so many seconds."""
        self.shutdown.announced = self.shutdown.closed = True
        self.runner.stop_in(seconds)

    async def aclose(self) -> None:
        """End all runs, write what is recorded, and close the configuration and the ledger."""
        await self.runner.end()
        await self.recordings.aclose()
        await self.config.aclose()
        await asyncio.to_thread(self.charges.close)
        self.bodies.close()


def create_app(
    config: Config,
    *,
    ledger: Ledger | None = None,
    keys: Keys | None = None,
    settings: Settings | None = None,
    archive: Archive | None = None,
    access: Access | None = None,
) -> FastAPI:
    """The ASGI application. It closes ``config``, ``ledger`` and ``archive`` when it shuts down.

    Args:
        config: the mixtures and models; with ``memory=Turns(path)`` several processes can share a tool loop.
        ledger: what each key has used; None keeps it in memory.
        keys: the callers' keys; None lets anyone use the server.
        settings: see :class:`Settings`.
        archive: stores runs; None keeps only the last few of the server's own runs, in memory.
        access: which hosts and pages may use the server; its ``keys`` are these.
    """
    access = replace(access or Access(), keys=keys)
    discretion = Discretion.of(config, access)
    server = Server(config, ledger or Ledger(), keys, settings or Settings(), archive, discretion)

    mcp = McpRoute(server.consulting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await server.start()
        yield
        await mcp.aclose()
        await server.aclose()

    app = DescribedAPI(
        [dialect.body for dialect in DIALECTS],
        title="Mixture-of-Agents",
        description="Mixtures of models, each selectable as a model, behind OpenAI's Chat Completions API.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere, which could read everything that this server's page can
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.server = server
    refuse = _answer_errors(app, server.metrics, discretion)
    app.add_middleware(Entrance, access=access, answer=refuse)
    app.add_middleware(Paths)
    app.add_middleware(CutOff, shutdown=server.shutdown)
    app.add_middleware(Correlation)  # around all others
    desk, bodies, shutdown = server.desk, server.bodies, server.shutdown
    model_list, tables, recordings = server.model_list, server.tables, server.recordings
    app.include_router(model_routes.routes(desk, model_list, discretion))
    unanswered = Unanswered()
    small_tasks = SmallTasks(config, model_list)
    for dialect in DIALECTS:
        app.include_router(
            completions.routes(
                dialect,
                desk,
                bodies,
                model_list,
                tables,
                server.admission,
                server.charges,
                server.reports,
                shutdown,
                server.runner,
                recordings,
                config.whose_usage,
                unanswered,
                small_tasks,
                discretion,
                keeps=server.keeps,
            )
        )
    app.include_router(stored_responses.routes(desk, recordings, discretion))
    app.include_router(token_counts.routes(DIALECTS, desk, bodies))
    app.include_router(
        runs.routes(
            desk,
            bodies,
            server.runner,
            recordings,
            server.charges,
            server.reports,
            config.prices,
            discretion,
            keeps=server.keeps,
        )
    )
    app.include_router(mixtures.routes(desk, bodies, tables, discretion))
    app.router.routes.append(Route(mcp_route.PATH, mcp, methods=mcp_route.METHODS))
    app.include_router(static.router)
    app.include_router(_operation(desk, shutdown, server.metrics))
    return app


def _log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception that nobody has read, without its message, which asyncio's own line would quote."""
    error = context.get("exception")
    log.error("%s\n%s", context["message"], traceback_of(error) if error else "")


def _answer_errors(app: FastAPI, metrics: Metrics, discretion: Discretion) -> Callable[[str, Refusal], Response]:
    """Answer every error in the form of the dialect whose route was called, or else in OpenAI's. Gives the function that
    counts a refusal and answers it, for a path."""
    refusals = RefusalLog()
    bodies = {dialect.path: dialect.error for dialect in DIALECTS}
    bodies |= {dialect.counting[0]: dialect.error for dialect in DIALECTS if dialect.counting}

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


def _operation(desk: Desk, shutdown: Shutdown, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["operation"])

    @router.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @router.get("/readyz", summary="Whether the server accepts requests")
    async def readyz() -> PlainTextResponse:
        return PlainTextResponse("draining\n", 503) if shutdown.announced else PlainTextResponse("ok\n")

    @router.get("/metrics", summary="Prometheus metrics")
    async def prometheus(request: Request) -> Response:
        desk.caller(request)  # metrics name the keys and what each has spent
        return Response(metrics.page(), media_type="text/plain; version=0.0.4")

    return router
