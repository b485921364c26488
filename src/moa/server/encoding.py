"""JSON as bytes and as responses, and frames of server-sent events."""

from __future__ import annotations

import json

from starlette.responses import Response


def json_bytes(value: object) -> bytes:
    """JSON in UTF-8. Lone surrogates, which servers that cut strings anywhere send, are escaped."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def json_response(value: object) -> Response:
    """A response with this JSON. (Starlette's own cannot encode lone surrogates.)"""
    return Response(json_bytes(value), media_type="application/json")


def frame(data: bytes) -> bytes:
    """One server-sent event with this data, which is one line."""
    return b"data: " + data + b"\n\n"
