"""Disconnecting clients, a full server, and a server that shuts down."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.run_client import call, has_written, until_gauges, until_refused
from tests.fakes.serving import CONFIG, Served, all_events, asking, post, said
from tests.fakes.upstream import Received, Script, Upstream, done, finish, hang, head, say, step, words
from tests.fakes.waiting import PATIENCE, holds
from tests.server.conftest import Serve

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def server(serve: Serve) -> Served:
    """A small server: two concurrent runs, a queue of two."""
    return await serve("--max-runs", "2", "--max-queue", "2")


async def begun(server: Served, body: object) -> asyncio.StreamWriter:
    """A request sent over a connection of its own; closing it is hanging up."""
    host, port = server.origin.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    await writer.drain()
    return writer


STAGES: dict[str, tuple[dict[str, Script], dict[str, str]]] = {
    "proposers, before their headers": (dict.fromkeys("abc", hang()), dict.fromkeys("abc", "")),
    "proposers, after their headers": (dict.fromkeys("abc", head() + hang()), dict.fromkeys("abc", "")),
    "proposers, writing": (dict.fromkeys("abc", words("a few words") + hang()), dict.fromkeys("abc", "a few words")),
    "one proposer of three": ({"b": words("a few") + hang()}, {"a": "proposal a", "b": "a few", "c": "proposal c"}),
    "aggregator, before its headers": ({"last": hang()}, {"last": ""}),
    "aggregator, writing": ({"last": words("a few words") + hang()}, {"last": "a few words"}),
}
"""What the models do, and the text of agents when the client disconnects."""


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("stage", STAGES)
async def test_when_the_client_disconnects_every_upstream_call_is_cancelled(
    server: Served, upstream: Upstream, stage: str, stream: bool
) -> None:
    """Wherever the run is: no call continues and costs money, and the run's slot is free again."""
    scripts, texts = STAGES[stage]
    for name, script in scripts.items():
        upstream.script(name, script)
    before = len(server.runs())
    writer = await begun(server, asking(stream=stream))
    await holds(lambda: sorted(c.model for c in upstream.requests if not c.finished.is_set()) == sorted(scripts))
    if "before" not in stage:
        await holds(lambda: all(call.started.is_set() for call in upstream.requests))
    async with aiohttp.ClientSession() as http:
        _, listed = await call(http, "GET", server, "/runs?limit=1")
        await has_written(http, server, listed["runs"][0]["run"], texts)
    writer.transport.abort()
    open_now = [call for call in upstream.requests if not call.finished.is_set()]
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(each.disconnected.wait() for each in open_now))
    await holds(lambda: len(server.runs()) > before)
    line = server.runs()[-1]
    assert line["outcome"] == "cancelled"
    assert line["cost"] and line["output_tokens"] >= 0 and line["input_tokens"] > 0
    async with aiohttp.ClientSession() as http:
        await until_gauges(http, server, (0, 0))


async def test_concurrent_runs_are_limited_and_the_queue_is_bounded(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Two run, two wait, a fifth gets 429 with Retry-After; one that leaves the queue calls no model; the rest succeed."""
    resume = asyncio.Event()

    async def wait(call: Received) -> None:
        await asyncio.wait_for(resume.wait(), PATIENCE)

    upstream.script("a", step(wait) + say("go"))

    running = [asyncio.create_task(post(http, server, asking("up/a"))) for _ in range(2)]
    await until_gauges(http, server, (2, 0))
    waiting = asyncio.create_task(all_events(http, server, asking("up/a")))
    impatient = await begun(server, asking("up/a", "I am impatient"))
    await until_gauges(http, server, (2, 2))
    for stream in (False, True):
        status, body, headers = await post(http, server, asking("up/a", stream=stream))
        assert (status, body["error"]["code"], headers["retry-after"]) == (429, "busy", "1")
    impatient.transport.abort()
    await until_gauges(http, server, (2, 1))
    resume.set()
    assert [status for status, _, _ in await asyncio.gather(*running)] == [200, 200]
    assert said(await waiting) == "go"
    assert len(upstream.requests) == 3
    assert not any(call.prompt == "I am impatient" for call in upstream.requests)
    await until_gauges(http, server, (0, 0))


async def test_a_client_may_disconnect_in_the_middle_of_its_request(
    http: aiohttp.ClientSession, server: Served
) -> None:
    """There is no run and no traceback, and the next request is answered."""
    host, port = server.origin.removeprefix("http://").split(":")
    for part in (b"", b"PO", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{"):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(part)
        await writer.drain()
        async with http.get(f"{server.origin}/healthz") as response:
            assert response.status == 200  # it has read the part before
        writer.transport.abort()
    status, _, _ = await post(http, server, asking())
    assert status == 200
    assert "Traceback" not in server.text


# -- shutting down ------------------------------------------------------------------------------------------------------


async def test_on_sigterm_runs_finish_and_new_ones_are_refused(upstream: Upstream, tmp_path: Path) -> None:
    """Streamed and whole answers are completed, no new connection is accepted, and the exit code is 0."""
    resume = asyncio.Event()

    async def wait(call: Received) -> None:
        await asyncio.wait_for(resume.wait(), PATIENCE)

    upstream.script("last", words("first ") + step(wait) + words("second") + finish() + done())
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--grace", "20", config=config) as server, aiohttp.ClientSession() as http:
        streaming = asyncio.create_task(all_events(http, server, asking()))
        whole = asyncio.create_task(post(http, server, asking()))
        await holds(lambda: len(upstream.calls("last")) == 2)
        server.process.send_signal(signal.SIGTERM)
        await until_refused(server)
        with pytest.raises(aiohttp.ClientConnectionError):
            async with aiohttp.ClientSession() as other:
                await post(other, server, asking())
        assert server.process.returncode is None
        resume.set()
        assert said(await streaming) == "first second"
        assert (await whole)[1]["choices"][0]["message"]["content"] == "first second"
        async with asyncio.timeout(PATIENCE):
            assert await server.process.wait() == 0
    assert "Traceback" not in server.text


async def test_after_the_grace_runs_are_cancelled(upstream: Upstream, tmp_path: Path) -> None:
    """Their upstream calls are cancelled, their clients get a 503 or an error event of their API, and the exit is 0."""
    upstream.script("last", words("on and on") + hang())
    config = CONFIG.format(base_url=upstream.base_url)

    async def messages(http: aiohttp.ClientSession, url: str) -> Any:
        async with http.post(f"{url}/messages", json=asking(max_tokens=9)) as response:
            return await response.json()

    async with Served(tmp_path, "--grace", "1", config=config) as server, aiohttp.ClientSession() as http:
        streaming = asyncio.create_task(all_events(http, server, asking()))
        whole = asyncio.create_task(post(http, server, asking()))
        of_anthropic = asyncio.create_task(messages(http, server.url))
        await holds(lambda: len(upstream.calls("last")) == 3)
        assert await server.stop() == 0
        await asyncio.wait_for(upstream.calls("last")[0].disconnected.wait(), PATIENCE)
        events = await streaming
        assert said(events[:-1]) == "on and on"
        status, body, _ = await whole
        assert (status, body["error"]["code"], body) == (503, "stopping", events[-1])
        assert (await of_anthropic)["error"]["type"] == "overloaded_error"
    assert [run["outcome"] for run in server.runs()] == ["cancelled"] * 3
    assert "Traceback" not in server.text


async def test_an_idle_server_stops_at_once(upstream: Upstream, tmp_path: Path) -> None:
    """Ctrl-C ends it as SIGTERM does, with exit code 0 and no traceback, even with an idle connection open."""
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--grace", "600", config=config) as server, aiohttp.ClientSession() as http:
        async with http.get(f"{server.origin}/readyz") as response:
            assert response.status == 200
        assert await server.stop(signal.SIGINT) == 0
    assert "Traceback" not in server.text
