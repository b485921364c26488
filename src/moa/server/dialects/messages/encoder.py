"""The answer to an Anthropic request: one message, or events that build it.

A block starts, grows and stops before the next one starts. So the first tool call streams, and what follows it (other
calls, text) waits for the end of the answer.

https://platform.claude.com/docs/en/api/messages and …/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from moa.messages import Delta, Usage
from moa.pieces import joined_tool_calls
from moa.server.connection import COMMENT
from moa.server.dialects.dialect import Result, moa_object, usage_of
from moa.server.dialects.functions import Tools
from moa.server.dialects.seal import SEAL, Sealed, has_blocks
from moa.server.encoding import event_frame, json_bytes
from moa.server.failures import Refusal

Event = dict[str, Any]

STOP_REASONS = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""Finish reasons as ``stop_reason``; all others are ``end_turn``."""

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""The error types by status; all others are ``api_error``. https://platform.claude.com/docs/en/api/errors"""

INVALID = "INVALID_JSON"
"""Holds the arguments of a call that are no JSON object, such as those of an answer that hit its limit: an empty object
would be another call. https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming
"""

TOO_LONG = "prompt is too long"
"""Begins Anthropic's message when a prompt exceeds the context size: Claude Code then compacts its conversation."""


def error_object(refusal: Refusal) -> dict[str, Any]:
    """A refusal in the form of Anthropic's API."""
    message = refusal.message
    if refusal.code == "context_length_exceeded" and TOO_LONG not in message:
        message = f"{TOO_LONG}: {message}"
    details = {"type": TYPES.get(refusal.status, "api_error"), "message": message}
    return {
        "type": "error",
        "error": {**details, **({"param": refusal.param} if refusal.param else {}), **refusal.more},
    }


def messages_error(refusal: Refusal) -> bytes:
    """The body of an error response."""
    return json.dumps(error_object(refusal)).encode()


class MessagesEncoder:
    """See :class:`~moa.server.dialects.dialect.Encoder`.

    Args:
        model: as the request names it.
        input_tokens: the estimate that the first event reports.
        tools: the request's.
        thinking: send reasoning and proposals, as thinking.
        explain: send the attribution.
    """

    def __init__(self, model: str, input_tokens: int, tools: Tools, *, thinking: bool, explain: bool = False) -> None:
        self._tools = tools
        self._model, self._input_tokens, self._thinking, self._explain = model, input_tokens, thinking, explain
        self._run_id = ""
        self._opened = False
        self._block: dict[str, Any] | None = None
        self._blocks = 0
        self._sealed = Sealed()
        self._live: object = None
        self._waiting: list[Mapping[str, Any]] = []
        self._texts: list[tuple[str, Mapping[str, Any], str]] = []

    def start(self, run_id: str) -> None:
        self._run_id = run_id

    def keep_alive(self) -> bytes:
        if not self._run_id:
            return COMMENT
        return self._opening() or _frames([{"type": "ping"}])

    def progress(self, text: str, index: int) -> bytes:
        return self._opening() + _frames(self._think(text)) if self._thinking else b""

    def delta(self, delta: Delta, index: int) -> bytes:
        return self._opening() + _frames(self._added(delta))

    def end(self, results: Sequence[Result]) -> bytes:
        return self._opening() + _frames(self._ended(results))

    def error(self, refusal: Refusal) -> bytes:
        return self._opening() + _frames([error_object(refusal)])

    def whole(self, results: Sequence[Result]) -> bytes:
        answer, extra = results[0].answer, results[0].extra
        content: list[dict[str, Any]] = []
        if self._thinking and (answer.reasoning or has_blocks(extra)):
            self._sealed.add(extra)
            content.append({"type": "thinking", "thinking": answer.reasoning, "signature": self._signature})
        if text := answer.text + str(extra.get("refusal") or ""):
            content.append({"type": "text", "text": text})
        content += [{**self._block_of(call), "input": _input(call)} for call in answer.tool_calls]
        end = {"stop_reason": _stop_reason(results[0]), "usage": usage_object(usage_of(results))}
        moa = moa_object(results, explain=self._explain)
        return json_bytes({**self._message, "content": content, **end, "moa": moa})

    @property
    def _message(self) -> dict[str, Any]:
        return {
            "id": f"msg_{self._run_id}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    @property
    def _signature(self) -> str:
        return str(self._sealed) if self._sealed else SEAL

    def _opening(self) -> bytes:
        """The first event of the stream; nothing when it was sent."""
        if self._opened:
            return b""
        self._opened = True
        usage = {"input_tokens": self._input_tokens, "output_tokens": 0}
        usage |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        return _frames([{"type": "message_start", "message": {**self._message, "usage": usage}}])

    def _added(self, delta: Delta) -> Iterator[Event]:
        """The events of one piece of the answer."""
        extra = delta.extra or {}
        if self._thinking and (delta.reasoning or has_blocks(extra)):
            self._sealed.add(extra)
            yield from self._think(delta.reasoning)
        refusal = extra.get("refusal")
        before = "\n\n" if delta.thought else ""  # what was sent was reasoning; the answer begins here
        if text := delta.text + (refusal if isinstance(refusal, str) else ""):
            yield from self._write("text", {}, before + text)
        for piece in delta.tool_calls:
            yield from self._call(piece)

    def _think(self, text: str) -> Iterator[Event]:
        yield from self._write("thinking", {"signature": ""}, text)

    def _block_of(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """The start of a tool call's block."""
        name = self._tools.origin(str((call.get("function") or {}).get("name") or "")).name
        return {"type": "tool_use", "id": str(call.get("id") or ""), "name": name, "input": {}}

    def _call(self, piece: Mapping[str, Any]) -> Iterator[Event]:
        if self._block is None or self._block["type"] != "tool_use":
            yield from self._start(self._block_of(piece))
            self._live = piece.get("index")
        if piece.get("index") != self._live:
            self._waiting.append(piece)
        elif arguments := _arguments(piece):
            yield self._delta({"type": "input_json_delta", "partial_json": arguments})

    def _write(self, kind: str, fields: Mapping[str, Any], text: str) -> Iterator[Event]:
        """Add to a block of this kind. During a tool call the text waits: the call may not have ended."""
        if self._block is not None and self._block["type"] == "tool_use":
            self._texts.append((kind, fields, text))
            return
        if self._block is None or self._block["type"] != kind:
            yield from self._start({"type": kind, kind: "", **fields})
        yield self._delta({"type": f"{kind}_delta", kind: text})

    def _start(self, block: dict[str, Any]) -> Iterator[Event]:
        yield from self._stop()
        self._block = block
        yield {"type": "content_block_start", "index": self._blocks, "content_block": block}

    def _delta(self, delta: Mapping[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": self._blocks, "delta": delta}

    def _stop(self) -> Iterator[Event]:
        """Stop the block that is open, if any."""
        if self._block is None:
            return
        if self._block["type"] == "thinking":
            yield self._delta({"type": "signature_delta", "signature": self._signature})
            self._sealed = Sealed()
        yield {"type": "content_block_stop", "index": self._blocks}
        self._blocks += 1
        self._block = None

    def _ended(self, results: Sequence[Result]) -> Iterator[Event]:
        yield from self._stop()
        for call in joined_tool_calls(self._waiting):
            yield from self._start(self._block_of(call))
            yield self._delta({"type": "input_json_delta", "partial_json": _arguments(call)})
            yield from self._stop()
        for kind, fields, text in self._texts:
            yield from self._write(kind, fields, text)
        yield from self._stop()
        delta = {"stop_reason": _stop_reason(results[0]), "stop_sequence": None}
        moa = moa_object(results, explain=self._explain)
        yield {"type": "message_delta", "delta": delta, "usage": usage_object(usage_of(results)), "moa": moa}
        yield {"type": "message_stop"}


def usage_object(usage: Usage) -> dict[str, Any]:
    """``usage`` in the form of Anthropic's API, whose input tokens do not include those that come from a cache."""
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }


def _arguments(call: Mapping[str, Any]) -> str:
    return str((call.get("function") or {}).get("arguments") or "")


def _input(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = _arguments(call)
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {INVALID: arguments}


def _stop_reason(result: Result) -> str:
    if result.extra.get("refusal"):
        return "refusal"
    return STOP_REASONS.get(result.answer.finish_reason or "", "end_turn")


def _frames(events: Iterable[Event]) -> bytes:
    return b"".join(map(event_frame, events))
