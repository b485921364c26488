"""``moa serve`` as a process of its own, and what a plain HTTP client needs to talk to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.fakes import processes
from tests.fakes.processes import Process
from tests.fakes.upstream import Upstream, say
from tests.fakes.waiting import PATIENCE

PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SYSTEMROOT")

CONFIG = """
[endpoints.up]
base_url = "{base_url}"
attempts = 1

[prices]
"up/a" = {{ input = 1.0, output = 1.0 }}
"up/b" = {{ input = 2.0, output = 2.0 }}
"up/c" = {{ input = 3.0, output = 3.0, cached = 1.0 }}
"up/last" = {{ input = 10.0, output = 10.0 }}

[mixtures.trio]
description = "three and one"
layers = [["up/a", "up/b", "up/c"]]
aggregator = "up/last"

[mixtures.shown]
layers = [["up/a", "up/b", "up/c"], ["up/d"]]
aggregator = "up/last"
progress = true

[mixtures.every]
layers = [["up/a", "up/b"]]
aggregator = "up/last"
fanout = "every"

[mixtures.own]
layers = [[{{ model = "up/a", temperature = 0.9, max_tokens = 50 }}, "up/b"]]
aggregator = {{ model = "up/last", temperature = 0.1 }}

[mixtures.safe]
layers = [["up/a"]]
aggregator = {{ model = "up/last", fallbacks = ["up/spare"] }}

[mixtures.hasty]
layers = [["up/a"]]
aggregator = "up/last"
deadline = 0.2

[mixtures.central]
layers = [["up/a", "up/b", "up/c"]]
aggregate = "central"

[mixtures.unpriced]
layers = [["up/x"]]
aggregator = "up/y"

[mixtures.keyless]
layers = [["openai/gpt-4o-mini"]]
aggregator = "openai/gpt-4o-mini"
"""


class Served:
    """A server process. Use it with ``async with``; it receives SIGTERM at the end.

    Args:
        folder: its home: configuration, state and caches.
        args: after ``moa serve --port 0 --config …``.
        config: the text of its moa.toml.
        env: further environment variables.
    """

    def __init__(self, folder: Path, *args: str, config: str, env: Mapping[str, str] | None = None) -> None:
        self.folder, self.args, self.env = folder, args, dict(env or {})
        self.url = ""
        self.log: list[str] = []
        self.process: Process
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "moa.toml").write_text(config)

    async def __aenter__(self) -> Self:
        self.process = await processes.start(
            *("serve", "--port", "0", "--config", str(self.folder / "moa.toml"), *self.args),
            env={**home(self.folder), **self.env},
        )
        assert self.process.stdout
        self._reading = asyncio.create_task(self._read_log())
        async with asyncio.timeout(PATIENCE):
            self.url = (await self.process.stdout.readline()).decode().strip()
        if not self.url:
            await self.process.wait()
            await self._reading
        return self

    @property
    def origin(self) -> str:
        return self.url.removesuffix("/v1")

    @property
    def text(self) -> str:
        """All it has written to stderr."""
        return "\n".join(self.log)

    def runs(self) -> list[dict[str, Any]]:
        """The log's lines about runs."""
        return [json.loads(line.partition(" moa.runs ")[2]) for line in self.log if " moa.runs " in line]

    async def logged(self, run: str) -> dict[str, Any]:
        """The log's line about a run; waits for it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for line in self.runs():
                    if line["run"] == run:
                        return line
                await asyncio.sleep(0.01)

    async def stop(self, sign: int = signal.SIGTERM) -> int:
        """Send it a signal, and wait for its end; returns the exit code."""
        with suppress(ProcessLookupError):
            self.process.send_signal(sign)
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
        await self._reading
        return code

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            if self.process.returncode is None:
                self.process.kill() if kind else self.process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        await self._reading

    async def _read_log(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self.log.append(line.decode(errors="replace").rstrip("\n"))


def home(folder: Path) -> dict[str, str]:
    """An environment with everything of the user's in a folder, and no keys."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    places = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CONFIG", "CACHE", "DATA", "STATE")}
    return {**kept, **places, "HOME": str(folder)}


def answer_well(upstream: Upstream) -> None:
    """Every model of :data:`CONFIG` answers; scripts of other tests are replaced."""
    upstream.requests.clear()
    for name in "abcd":
        upstream.script(name, say(f"proposal {name}"))
    for name in ("x", "y", "spare"):
        upstream.script(name, say(f"words of {name}"))
    upstream.script("last", say("the whole answer"))


def asking(model: str = "moa/trio", text: str | None = None, **fields: Any) -> dict[str, Any]:
    """A request's body. Its question is that of no other test: a server that failed in one test remembers the body for a
    minute.
    """
    question = f"Why? {os.environ.get('PYTEST_CURRENT_TEST', '').removesuffix(' (call)')}" if text is None else text
    return {"model": model, "messages": [{"role": "user", "content": question}], **fields}


async def post(
    http: aiohttp.ClientSession, server: Served, body: object, **how: Any
) -> tuple[int, Any, Mapping[str, str]]:
    """Ask; returns status, JSON and headers."""
    async with http.post(f"{server.url}/chat/completions", json=body, **how) as response:
        return response.status, await response.json(), response.headers


@asynccontextmanager
async def streamed(
    http: aiohttp.ClientSession, server: Served, body: Mapping[str, Any]
) -> AsyncIterator[AsyncIterator[Any]]:
    """Ask with ``stream``; yields the events as they arrive: objects, and ``[DONE]``."""
    async with http.post(f"{server.url}/chat/completions", json={**body, "stream": True}) as response:
        assert response.status == 200, await response.text()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield events(response)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if line.startswith("data: "):
            payload = line.removeprefix("data: ")
            yield payload if payload == "[DONE]" else json.loads(payload)
        else:
            assert line == "" or line.startswith(":"), line


async def all_events(http: aiohttp.ClientSession, server: Served, body: Mapping[str, Any]) -> list[Any]:
    """Ask with ``stream``; returns all events."""
    async with streamed(http, server, body) as received:
        return [event async for event in received]


def said(events: list[Any], field: str = "content", index: int = 0) -> str:
    """The text of one choice of a stream."""
    return "".join(
        choice["delta"].get(field) or ""
        for event in events
        if isinstance(event, dict)
        for choice in event["choices"]
        if choice["index"] == index
    )
