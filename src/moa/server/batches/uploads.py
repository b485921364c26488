"""Uploads: a multipart body on its way to the disk, with a bound on its size and on the time that it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from moa.server.batches.objects import ExpiresAfter
from moa.server.bodies import Pace
from moa.server.body import checked
from moa.server.failures import Refusal

MOST = 200 * 2**20
"""Bytes of an uploaded file, as of OpenAI's batches."""

AROUND = 65536
"""Bytes of a body besides its file."""

PURPOSE = "batch"

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": [PURPOSE]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
                    },
                }
            }
        },
    }
}
"""The body in the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file, open for reading; ``seconds`` until it expires, None without a wish."""

    file: UploadFile
    filename: str
    seconds: float | None


@asynccontextmanager
async def uploaded(request: Request) -> AsyncIterator[Upload]:
    """The file that a request uploads, spooled to the disk.

    Raises:
        Refusal: 400, the form is malformed; 408, it arrives too slowly; 413, it is too large; 415, it is no form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise Refusal(415, "a file is uploaded as multipart/form-data", code="unsupported_media_type")
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and len(length) < 18 and int(length) > MOST + AROUND:
        raise _too_large()
    async with aclosing(_packets(request)) as packets:
        parser = MultiPartParser(request.headers, packets, max_files=1, max_fields=8, max_part_size=4096)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise Refusal(400, f"the form is malformed: {error.message}") from None
    try:
        yield _read(form)
    finally:
        await form.close()


def _read(form: FormData) -> Upload:
    file, purpose = form.get("file"), form.get("purpose")
    if not isinstance(file, UploadFile):
        raise Refusal(400, "the form has no file in the field 'file'", param="file", code="missing_required_parameter")
    if purpose != PURPOSE:
        message = f"files of the purpose {str(purpose)[:80]!r} have no use here: 'purpose' must be {PURPOSE!r}"
        raise Refusal(400, message, param="purpose", code="invalid_value")
    seconds = str(form.get("expires_after[seconds]", ""))
    is_number = seconds.isascii() and seconds.isdigit() and len(seconds) < 10
    given = {"anchor": form.get("expires_after[anchor]"), "seconds": int(seconds) if is_number else seconds}
    wish = checked(ExpiresAfter, given) if any(given.values()) else None
    return Upload(file, file.filename or "file.jsonl", float(wish.seconds) if wish else None)


async def _packets(request: Request) -> AsyncGenerator[bytes, None]:
    """The packets of a body.

    Raises:
        Refusal: 408, it arrives too slowly; 413, it is too large.
    """
    loop, pace, size = asyncio.get_running_loop(), Pace(), 0
    began = loop.time()
    async with aclosing(request.stream()) as stream:
        while True:
            until = min(loop.time() + pace.pause, began + pace.start + size / pace.rate)
            try:
                async with asyncio.timeout_at(until):
                    packet = await anext(stream, None)
            except TimeoutError:
                message = f"the file did not arrive in time: {size} bytes in {loop.time() - began:.0f} seconds"
                raise Refusal(408, message, code="request_timeout") from None
            if packet is None:
                return
            size += len(packet)
            if size > MOST + AROUND:
                raise _too_large()
            yield packet


def _too_large() -> Refusal:
    return Refusal(413, f"the file is larger than {MOST // 2**20} MiB: split it", code="request_too_large")
