"""A further dialect: one object over the same runs, with a wire of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from moa.messages import Delta, Request
from moa.server import app
from moa.server.body import OpenObject, checked, object_of
from moa.server.dialects.dialect import Dialect, ParsedRequest, Result
from moa.server.encoding import frame, json_bytes
from moa.server.failures import Refusal
from tests.fakes.local_server import in_this_process
from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream, refuse, say

pytestmark = pytest.mark.anyio


class ShortBody(OpenObject):
    who: str
    question: str
    live: bool = False


class ShortEncoder:
    """Frames of plain text."""

    def start(self, run_id: str) -> None:
        self.run_id = run_id

    def keep_alive(self) -> bytes:
        return frame(b"waiting")

    def progress(self, text: str, index: int) -> bytes:
        return b""

    def delta(self, delta: Delta, index: int) -> bytes:
        return frame(delta.text.encode()) if delta.text else b""

    def end(self, results: Sequence[Result]) -> bytes:
        return frame(b"end")

    def error(self, refusal: Refusal) -> bytes:
        return frame(f"error {refusal.status}".encode())

    def whole(self, results: Sequence[Result]) -> bytes:
        return json_bytes({"run": self.run_id, "texts": [result.answer.text for result in results]})


def read_short(data: bytes) -> ParsedRequest:
    body = checked(ShortBody, object_of(data))
    return ParsedRequest(body.who, Request.of(body.question), ShortEncoder(), stream=body.live)


SHORT = Dialect(
    path="/short",
    name="short",
    tag="short",
    summary="Answer briefly",
    body=ShortBody,
    read=read_short,
    error=lambda refusal: json_bytes({"problem": refusal.message, "field": refusal.param}),
)


async def post(http: aiohttp.ClientSession, server: Served, **body: object) -> tuple[int, str]:
    origin = server.url.removesuffix("/v1")
    async with http.post(f"{origin}/short", json=body) as response:
        return response.status, await response.text()


async def test_a_dialect_is_one_object(
    http: aiohttp.ClientSession, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its bodies, streams, whole answers and errors have its own form; nothing else of the server knows it."""
    monkeypatch.setattr(app, "DIALECTS", (*app.DIALECTS, SHORT))
    async with in_this_process(upstream, tmp_path) as server:
        upstream.script("last", say("two words"))
        status, text = await post(http, server, who="moa/trio", question="Why?", live=True)
        assert status == 200 and text.endswith("data: end\n\n")
        assert "".join(line.removeprefix("data: ") for line in text.split("\n") if line) == "two wordsend"
        status, text = await post(http, server, who="moa/trio", question="Why?")
        whole = json.loads(text)
        assert (status, whole["texts"]) == (200, ["two words"]) and len(whole["run"]) == 32
        status, text = await post(http, server, who="moa/trio")
        assert (status, json.loads(text)["field"]) == (400, "question")
        upstream.script("last", refuse(500, "on fire"))
        status, text = await post(http, server, who="moa/trio", question="Why?", live=True)
        assert status == 502 and "on fire" in json.loads(text)["problem"]
