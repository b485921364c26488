"""The list of models, in the form that the caller's API has for it.

https://platform.openai.com/docs/api-reference/models/list and https://platform.claude.com/docs/en/api/models-list
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from moa.server.dialects.messages import ALIAS, unaliased
from moa.server.encoding import json_response
from moa.server.parts import Parts

Row = Mapping[str, Any]


def routes(parts: Parts) -> APIRouter:
    """``GET /v1/models`` and ``GET /v1/models/NAME``."""
    router = APIRouter(tags=["models"])
    desk, model_list, discretion = parts.desk, parts.model_list, parts.discretion

    @router.get(
        "/v1/models", summary="List the mixtures that can be called; with all=true every mixture and single model"
    )
    async def list_models(request: Request, everything: Annotated[bool, Query(alias="all")] = False) -> Response:
        key = desk.caller(request)
        rows = discretion.tree(model_list.listed(key, all_models=everything))
        if _is_anthropic(request):
            return json_response(_anthropic_list([_anthropic_row(row) for row in rows]))
        if "client_version" in request.query_params:
            return json_response({"models": []})  # Codex: a list of its own form, which may be empty
        return json_response({"object": "list", "data": rows})

    @router.get("/v1/models/{name:path}", summary="Get one of them")
    async def get_model(name: str, request: Request) -> Response:
        key = desk.caller(request)
        name = unaliased(name)
        desk.check_models(key, [name])
        row = discretion.tree(model_list.row(name))
        return json_response(_anthropic_row(row) if _is_anthropic(request) else row)

    return router


def _is_anthropic(request: Request) -> bool:
    return "anthropic-version" in request.headers


def _anthropic_list(rows: Sequence[Row]) -> dict[str, Any]:
    """All rows, on one page."""
    return {
        "data": rows,
        "has_more": False,
        "first_id": rows[0]["id"] if rows else None,
        "last_id": rows[-1]["id"] if rows else None,
    }


def _anthropic_row(row: Row) -> dict[str, Any]:
    """A row in Anthropic's form. Claude Code lists only names that begin with ``claude``, so a mixture has an alias."""
    name = row["id"]
    return {
        "type": "model",
        "id": ALIAS + name.removeprefix("moa/") if name.startswith("moa/") else name,
        "display_name": name,
        "created_at": datetime.fromtimestamp(row["created"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": row.get("context_length"),
        "max_tokens": row.get("max_output_tokens"),
    }
