"""The server: mixtures and single models behind OpenAI's Chat Completions API."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response

from moa.config.config import Config
from moa.config.names import full_name
from moa.errors import UnknownName
from moa.messages import Answer
from moa.server import static
from moa.server.admission import Admission
from moa.server.body import Asked, ChatBody
from moa.server.catalogue import Catalogue
from moa.server.completions import Completion, Report
from moa.server.failures import Refusal, refusal_of
from moa.server.keys import Key, Keys
from moa.server.mixtures import Tables
from moa.server.origins import foreign_host, foreign_page
from moa.server.runner import Runner
from moa.server.runs import routes
from moa.server.telemetry import Metrics, log_run, trace_run
from moa.store.archive import Archive
from moa.store.recording import Recording, Recordings
from moa.store.turns import RunStore

ANYONE = Key("anyone", "")

RUNS_IN_MEMORY = 32
"""How many finished runs are at hand where none are kept."""

log = logging.getLogger("moa.server")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server is run.

    Attributes:
        max_runs: runs at a time; ``max_queue`` may wait behind them.
        max_body: bytes a request may have.
    """

    max_runs: int = 64
    max_queue: int = 256
    max_body: int = 32 * 2**20


class Server:
    """What the routes share.

    Args:
        config: the mixtures and models.
        store: turns' proposals and keys' spending.
        keys: who may ask; None lets anyone.
        settings: see :class:`Settings`.
        archive: where runs are kept; None keeps the last few that it ran itself, in memory.

    Attributes:
        keeps: whether all runs are kept.
        draining: whether it was told to stop.
        loop: where it runs, once it does.
    """

    def __init__(
        self, config: Config, store: RunStore, keys: Keys | None, settings: Settings, archive: Archive | None = None
    ) -> None:
        self.config, self.store, self.keys, self.settings = config, store, keys, settings
        self.admission = Admission(settings.max_runs, settings.max_queue)
        self.catalogue = Catalogue(config)
        self.tables = Tables(config, self.catalogue)
        self.keeps = archive is not None
        self.recordings = Recordings(archive or Archive(most=RUNS_IN_MEMORY))
        self.runner = Runner(self)
        self.metrics = Metrics(lambda: self.admission.running, lambda: self.admission.waiting, self.catalogue.label)
        self.draining = False
        self.loop: asyncio.AbstractEventLoop | None = None

    def drain(self, grace: float) -> None:
        """Take no more requests, and stop the server's own runs in so many seconds. Safe in a signal handler."""
        self.draining = True
        if self.loop:
            self.loop.call_soon_threadsafe(lambda: self.runner.stop_in(grace))

    def caller(self, request: Request) -> Key:
        """Whose request this is.

        Raises:
            Refusal: 401; without keys 403 where a web page of somebody else's makes the browser ask.
        """
        if self.keys is None:
            if origin := foreign_page(request):
                message = f"pages of {origin} may not ask: without keys, any page you open could spend your money"
                raise Refusal(403, message, "permission_error", "origin_not_allowed")
            return ANYONE
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        key = self.keys.who(secret.strip()) if kind.lower() == "bearer" and secret.strip() else None
        if key is None:
            message = "no key, or one that is not known: send it as 'Authorization: Bearer …'"
            raise Refusal(401, message, "authentication_error", "invalid_api_key")
        return key

    def page_caller(self, request: Request) -> Key:
        """Whose request this is, where what is kept here can be read; raises as :meth:`caller` does.

        Without keys, a web page could have made a name of its own mean this machine; it would read along.
        """
        if self.keys is None and (host := foreign_host(request)) is not None:
            message = f"asked as {host!r}: without keys, runs are shown only under localhost or an address"
            raise Refusal(403, message, "permission_error", "host_not_allowed")
        return self.caller(request)

    def owner(self, key: Key) -> str:
        """Who a key's runs belong to; where there are no keys, to everybody."""
        return "" if self.keys is None else key.name

    def recorder(self, asked: Asked, key: Key) -> Callable[[], Recording] | None:
        """Gives a recording for each choice of a request; None where runs are not kept."""
        if not self.keeps:
            return None
        model, request, table = full_name(asked.model), asked.request.body, self.config.written(asked.model)
        return lambda: self.recordings.new(owner=self.owner(key), model=model, request=request, mixture=table)

    def check_limits(self, key: Key) -> None:
        """Count a request of this key; raises Refusal, 429, where its limits are reached."""
        if key.requests_per_minute is not None:
            wait = self.store.count_request(key.name, key.requests_per_minute)
            if wait:
                message = f"key {key.name!r} may make {key.requests_per_minute} requests a minute"
                raise Refusal(429, message, "rate_limit_error", "rate_limit_exceeded", retry_after=wait)
        if key.dollars_per_day is not None and self.store.spent(key.name) >= key.dollars_per_day:
            message = f"key {key.name!r} has spent its ${key.dollars_per_day:g} of today (UTC)"
            wait = 86400 - time.time() % 86400
            raise Refusal(429, message, "insufficient_quota", "insufficient_quota", retry_after=wait)

    def reporter(self, model: str, key: Key) -> Report:
        """What is done when a run has ended."""

        def report(answer: Answer, outcome: str, began: float) -> None:
            if answer.cost.dollars and key.dollars_per_day is not None:
                self.store.spend(key.name, answer.cost.dollars)
            self.metrics.count(model, answer, outcome, key.name)
            log_run(model, answer, outcome, key.name)
            trace_run(model, answer, began)

        return report

    async def read(self, request: Request) -> bytes:
        """The body; raises Refusal, 413, where it is too large."""
        limit = self.settings.max_body
        too_large = Refusal(413, f"the body is larger than {limit} bytes", code="request_too_large")
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise Refusal(400, "content-length is not a number")
        if int(length) > limit:
            raise too_large
        data = bytearray()
        async for packet in request.stream():
            data += packet
            if len(data) > limit:
                raise too_large
        return bytes(data)


def create_app(
    config: Config,
    *,
    store: RunStore | None = None,
    keys: Keys | None = None,
    settings: Settings | None = None,
    archive: Archive | None = None,
) -> FastAPI:
    """The ASGI application. It closes ``config``, ``store`` and ``archive`` when it shuts down.

    Args:
        config: the mixtures and models; made with ``memory=store``, so that several processes can share a tool loop.
        store: turns' proposals and keys' spending; in memory where None.
        keys: who may ask; None lets anyone.
        settings: see :class:`Settings`.
        archive: where runs are kept; None keeps none but the last few that the server ran itself, in memory.
    """
    server = Server(config, store or RunStore(), keys, settings or Settings(), archive)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.loop = asyncio.get_running_loop()
        await asyncio.to_thread(config.prices.load)
        await asyncio.to_thread(lambda: server.catalogue.rows)
        yield
        await server.runner.end()
        await server.recordings.aclose()
        await config.aclose()
        server.store.close()

    app = FastAPI(
        title="Mixture-of-Agents",
        description="Mixtures of models, each selectable as a model, behind OpenAI's Chat Completions API.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.server = server

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        server.metrics.refusals.labels(refusal.status).inc()
        return refusal.response()

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.exception_handler(sqlite3.Error)
    async def unkept(request: Request, error: sqlite3.Error) -> Response:
        log.error("the run store cannot be used: %s", error)
        return Refusal(503, "the server's run store cannot be used; its log says why", "server_error").response()

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return refusal_of(error).response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return Refusal(error.status_code, str(error.detail), code=None).response(error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        problem = error.errors()[0]
        return Refusal(400, problem["msg"], param=".".join(map(str, problem["loc"][1:]))).response()

    @app.get("/v1/models", tags=["models"], summary="Every mixture and every single model that can be asked")
    async def models(request: Request) -> JSONResponse:
        server.caller(request)
        return JSONResponse({"object": "list", "data": server.catalogue.rows})

    @app.get("/v1/models/{name:path}", tags=["models"], summary="One of them")
    async def model(name: str, request: Request) -> JSONResponse:
        server.caller(request)
        for row in server.catalogue.rows:
            if row["id"] == name:
                return JSONResponse(row)
        raise refusal_of(UnknownName("model", name, server.catalogue.ids))

    @app.post(
        "/v1/chat/completions",
        tags=["chat"],
        summary="Ask",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": CHAT_BODY}},
            }
        },
        responses={status: {"description": told, "content": ERROR_CONTENT} for status, told in STATUSES.items()},
    )
    async def chat_completions(request: Request) -> Response:
        key = server.caller(request)
        asked = Asked(await server.read(request))
        server.check_limits(key)
        mixture = server.catalogue.mixture(asked.model)
        progress = mixture.progress if asked.progress is None else asked.progress
        report = server.reporter(asked.model, key)
        record = server.recorder(asked, key)
        return Completion(mixture, asked, report, server.admission.slot(), progress=progress, record=record)

    app.include_router(routes(server))
    app.include_router(static.router)

    @app.get("/healthz", tags=["operation"], summary="Whether the process is alive")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz", tags=["operation"], summary="Whether it takes requests")
    async def readyz() -> PlainTextResponse:
        return PlainTextResponse("draining\n", 503) if server.draining else PlainTextResponse("ok\n")

    @app.get("/metrics", tags=["operation"], summary="Prometheus metrics")
    async def metrics(request: Request) -> Response:
        server.caller(request)  # it names the keys and what each has spent
        return Response(server.metrics.page(), media_type="text/plain; version=0.0.4")

    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(SCHEMAS)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # what FastAPI would answer; here it is 400
        return document

    app.openapi = openapi  # type: ignore[method-assign]
    return app


CHAT_BODY = ChatBody.model_json_schema(ref_template="#/components/schemas/{model}")
SCHEMAS: dict[str, Any] = CHAT_BODY.pop("$defs")
SCHEMAS["Error"] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "causes": {"type": "array", "items": {"type": "string"}},
            },
        }
    },
}
ERROR_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}

STATUSES: dict[int | str, str] = {
    400: "The request is malformed; `param` names the field.",
    401: "No key, or one that is not known.",
    403: "A web page from elsewhere asks, and the server has no keys.",
    404: "No such model.",
    413: "The body is too large.",
    429: "Too many requests, or an upstream's limit; see Retry-After.",
    502: "No answer: an upstream failed. `causes` lists why.",
    503: "The model is not set up on this server.",
    504: "No answer in time.",
}
