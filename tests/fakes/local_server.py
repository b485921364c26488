"""A server within the test's own process, for tests that replace a part of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn

from moa.config.config import Config
from moa.server.app import create_app
from tests.fakes.serving import CONFIG, Served
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import holds


@asynccontextmanager
async def in_this_process(upstream: Upstream, folder: Path) -> AsyncIterator[Served]:
    """The server of ``CONFIG``, whose files are in this folder; only its ``url`` is set."""
    served = Served(folder, config=CONFIG.format(base_url=upstream.base_url))
    app = create_app(Config(folder / "moa.toml"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="on"))
    serving = asyncio.create_task(server.serve())
    await holds(lambda: server.started)
    served.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield served
    finally:
        server.should_exit = True
        await serving
