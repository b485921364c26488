"""The OpenAPI document, with what FastAPI cannot know: bodies that routes read themselves, and the form of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

ERROR = {
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

STATUSES: dict[int | str, str] = {
    400: "The request is malformed; `param` names the field.",
    401: "The API key is missing or unknown.",
    402: "The upstreams' credit is used up.",
    403: "The server has no keys, and the request comes through a proxy, from another site's page or for another host.",
    404: "No such model.",
    413: "The body is too large.",
    415: "A web page sent another type than application/json.",
    424: "An upstream cannot be used: not configured, not reachable, or it refuses its key or the model's name.",
    429: "Too many requests, or an upstream's rate limit; see Retry-After.",
    502: "No answer: an upstream failed. `causes` lists why.",
    503: "The upstreams are overloaded, or the server is shutting down.",
    504: "No answer before the deadline.",
}

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    for status, description in STATUSES.items()
}
"""The error responses of a dialect's route."""


def request_body(body: type[BaseModel]) -> dict[str, Any]:
    """The ``openapi_extra`` of a route with such a body, which its handler reads and checks itself."""
    schema = _schema(body)
    schema.pop("$defs", None)
    return _json_body(schema)


def object_body(required: Sequence[str], properties: Mapping[str, Any]) -> dict[str, Any]:
    """Likewise, of an object with these properties."""
    return _json_body({"type": "object", "required": [*required], "properties": properties})


def _json_body(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _schema(body: type[BaseModel]) -> dict[str, Any]:
    return body.model_json_schema(ref_template="#/components/schemas/{model}")


class DescribedAPI(FastAPI):
    """An application whose OpenAPI document holds the schemas of these bodies, and errors as they really are.

    Args:
        bodies: the models passed to :func:`request_body`.
        options: as for FastAPI.
    """

    def __init__(self, bodies: Sequence[type[BaseModel]], **options: Any) -> None:
        self._bodies = bodies
        super().__init__(**options)

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Error"] = ERROR
        for body in self._bodies:
            schemas.update(_schema(body).get("$defs", {}))
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # FastAPI's own status; this server answers 400
        return document
