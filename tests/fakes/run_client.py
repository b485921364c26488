"""A client of ``/runs``: what tests of the server's own runs have in common."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import PATIENCE, comes_true


async def call(
    http: aiohttp.ClientSession, method: str, server: Served, path: str, body: Any = None, **how: Any
) -> tuple[int, Any]:
    """Status and JSON, None where there is no body."""
    async with http.request(method, f"{server.origin}{path}", json=body, **how) as response:
        data = await response.read()
        return response.status, json.loads(data) if data else None


async def begin(http: aiohttp.ClientSession, server: Served, body: Any, **how: Any) -> str:
    """Begin a run; returns its run ID."""
    status, payload = await call(http, "POST", server, "/runs", body, **how)
    assert status == 201, payload
    return str(payload["run"])


async def follow(
    http: aiohttp.ClientSession,
    server: Served,
    run: str,
    after: int | None = None,
    on_head: Callable[[], None] = lambda: None,
    **how: Any,
) -> list[tuple[int, dict[str, Any]]]:
    """All events of a run, with their ids; waits for its end. Calls ``on_head`` when the response begins."""
    query = "" if after is None else f"?after={after}"
    received: list[tuple[int, dict[str, Any]]] = []
    async with asyncio.timeout(PATIENCE):
        async with http.get(f"{server.origin}/runs/{run}/events{query}", **how) as response:
            if response.status == 204:
                return []
            assert response.status == 200, await response.text()
            assert response.headers["content-type"].startswith("text/event-stream")
            on_head()
            number = 0
            for line in (await response.text()).split("\n"):
                field, _, value = line.partition(": ")
                if field == "id":
                    number = int(value)
                elif field == "data":
                    received.append((number, json.loads(value)))
    return received


async def record(http: aiohttp.ClientSession, server: Served, run: str, **how: Any) -> Any:
    status, payload = await call(http, "GET", server, f"/runs/{run}", **how)
    assert status == 200, payload
    return payload


async def has_written(http: aiohttp.ClientSession, server: Served, run: str, texts: Mapping[str, str]) -> None:
    """Wait until the record of a run has these texts of its agents."""

    async def recorded() -> bool:
        calls = (await record(http, server, run))["calls"]
        return texts.items() <= {each["agent"]: each["text"] for each in calls}.items()

    await comes_true(recorded)


async def gauges(http: aiohttp.ClientSession, server: Served) -> tuple[int, int]:
    """Runs in flight and queued."""
    async with http.get(f"{server.origin}/metrics") as response:
        page = await response.text()
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    return int(float(values["moa_runs_in_flight"])), int(float(values["moa_runs_queued"]))


async def until_gauges(http: aiohttp.ClientSession, server: Served, wanted: tuple[int, int]) -> None:
    """Wait until so many runs are in flight and queued."""

    async def counted() -> bool:
        return await gauges(http, server) == wanted

    await comes_true(counted)


def open_sockets(server: Served) -> set[str]:
    """The sockets of a server's process; the kernel uses no number twice."""
    names = set()
    for descriptor in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            names.add(str(descriptor.readlink()))
    return {name for name in names if name.startswith("socket:")}


async def until_refused(server: Served) -> None:
    """Wait until the server accepts no new connection."""

    async def refused() -> bool:
        host, port = server.origin.removeprefix("http://").split(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionError:
            return True
        writer.transport.abort()
        return False

    await comes_true(refused)


async def ended(http: aiohttp.ClientSession, server: Served, run: str) -> Any:
    """The record of a run, once it has ended."""
    await follow(http, server, run)
    return await record(http, server, run)


def calls_by_model(upstream: Upstream) -> dict[str, int]:
    """How often each model was called."""
    return {name: len(upstream.calls(name)) for name in ("a", "b", "c", "last")}
