"""The routes of files and of batches, as the SDKs of OpenAI call them. A file or a batch of another key counts as missing.

https://platform.openai.com/docs/api-reference/files and …/batch
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from functools import partial
from typing import BinaryIO

import fastapi
from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from moa.server.batches.objects import (
    DAY,
    BatchBody,
    batch_object,
    file_object,
    limit_in,
    page_object,
    read_batch,
)
from moa.server.batches.running import Running
from moa.server.batches.shelf_thread import ShelfThread
from moa.server.batches.uploads import UPLOAD, uploaded
from moa.server.described import ERROR_RESPONSES, request_body
from moa.server.encoding import json_response
from moa.server.failures import Refusal
from moa.server.parts import Parts
from moa.store.batches import ENDED, Batch
from moa.store.shelf import PIECE, Shelf, StoredFile

MOST_STORED = 8 * 2**30
"""Bytes of all files together."""

MOST_FILES, MOST_BATCHES = 10_000, 100
"""Rows of a page of a list, as OpenAI's."""


def file_routes(parts: Parts, shelf: ShelfThread, running: Running) -> APIRouter:
    """The routes of files. From the first one on, those that have expired are deleted."""
    desk = parts.desk
    router = APIRouter(tags=["files"], responses=ERROR_RESPONSES)

    @router.post("/v1/files", summary="Upload a file of requests", openapi_extra=UPLOAD)
    async def upload_file(request: fastapi.Request) -> Response:
        owner = desk.owner(desk.caller(request))
        if await shelf.do(Shelf.bytes) >= MOST_STORED:
            message = f"the files on this server take {MOST_STORED // 2**30} GiB: delete some"
            raise Refusal(413, message, code="storage_full")
        async with uploaded(request) as upload:
            pieces = _pieces(upload.file.file)
            stored = await shelf.do(lambda shelf: shelf.add(owner, upload.filename, "batch", pieces, upload.seconds))
        running.wake()
        return json_response(file_object(stored))

    @router.get("/v1/files", summary="List files")
    async def list_files(request: fastapi.Request) -> Response:
        owner, query = desk.owner(desk.caller(request)), request.query_params
        limit, ascending = limit_in(query, MOST_FILES, MOST_FILES), query.get("order") == "asc"
        purpose, after = query.get("purpose"), query.get("after")
        rows = await shelf.do(
            lambda shelf: shelf.files(owner, purpose=purpose, after=after, limit=limit + 1, ascending=ascending)
        )
        return json_response(page_object(rows, limit, file_object))

    @router.get("/v1/files/{file}", summary="Get a file")
    async def get_file(file: str, request: fastapi.Request) -> Response:
        return json_response(file_object(await _file(shelf, file, desk.owner(desk.caller(request)))))

    @router.get("/v1/files/{file}/content", summary="Get the content of a file")
    async def get_content(file: str, request: fastapi.Request) -> Response:
        stored = await _file(shelf, file, desk.owner(desk.caller(request)))
        headers = {"content-length": str(stored.bytes), "content-disposition": "attachment"}
        return StreamingResponse(_content(shelf, stored.number), 200, headers, "application/octet-stream")

    @router.delete("/v1/files/{file}", summary="Delete a file")
    async def delete_file(file: str, request: fastapi.Request) -> Response:
        stored = await _file(shelf, file, desk.owner(desk.caller(request)))
        if batch := await shelf.do(lambda shelf: shelf.batches.of_input(stored.id)):
            raise Refusal(409, f"{stored.id} is the input of {batch}: cancel that batch first", code="file_in_use")
        await shelf.do(lambda shelf: shelf.delete(stored.id))
        return json_response({"id": stored.id, "object": "file", "deleted": True})

    return router


def batch_routes(parts: Parts, shelf: ShelfThread, running: Running) -> APIRouter:
    """The routes of batches."""
    desk = parts.desk
    router = APIRouter(tags=["batches"], responses=ERROR_RESPONSES)

    @router.post("/v1/batches", summary="Create a batch", openapi_extra=request_body(BatchBody))
    async def create_batch(request: fastapi.Request) -> Response:
        owner = desk.owner(desk.caller(request))
        body = await parts.bodies.parsed(request, read_batch)
        if parts.shutdown.closed:
            raise parts.shutdown.refusal
        file = await _file(shelf, body.input_file_id, owner, param="input_file_id")
        if file.purpose != "batch":
            message = f"{file.id} has the purpose {file.purpose!r}: upload the requests with the purpose 'batch'"
            raise Refusal(400, message, param="input_file_id", code="invalid_value")
        wish = body.output_expires_after
        seconds = float(wish.seconds) if wish else None
        batch = await shelf.do(
            lambda shelf: shelf.batches.add(
                *(owner, file.id, body.endpoint, body.completion_window, DAY, body.metadata, seconds)
            )
        )
        running.wake()
        return json_response(batch_object(batch))

    @router.get("/v1/batches", summary="List batches")
    async def list_batches(request: fastapi.Request) -> Response:
        owner, query = desk.owner(desk.caller(request)), request.query_params
        limit, after = limit_in(query, 20, MOST_BATCHES), query.get("after")
        rows = await shelf.do(lambda shelf: shelf.batches.rows(owner, after=after, limit=limit + 1))
        return json_response(page_object(rows, limit, batch_object))

    @router.get("/v1/batches/{batch}", summary="Get a batch")
    async def get_batch(batch: str, request: fastapi.Request) -> Response:
        return json_response(batch_object(await _batch(shelf, batch, desk.owner(desk.caller(request)))))

    @router.post("/v1/batches/{batch}/cancel", summary="Cancel a batch")
    async def cancel_batch(batch: str, request: fastapi.Request) -> Response:
        owner = desk.owner(desk.caller(request))
        found = await _batch(shelf, batch, owner)
        if found.status in ENDED:
            message = f"a batch with the status {found.status!r} cannot be cancelled"
            raise Refusal(409, message, code="invalid_status")
        await shelf.do(lambda shelf: shelf.batches.cancel(batch))
        running.wake()
        return json_response(batch_object(await _batch(shelf, batch, owner)))

    return router


async def _file(shelf: ShelfThread, name: str, owner: str, *, param: str = "id") -> StoredFile:
    found = await shelf.do(lambda shelf: shelf.file(name, owner)) if _is_id(name) else None
    if found is None:
        raise Refusal(404, f"no file has the ID {name[:80]!r}", param=param, code="file_not_found")
    return found


async def _batch(shelf: ShelfThread, name: str, owner: str) -> Batch:
    found = await shelf.do(lambda shelf: shelf.batches.find(name, owner)) if _is_id(name) else None
    if found is None:
        raise Refusal(404, f"no batch has the ID {name[:80]!r}", param="batch_id", code="batch_not_found")
    return found


def _is_id(name: str) -> bool:
    return name.isascii()  # SQLite cannot look for half of a surrogate pair


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    return iter(partial(file.read, PIECE), b"")


async def _content(shelf: ShelfThread, file: int) -> AsyncGenerator[bytes, None]:
    place = 0
    while piece := await shelf.do(partial(Shelf.piece, file=file, place=place)):
        yield piece
        place += 1
