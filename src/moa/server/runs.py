"""``/runs`` and ``/mixtures``: what the page is made of, and free for anybody else's use; docs/server.md describes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from moa.config.export import toml_of
from moa.server.body import object_of
from moa.server.completions import QUIET, ClientGone, unless_gone
from moa.server.failures import Refusal
from moa.server.mixtures import table_of
from moa.server.wire import encoded
from moa.store.archive import Kept
from moa.store.record import record_of, row_object
from moa.store.recording import PACKET

if TYPE_CHECKING:
    from moa.server.app import Server

MOST_ROWS = 200

Name = Annotated[str, Path(description="The run's id.")]
Place = Annotated[int | None, Query(ge=0, lt=2**63, description="``next`` of the page before.")]
Id = Annotated[int | None, Query(ge=0, lt=2**63, description="Only events behind the one with this id.")]


class Following(Response):
    """Packets of a stream of events, until they end or the client goes away."""

    def __init__(self, packets: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self._packets = packets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientGone):
            await unless_gone(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with aclosing(self._packets) as packets:
            async for packet in packets:
                await send({"type": "http.response.body", "body": packet, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _packets(lines: AsyncGenerator[tuple[int, Sequence[bytes]], None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(lines):
        async for first, several in lines:
            if several:
                yield b"".join(b"id: %d\ndata: %b\n\n" % numbered for numbered in enumerate(several, first))
            else:
                yield b": still at work\n\n"


async def _in_packets(lines: Sequence[bytes], after: int) -> AsyncGenerator[tuple[int, Sequence[bytes]], None]:
    for start in range(after, len(lines), PACKET):
        yield start + 1, lines[start : start + PACKET]


def routes(server: Server) -> APIRouter:
    """The routes, for a server."""
    router = APIRouter(tags=["runs"])
    recordings = server.recordings

    async def found(run: str, owner: str) -> Kept:
        kept = await recordings.kept(run, owner)
        if kept is None:
            raise _no_such(run)
        return kept

    @router.post("/runs", status_code=201, summary="Begin a run that goes on without you", openapi_extra=RUN_BODY)
    async def begin(request: Request) -> Response:
        key = server.page_caller(request)
        body = object_of(await server.read(request))
        order = await server.runner.order(body, server.owner(key))
        server.check_limits(key)
        recording = recordings.new(
            owner=server.owner(key),
            model=order.model,
            request=order.request.body,
            mixture=order.table,
            continues=order.continues,
        )
        report = server.reporter(order.model, key)
        try:
            run = await unless_gone(request.receive, server.runner.begin(order, report, recording))
        except ClientGone:
            raise ClientDisconnect from None
        return JSONResponse({"run": run}, 201, {"location": f"/runs/{run}", "x-moa-run": run})

    @router.get("/runs", summary="Runs, the latest first")
    async def runs(
        request: Request,
        search: Annotated[str, Query(description="What question or answer must hold; case does not matter.")] = "",
        before: Place = None,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
    ) -> Response:
        owner = server.owner(server.page_caller(request))
        rows = await recordings.rows(owner, search=search, before=before, limit=limit + 1)
        told = [row_object(row, recordings.outcome(row.run, row.outcome)) for row in rows[:limit]]
        following = str(rows[limit - 1].number) if len(rows) > limit else None
        return _json({"runs": told, "next": following, "kept": server.keeps})

    @router.get("/runs/{run}", summary="One run, whole; one that goes on, so far")
    async def record(run: Name, request: Request) -> Response:
        kept = await found(run, server.owner(server.page_caller(request)))
        outcome = recordings.outcome(run, kept.outcome)
        # Folding thousands of lines takes long enough to be noticed by other runs.
        return await asyncio.to_thread(lambda: _json(record_of(kept, outcome, server.config.prices)))

    @router.get("/runs/{run}/events", summary="Its events, as they come", response_class=Response)
    async def events(run: Name, request: Request, after: Id = None) -> Response:
        owner = server.owner(server.page_caller(request))
        seen = _seen(request) if after is None else after
        if recording := recordings.at_hand(run, owner):
            count, over = len(recording.lines), recording.is_over
            packets = _packets(recording.follow(seen, QUIET))
        else:
            kept = await found(run, owner)
            count, over = len(kept.lines), True
            packets = _packets(_in_packets(kept.lines, seen))
        # 204 is how an EventSource, which comes back after every end, is told that there is no more.
        return Response(status_code=204) if over and seen >= count else Following(packets)

    @router.post("/runs/{run}/stop", status_code=204, summary="Stop it; what is there of it stays")
    async def stop(run: Name, request: Request) -> Response:
        owner = server.owner(server.page_caller(request))
        if recording := recordings.at_hand(run, owner):
            await recording.stop()
        else:
            await found(run, owner)
        return Response(status_code=204)

    @router.delete("/runs/{run}", status_code=204, summary="Forget it")
    async def delete(run: Name, request: Request) -> Response:
        if not await recordings.delete(run, server.owner(server.page_caller(request))):
            raise _no_such(run)
        return Response(status_code=204)

    @router.get("/mixtures", tags=["mixtures"], summary="Every mixture with its table, and every single model")
    async def mixtures(request: Request) -> Response:
        server.page_caller(request)
        return _json(await asyncio.to_thread(server.tables.listed))

    @router.post("/mixtures/toml", tags=["mixtures"], summary="A mixture as a moa.toml", openapi_extra=TOML_BODY)
    async def toml(request: Request) -> Response:
        server.page_caller(request)
        body = object_of(await server.read(request))
        name, table = table_of(body.get("mixture"), body.get("name"))
        try:
            server.tables.mixture(name, table)
        except Refusal as refusal:
            if refusal.status == 400:  # otherwise it is only not set up here, and may be elsewhere
                raise
        return _json({"toml": toml_of(name, table)})

    return router


def _seen(request: Request) -> int:
    """The id of the last event that the client has, from the header that an EventSource sends."""
    told = request.headers.get("last-event-id", "").strip() or "0"
    if not (told.isascii() and told.isdigit()):
        raise Refusal(400, f"Last-Event-ID is {told!r}; expected the id of an event, a number", param="Last-Event-ID")
    return int(told)


def _no_such(run: str) -> Refusal:
    return Refusal(404, f"no run is called {run!r}", code="run_not_found", param="run")


def _json(value: object) -> Response:
    return Response(encoded(value), media_type="application/json")


def _body(required: Sequence[str], properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": [*required], "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


MIXTURE = {"type": "object", "description": "As in moa.toml, without prompt_file; may hold its name."}
RUN_BODY = _body(
    [],
    {
        "model": {"type": "string", "description": "moa/NAME, or provider/name."},
        "mixture": MIXTURE,
        "continue": {"type": "string", "description": "A run, to be gone on with from its finished proposals."},
        "messages": {"type": "array", "items": {"type": "object"}},
    },
)
TOML_BODY = _body(["mixture"], {"name": {"type": "string"}, "mixture": MIXTURE})
