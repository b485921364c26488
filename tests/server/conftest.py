"""Servers for the tests of this room: each combination of arguments and configuration is started once a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack
from typing import Protocol

import aiohttp
import pytest

from tests.fakes.serving import CONFIG, Served, answer_well
from tests.fakes.upstream import Upstream


class Serve(Protocol):
    """Gives the server of these arguments whose moa.toml is ``first``, ``CONFIG`` and ``more``; starts it when needed."""

    def __call__(self, *args: str, first: str = "", more: str = "") -> Awaitable[Served]: ...


@pytest.fixture(scope="session")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture(scope="session")
async def serve(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serve]:
    started: dict[tuple[str, ...], Served] = {}
    async with AsyncExitStack() as stack:

        async def server(*args: str, first: str = "", more: str = "") -> Served:
            if (*args, first, more) not in started:
                config = first + CONFIG.format(base_url=upstream.base_url) + more
                served = Served(tmp_path_factory.mktemp("server"), *args, config=config)
                started[*args, first, more] = await stack.enter_async_context(served)
            return started[*args, first, more]

        yield server


@pytest.fixture(scope="module")
async def server(serve: Serve) -> Served:
    """The server that most tests share. A file with needs of its own overrides this."""
    return await serve()


@pytest.fixture(scope="session")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


@pytest.fixture(autouse=True)
def well(request: pytest.FixtureRequest) -> Iterator[None]:
    """Before each test every model answers again; no test makes the server log a traceback."""
    if "upstream" in request.fixturenames:
        answer_well(request.getfixturevalue("upstream"))
    server = request.getfixturevalue("server") if "server" in request.fixturenames else None
    before = len(server.log) if server else 0
    yield
    if server:
        assert "Traceback" not in "\n".join(server.log[before:])
