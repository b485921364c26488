"""The ASGI application: mixtures and single models behind the APIs that clients speak, runs, and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from moa.config.config import Config
from moa.server import (
    completions,
    mcp_route,
    mixture_routes,
    model_routes,
    runs,
    static,
    stored_responses,
    token_counts,
)
from moa.server.access import Access
from moa.server.batches.objects import BatchBody
from moa.server.batches.routes import batch_routes, file_routes
from moa.server.batches.running import Running
from moa.server.batches.shelf_thread import ShelfThread
from moa.server.correlation import Correlation
from moa.server.described import DescribedAPI
from moa.server.dialects.chat import CHAT
from moa.server.dialects.completions import COMPLETIONS
from moa.server.dialects.messages import MESSAGES
from moa.server.dialects.responses import RESPONSES
from moa.server.discretion import Discretion
from moa.server.entrance import Entrance
from moa.server.error_handlers import answer_errors
from moa.server.keys import Keys
from moa.server.mcp_route import McpRoute
from moa.server.parts import Parts, Settings
from moa.server.paths import Paths
from moa.server.shutdown import CutOff
from moa.store.archive import Archive
from moa.store.ledger import Ledger

DIALECTS = (CHAT, RESPONSES, MESSAGES, COMPLETIONS)


def create_app(
    config: Config,
    *,
    ledger: Ledger | None = None,
    keys: Keys | None = None,
    settings: Settings | None = None,
    archive: Archive | None = None,
    access: Access | None = None,
    shelf: ShelfThread | None = None,
) -> FastAPI:
    """The ASGI application. It closes ``config``, ``ledger`` and ``archive`` when it shuts down.

    Args:
        config: the mixtures and models; with ``memory=Turns(path)`` several processes can share a tool loop.
        ledger: what each key has used; None keeps it in memory.
        keys: the callers' keys; None lets anyone use the server.
        settings: see :class:`Settings`.
        archive: stores runs; None keeps only the last few of the server's own runs, in memory.
        access: which hosts and pages may use the server; its ``keys`` are these.
        shelf: stores files and batches; None keeps them in a temporary file, until the server ends.
    """
    access = replace(access or Access(), keys=keys)
    discretion = Discretion.of(config, access)
    parts = Parts(config, ledger or Ledger(), keys, settings or Settings(), archive, discretion)
    mcp = McpRoute(parts.consulting)
    shelf = shelf or ShelfThread(None, None)
    running = Running(parts, shelf)
    parts.on_stop.append(running.stop_in)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await parts.start()
        running.start()
        yield
        await mcp.aclose()
        await running.aclose()
        await parts.aclose()

    app = DescribedAPI(
        [*(dialect.body for dialect in DIALECTS), BatchBody],
        title="Mixture-of-Agents",
        description="Mixtures of models, each selectable as a model, behind OpenAI's Chat Completions API.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere, which could read everything that this server's page can
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts = parts
    refuse = answer_errors(app, DIALECTS, parts.metrics, discretion)
    app.add_middleware(Entrance, access=access, answer=refuse)
    app.add_middleware(Paths)
    app.add_middleware(CutOff, shutdown=parts.shutdown, answer=refuse)
    app.add_middleware(Correlation)  # around all others
    app.include_router(model_routes.routes(parts))
    for dialect in DIALECTS:
        app.include_router(completions.routes(dialect, parts))
    app.include_router(stored_responses.routes(parts))
    app.include_router(token_counts.routes(DIALECTS, parts))
    app.include_router(file_routes(parts, shelf, running))
    app.include_router(batch_routes(parts, shelf, running))
    app.include_router(runs.routes(parts))
    app.include_router(mixture_routes.routes(parts))
    app.router.routes.append(Route(mcp_route.PATH, mcp, methods=mcp_route.METHODS))
    app.include_router(static.router)
    app.include_router(_operation(parts))
    return app


def _operation(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["operation"])

    @router.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @router.get("/readyz", summary="Whether the server accepts requests")
    async def readyz() -> PlainTextResponse:
        return PlainTextResponse("draining\n", 503) if parts.shutdown.announced else PlainTextResponse("ok\n")

    @router.get("/metrics", summary="Prometheus metrics")
    async def prometheus(request: Request) -> Response:
        parts.desk.caller(request)  # metrics name the keys and what each has spent
        return Response(parts.metrics.page(), media_type="text/plain; version=0.0.4")

    return router
