"""``/mixtures``: the configured mixtures as tables, and a caller's own as a moa.toml."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from moa.config.export import toml_of
from moa.server.body import object_of
from moa.server.described import object_body
from moa.server.encoding import json_response
from moa.server.failures import Refusal
from moa.server.mixtures import MIXTURE, members_of, table_of
from moa.server.parts import Parts

TOML_BODY = object_body(["mixture"], {"name": {"type": "string"}, "mixture": MIXTURE})


def routes(parts: Parts) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["mixtures"])
    desk, tables = parts.desk, parts.tables

    @router.get("/mixtures", summary="List every mixture with its table, and every single model")
    async def list_mixtures(request: Request) -> Response:
        key = desk.caller(request)
        return json_response(parts.discretion.tree(await asyncio.to_thread(lambda: tables.listed(key))))

    @router.post("/mixtures/toml", summary="Export a mixture as a moa.toml", openapi_extra=TOML_BODY)
    async def export(request: Request) -> Response:
        key = desk.caller(request)
        body = await parts.bodies.parsed(request, object_of)
        name, table = table_of(body.get("mixture"), body.get("name"))
        desk.check_models(key, members_of(table))
        try:
            tables.mixture(name, table)
        except Refusal as refusal:
            if refusal.status == 400:  # with another status the table is valid, and a member is not available here
                raise
        return json_response({"toml": toml_of(name, table)})

    return router
