"""The stream of an upstream that costs nothing, for the upstreams here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def stream_of(words: Iterable[str]) -> bytes:
    """The server-sent events of an answer of these words, one a token, with a usage of ten tokens of input."""
    pieces = list(words)
    choices: list[dict[str, Any]] = [{"index": 0, "delta": {"content": word}, "finish_reason": None} for word in pieces]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    chunks: list[dict[str, Any]] = [
        {"id": "c", "object": "chat.completion.chunk", "choices": [choice]} for choice in choices
    ]
    counts = {"prompt_tokens": 10, "completion_tokens": len(pieces), "total_tokens": 10 + len(pieces)}
    chunks.append({"choices": [], "usage": counts})
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
