"""``/runs``: the server's own runs, and saved runs. The page uses these routes; docs/reference/runs.md describes them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from moa.server.body import object_of
from moa.server.connection import ClientGone, StreamResponse, unless_gone
from moa.server.described import object_body
from moa.server.discretion import Discretion
from moa.server.encoding import json_response
from moa.server.failures import Refusal
from moa.server.mixtures import MIXTURE
from moa.server.parts import Parts
from moa.store.archive import SavedRun
from moa.store.ratings import LONGEST_NOTE, RATINGS
from moa.store.record import record_of, row_object
from moa.store.recordings import NotStopped

MOST_ROWS = 200

MOST_DIGITS = 18
"""Of an event's ID: SQLite's integers have 64 bits."""

RunId = Annotated[str, Path(description="The run's ID.")]
Position = Annotated[int | None, Query(ge=0, lt=2**63, description="``next`` of the previous page.")]
EventId = Annotated[int | None, Query(ge=0, lt=2**63, description="Only events after the one with this ID.")]

RUN_BODY = object_body(
    [],
    {
        "model": {"type": "string", "description": "moa/NAME, or provider/name."},
        "mixture": MIXTURE,
        "continue": {"type": "string", "description": "The ID of a run to continue from its finished proposals."},
        "messages": {"type": "array", "items": {"type": "object"}},
    },
)

RATING_BODY = object_body(
    ["rating"],
    {
        "rating": {"type": ["string", "null"], "enum": [*RATINGS, None], "description": "null removes the rating."},
        "note": {"type": "string", "maxLength": LONGEST_NOTE, "description": "Why."},
    },
)


def routes(parts: Parts) -> APIRouter:
    """The routes."""
    desk, runner, recordings, discretion = parts.desk, parts.runner, parts.recordings, parts.discretion
    router = APIRouter(tags=["runs"])

    async def found(run: str, owner: str) -> SavedRun:
        saved = await recordings.saved(run, owner)
        if saved is None:
            raise _no_such(run)
        return saved

    @router.post("/runs", status_code=201, summary="Start a run that outlives the connection", openapi_extra=RUN_BODY)
    async def start(request: Request) -> Response:
        key = desk.caller(request)
        order = await runner.order(await parts.bodies.parsed(request, object_of), desk.owner(key))
        desk.check_models(key, order.chosen)
        try:
            run = await unless_gone(request.receive, runner.start(order, key))
        except ClientGone:
            raise ClientDisconnect from None
        await recordings.share()
        return JSONResponse({"run": run}, 201, {"location": f"runs/{run}", "x-moa-run": run})

    @router.get("/runs", summary="List runs, newest first")
    async def list_runs(
        request: Request,
        search: Annotated[str, Query(description="Text in the question or the answer; case does not matter.")] = "",
        before: Position = None,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
    ) -> Response:
        owner = desk.owner(desk.caller(request))
        rows = await recordings.rows(owner, search=search, before=before, limit=limit + 1)
        shown = [row_object(row) for row in rows[:limit]]
        following = str(rows[limit - 1].number) if len(rows) > limit else None
        return json_response({"runs": discretion.tree(shown), "next": following, "kept": parts.keeps})

    @router.get("/runs/{run}", summary="Get a run; of one in progress, its state so far")
    async def get_run(run: RunId, request: Request) -> Response:
        saved = await found(run, desk.owner(desk.caller(request)))
        # In a thread: folding thousands of lines would hold up other runs.
        return await asyncio.to_thread(lambda: json_response(discretion.tree(record_of(saved, parts.config.prices))))

    @router.get("/runs/{run}/events", summary="Stream a run's events", response_class=Response)
    async def stream_events(run: RunId, request: Request, after: EventId = None) -> Response:
        owner = desk.owner(desk.caller(request))
        seen = _last_event_id(request) if after is None else after
        saved = await found(run, owner)
        # An EventSource reconnects whenever a stream ends, unless it gets a 204.
        if saved.outcome != "running" and seen >= len(saved.lines):
            return Response(status_code=204)
        return StreamResponse(_packets(recordings.follow(run, seen), discretion))

    @router.post("/runs/{run}/stop", status_code=204, summary="Stop a run; its events so far stay")
    async def stop(run: RunId, request: Request) -> Response:
        with _in_time(run):
            if not await recordings.stop(run, desk.owner(desk.caller(request))):
                raise _no_such(run)
        return Response(status_code=204)

    @router.post("/runs/{run}/rating", status_code=204, summary="Rate a run's answer", openapi_extra=RATING_BODY)
    async def rate(run: RunId, request: Request) -> Response:
        owner = desk.owner(desk.caller(request))
        rating, note = rating_in(await parts.bodies.parsed(request, object_of))
        try:
            is_found = await recordings.rate(run, owner, rating, note)
        except sqlite3.Error as error:
            message = f"the rating of run {run} cannot be saved: {error}"
            raise Refusal(503, message, "server_error", "rating_not_saved") from None
        if not is_found:
            raise _no_such(run)
        return Response(status_code=204)

    @router.delete("/runs/{run}", status_code=204, summary="Stop a run and delete it")
    async def delete(run: RunId, request: Request) -> Response:
        with _in_time(run):
            if not await recordings.delete(run, desk.owner(desk.caller(request))):
                raise _no_such(run)
        return Response(status_code=204)

    return router


async def _packets(
    groups: AsyncGenerator[tuple[int, Sequence[bytes]], None], discretion: Discretion
) -> AsyncGenerator[bytes, None]:
    """Frames of numbered lines; each group is the number of its first line, and the lines."""
    async with aclosing(groups):
        async for first, lines in groups:
            yield b"".join(
                b"id: %d\ndata: %b\n\n" % numbered for numbered in enumerate(map(discretion.line, lines), first)
            )


def _last_event_id(request: Request) -> int:
    """The ID of the last event that the client received, from the header that an EventSource sends."""
    value = request.headers.get("last-event-id", "").strip() or "0"
    if not (value.isascii() and value.isdigit()) or len(value) > MOST_DIGITS:
        message = f"Last-Event-ID is {value[:60]!r}; expected the ID of an event, a number"
        raise Refusal(400, message, param="Last-Event-ID")
    return int(value)


@contextmanager
def _in_time(run: str) -> Iterator[None]:
    """Report that another process did not stop a run in time."""
    try:
        yield
    except NotStopped:
        message = f"run {run} is in progress in another process, which did not stop it in time; try again"
        raise Refusal(503, message, "server_error", "run_not_stopped") from None


def rating_in(body: Mapping[str, Any]) -> tuple[str | None, str]:
    """The rating and the note of a body.

    Raises:
        Refusal: a field is unknown, or has another kind of value.
    """
    for name in body.keys() - {"rating", "note"}:
        raise Refusal(400, f"unknown field {name!r}; a rating has rating and note", param=name)
    rating, note = body.get("rating"), body.get("note") or ""
    if "rating" not in body or rating not in (*RATINGS, None):
        raise Refusal(400, f"rating is {rating!r:.60}; expected up, down, or null to remove the rating", param="rating")
    if not isinstance(note, str) or len(note) > LONGEST_NOTE:
        raise Refusal(400, f"note is no text of at most {LONGEST_NOTE} characters", param="note")
    return rating, note


def _no_such(run: str) -> Refusal:
    return Refusal(404, f"no run has the ID {run!r}", code="run_not_found", param="run")
