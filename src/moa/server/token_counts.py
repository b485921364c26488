"""Routes that count the tokens of a request before it is sent, for the dialects that have one.

A mixture has no tokenizer of its own: the count is an estimate, and the header ``x-moa-estimated`` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from moa.models.fitting import prompt_tokens
from moa.server.described import ERROR_RESPONSES, request_body
from moa.server.dialects.dialect import Dialect
from moa.server.encoding import json_response
from moa.server.parts import Parts


def routes(dialects: Sequence[Dialect], parts: Parts) -> APIRouter:
    """The routes of all dialects that count tokens."""
    router = APIRouter()
    for dialect in dialects:
        if dialect.counting:
            _add(router, dialect, *dialect.counting, parts)
    return router


def _add(router: APIRouter, dialect: Dialect, path: str, answer: Callable[[int], Any], parts: Parts) -> None:
    @router.post(
        path,
        name=f"{dialect.name}_tokens",
        tags=[dialect.tag],
        summary="Estimate the input tokens of a request",
        openapi_extra=request_body(dialect.body),
        responses=ERROR_RESPONSES,
    )
    async def count(request: Request) -> Response:
        parts.desk.caller(request)
        tokens = await parts.bodies.parsed(request, lambda data: prompt_tokens(dialect.read(data).request))
        response = json_response(answer(tokens))
        response.headers["x-moa-estimated"] = "true"
        return response
