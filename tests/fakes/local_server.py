"""A server within the test's own process, for tests that replace a part of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from moa.config.config import Config
from moa.server.app import create_app
from tests.fakes.serving import CONFIG, Served
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import holds


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The address of an application while it is served."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="on"))
    running = asyncio.create_task(server.serve())
    await holds(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def in_this_process(upstream: Upstream, folder: Path, config: str | None = None) -> AsyncIterator[Served]:
    """The server of a moa.toml, by default ``CONFIG``, whose files are in this folder; only its ``url`` is set."""
    served = Served(folder, config=config or CONFIG.format(base_url=upstream.base_url))
    async with serving(create_app(Config(folder / "moa.toml"))) as address:
        served.url = f"{address}/v1"
        yield served
