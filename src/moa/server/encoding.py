"""JSON as bytes and as responses, and frames of server-sent events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from moa.models.usage import finite

LINE_BREAKS = {character.encode(): f"\\u{ord(character):04x}".encode() for character in "\u0085\u2028\u2029"}
"""Line breaks of Unicode that JSON need not escape, in UTF-8, and their escapes. Clients that split a stream into lines as
text (httpx) break there. JSON escapes the others, such as vertical tabs and file separators."""

_encode = msgspec.json.Encoder().encode


def json_bytes(value: object) -> bytes:
    """JSON in UTF-8, on one line. NaN and Infinity, which are no JSON, become null. Lone surrogates, which servers that cut
    strings anywhere send, are escaped.
    """
    try:
        data = _encode(value)
    except (UnicodeEncodeError, OverflowError):  # half of a surrogate pair, or an integer of more than 64 bits
        return json.dumps(finite(value)).encode()
    if not data.isascii():
        for character, escape in LINE_BREAKS.items():
            data = data.replace(character, escape)
    return data


def json_response(value: object) -> Response:
    """A response with this JSON. (Starlette's own cannot encode lone surrogates.)"""
    return Response(json_bytes(value), media_type="application/json")


def frame(data: bytes) -> bytes:
    """One server-sent event with this data, which is one line."""
    return b"data: " + data + b"\n\n"


def event_frame(event: Mapping[str, Any]) -> bytes:
    """One server-sent event of the name in its ``type``, with the whole event as its data."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json_bytes(event))


def log_line(text: str) -> str:
    """The text as one line of a log: a caller chooses names, and must not forge a line or move a terminal's cursor."""
    return "".join(each if each.isprintable() else " " for each in text)
