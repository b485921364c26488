"""Vendors' own APIs on a real loopback socket: each replays a stream as its vendor's documentation writes it.

    async with VendorServer() as server:
        server.answers(claude("Four."), refusal(529, …))

The streams, each read on 2026-11-25:

- Anthropic: https://platform.claude.com/docs/en/build-with-claude/streaming (text, tool use, extended thinking, errors)
- Gemini: https://ai.google.dev/api/generate-content (``streamGenerateContent?alt=sse``) and
  https://ai.google.dev/gemini-api/docs/thought-signatures
- Bedrock: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html, in the frames of
  https://smithy.io/2.0/aws/amazon-eventstream.html
- Responses: https://platform.openai.com/docs/api-reference/responses-streaming, which Perplexity's Agent API follows:
  https://docs.perplexity.ai/docs/agent-api/migrate-from-sonar/how-to
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

SIGNATURE = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk="


@dataclass
class Reply:
    """What one call gets. ``hangs``: nothing more comes behind the packets; ``cut``: the connection is cut behind them."""

    packets: list[bytes]
    status: int = 200
    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    cut: bool = False


@dataclass
class Call:
    """One request as it came; ``gone`` is set when the client went away before the end."""

    path: str
    headers: Mapping[str, str]
    body: Any
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class VendorServer:
    """A server for every vendor's API. ``calls`` are the requests, in the order they came."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._replies: list[Reply] = []
        self._by_path: dict[str, Reply] = {}
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01, access_log=None)

    def answers(self, *replies: Reply) -> None:
        """The replies of the next calls; the last one stays."""
        self._replies = [*replies]

    def by_path(self, replies: Mapping[str, Reply]) -> None:
        """The reply of every call whose path holds a word."""
        self._by_path = dict(replies)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        call = Call(http.path_qs, http.headers, await http.json() if http.can_read_body else None)
        self.calls.append(call)
        reply = next((each for word, each in self._by_path.items() if word in call.path), None)
        reply = reply or (self._replies.pop(0) if len(self._replies) > 1 else self._replies[0])
        response = web.StreamResponse(
            status=reply.status, headers={"Content-Type": reply.content_type, **reply.headers}
        )
        try:
            await response.prepare(http)
            for packet in reply.packets:
                await response.write(packet)
                await asyncio.sleep(0)
            if reply.hangs:
                await asyncio.Event().wait()
            if reply.cut and http.transport:
                http.transport.abort()
                return response
            await response.write_eof()
        except (asyncio.CancelledError, ConnectionError):
            call.gone.set()
            raise
        return response


def as_json(body: Any, status: int = 200, **headers: str) -> Reply:
    """A reply with a JSON body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply([json.dumps(body).encode()], status, "application/json", named)


def named_events(*events: Mapping[str, Any], **options: Any) -> Reply:
    """Server-sent events, each named after its ``type``, as Anthropic and OpenAI send them."""
    return Reply([f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events], **options)


# Anthropic


def claude(*blocks: Mapping[str, Any], stop: str = "end_turn", usage: Mapping[str, int] | None = None) -> Reply:
    """A whole answer of content blocks; see :func:`says`, :func:`thinks` and :func:`uses`."""
    return named_events(*opening(usage), *block_events(blocks), *closing(stop))


def opening(usage: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
    message: dict[str, Any] = {
        "id": "msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyY",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude-sonnet-5-5",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 1, **(usage or {})},
    }
    return [{"type": "message_start", "message": message}, {"type": "ping"}]


def closing(stop: str) -> list[dict[str, Any]]:
    delta = {"stop_reason": stop, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 15}}, {"type": "message_stop"}]


def block_events(blocks: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for index, block in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": block["start"]}
        for delta in block["deltas"]:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}


def says(*pieces: str) -> dict[str, Any]:
    return {"start": {"type": "text", "text": ""}, "deltas": [{"type": "text_delta", "text": each} for each in pieces]}


def thinks(*pieces: str, signature: str = SIGNATURE) -> dict[str, Any]:
    deltas = [{"type": "thinking_delta", "thinking": each} for each in pieces]
    start = {"type": "thinking", "thinking": "", "signature": ""}
    return {"start": start, "deltas": [*deltas, {"type": "signature_delta", "signature": signature}]}


def redacted(data: str) -> dict[str, Any]:
    return {"start": {"type": "redacted_thinking", "data": data}, "deltas": []}


def uses(name: str, *pieces: str, call: str = "toolu_01T1x1fJ34qAmk2tNTrN7Up6") -> dict[str, Any]:
    start = {"type": "tool_use", "id": call, "name": name, "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": each} for each in ("", *pieces)]
    return {"start": start, "deltas": deltas}


# Gemini


def gemini(*chunks: Mapping[str, Any], **options: Any) -> Reply:
    """Chunks of ``streamGenerateContent?alt=sse``."""
    return Reply([f"data: {json.dumps(each)}\r\n\r\n".encode() for each in chunks], **options)


def candidate(*parts: Mapping[str, Any], finish: str | None = None, **usage: int) -> dict[str, Any]:
    """One chunk: these parts, and usage at its end."""
    found: dict[str, Any] = {"content": {"role": "model", "parts": [*parts]}, "index": 0}
    if finish:
        found["finishReason"] = finish
    counts = {"promptTokenCount": 8, "candidatesTokenCount": 6, "totalTokenCount": 14, **usage}
    return {
        "candidates": [found],
        "usageMetadata": counts,
        "modelVersion": "gemini-3.8-flash",
        "responseId": "Il0taoSYJ5Cez7",
    }


# Bedrock


def converse(*events: tuple[str, Mapping[str, Any]], **options: Any) -> Reply:
    """Frames of ``ConverseStream``: an event's type and its payload each."""
    kind = "application/vnd.amazon.eventstream"
    return Reply([_frame(name, payload) for name, payload in events], content_type=kind, **options)


def converse_text(*pieces: str, stop: str = "end_turn", **usage: int) -> list[tuple[str, Mapping[str, Any]]]:
    """The events of a text."""
    counts = {"inputTokens": 30, "outputTokens": 7, "totalTokens": 37, **usage}
    return [
        ("messageStart", {"role": "assistant"}),
        *(("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": each}}) for each in pieces),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": stop}),
        ("metadata", {"usage": counts, "metrics": {"latencyMs": 275}}),
    ]


def _frame(name: str, payload: Mapping[str, Any]) -> bytes:
    kind = "exception" if name.endswith("Exception") else "event"
    headers = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    head = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + len(value).to_bytes(2, "big") + value.encode()
        for key, value in headers.items()
    )
    body = json.dumps(payload).encode()
    prelude = (len(head) + len(body) + 16).to_bytes(4, "big") + len(head).to_bytes(4, "big")
    message = prelude + zlib.crc32(prelude).to_bytes(4, "big") + head + body
    return message + zlib.crc32(message).to_bytes(4, "big")


# Responses


def responses(text: str, status: str = "completed", **fields: Any) -> Reply:
    """A response that is one message of text."""
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    content = {"type": "output_text", "text": text, "annotations": []}
    base = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1741290958,
        "model": "perplexity/sonar",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
    }
    usage = {
        "input_tokens": 36,
        "output_tokens": 87,
        "total_tokens": 123,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    whole = {**base, "status": status, "output": [{**item, "content": [content]}], "usage": usage, **fields}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**base, "status": "in_progress"}},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": {**content, "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": each, "logprobs": []} for each in text.split(" ")),
        {"type": "response.output_item.done", "output_index": 0, "item": {**item, "content": [content]}},
        {"type": f"response.{status}", "response": whole},
    ]
    return named_events(*({**each, "sequence_number": number} for number, each in enumerate(events)))
