"""JSON as bytes and as responses, and frames of server-sent events."""

from __future__ import annotations

import json

from starlette.responses import Response

from moa.models.usage import finite

LINE_BREAKS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""Line breaks of Unicode that JSON need not escape. Clients that split a stream into lines as text (httpx) break there."""


def json_bytes(value: object) -> bytes:
    """JSON in UTF-8, on one line. Lone surrogates, which servers that cut strings anywhere send, are escaped; for NaN and
    Infinity, which are no JSON, see :func:`~moa.models.usage.finite`.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        value = finite(value)
        text = json.dumps(value, ensure_ascii=False)
    if text.isascii():
        return text.encode()
    for character, escape in LINE_BREAKS.items():
        text = text.replace(character, escape)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def json_response(value: object) -> Response:
    """A response with this JSON. (Starlette's own cannot encode lone surrogates.)"""
    return Response(json_bytes(value), media_type="application/json")


def frame(data: bytes) -> bytes:
    """One server-sent event with this data, which is one line."""
    return b"data: " + data + b"\n\n"
