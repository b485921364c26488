"""The lower bound: three proposers and an aggregator with nothing around them, on one pooled session.

    uv run python benchmarks/bare_proxy.py BASE_URL

Takes a chat request, streams three concurrent calls, puts their texts into a fourth, and returns its answer. It handles no
errors, usage, events or limits. Prints its own base URL.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web

UPSTREAM = sys.argv[1]


async def words(http: aiohttp.ClientSession, body: dict[str, Any]) -> AsyncIterator[str]:
    async with http.post(f"{UPSTREAM}/chat/completions", json={**body, "stream": True}) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:]).get("choices", ()):
                    if text := choice["delta"].get("content"):
                        yield text


async def whole(http: aiohttp.ClientSession, body: dict[str, Any]) -> str:
    return "".join([text async for text in words(http, body)])


async def chat(request: web.Request) -> web.StreamResponse:
    body, http = await request.json(), request.app[SESSION]
    proposals = await asyncio.gather(*(whole(http, {**body, "model": name}) for name in "abc"))
    *before, question = body["messages"]
    merged = {**question, "content": "\n\n".join([question["content"], *proposals])}
    last = {**body, "model": "d", "messages": [*before, merged]}
    head = {"id": "x", "created": int(time.time()), "model": body["model"]}
    if not body.get("stream"):
        message = {"role": "assistant", "content": await whole(http, last)}
        return web.json_response({**head, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    async for text in words(http, last):
        chunk = {**head, "choices": [{"index": 0, "delta": {"content": text}}]}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


async def session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as app[SESSION]:
        yield


SESSION = web.AppKey("session", aiohttp.ClientSession)


async def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
