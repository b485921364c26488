"""Mixtures as tools of the Model Context Protocol, with the official SDK's client."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from moa.server.consulting import Consulting
from moa.server.discretion import Discretion
from tests.fakes.local_server import in_this_process
from tests.fakes.packages import needs
from tests.fakes.upstream import Upstream, hang, refuse, say, words
from tests.fakes.waiting import PATIENCE, holds

pytestmark = [pytest.mark.anyio, needs("mcp", install="uv sync --group ci")]


def text_in(result: Any) -> str:
    return str(result.content[0].text)


async def test_an_agent_consults_a_mixture(upstream: Upstream, tmp_path: Path) -> None:
    """The answer is the tool's result, and each agent that has answered is progress."""
    from mcp import Client

    upstream.script("last", say("the whole answer"))
    messages = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        messages.append(message)
        assert total is None or done <= total

    async with in_this_process(upstream, tmp_path) as server, Client(f"{server.origin}/mcp") as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {
            *("consult", "list_mixtures", "submit", "status", "result", "cancel")
        }
        arguments = {"question": "Why?", "mixture": "trio", "background": "It rains.", "effort": "low"}
        result = await client.call_tool("consult", arguments, progress_callback=on_progress)
        assert text_in(result) == "the whole answer" and not result.is_error
        assert {"a (layer 1) has answered", "last writes the answer"} <= set(messages)
        assert upstream.calls("a")[-1].body["reasoning_effort"] == "low"
        assert upstream.calls("a")[-1].body["messages"][0] == {"role": "system", "content": "It rains."}
        listed = (await client.call_tool("list_mixtures", {})).structured_content
        assert listed is not None and "moa/trio" in [each["id"] for each in listed["result"]]


async def test_a_run_is_submitted_watched_read_and_stopped(upstream: Upstream, tmp_path: Path) -> None:
    """The ID of a run is all that its caller needs."""
    from mcp import Client

    async with in_this_process(upstream, tmp_path) as server, Client(f"{server.origin}/mcp") as client:
        upstream.script("last", hang())
        run = text_in(await client.call_tool("submit", {"question": "Why?", "mixture": "moa/trio"}))
        status = (await client.call_tool("status", {"run": run})).structured_content
        assert status is not None and status["outcome"] == "running"
        early = await client.call_tool("result", {"run": run})
        assert early.is_error and "in progress" in text_in(early)
        await client.call_tool("cancel", {"run": run})
        status = (await client.call_tool("status", {"run": run})).structured_content
        assert status is not None and status["outcome"] == "stopped"
        unknown = await client.call_tool("status", {"run": "nothing"})
        assert unknown.is_error and "no run" in text_in(unknown)


async def test_a_failure_is_the_tools_error(upstream: Upstream, tmp_path: Path) -> None:
    """Its words reach the model that called the tool, and so do those of a wrong name."""
    from mcp import Client

    upstream.script("last", refuse(500, "on fire"))
    async with in_this_process(upstream, tmp_path) as server, Client(f"{server.origin}/mcp") as client:
        failed = await client.call_tool("consult", {"question": "Why?", "mixture": "trio"})
        assert failed.is_error and "on fire" in text_in(failed)
        unknown = await client.call_tool("consult", {"question": "Why?", "mixture": "nobody"})
        assert unknown.is_error and "nobody" in text_in(unknown)


async def test_no_part_of_an_answer_passes_for_the_whole(upstream: Upstream, tmp_path: Path) -> None:
    """A run that was stopped in its answer is an error, and an answer that hit its limit says so."""
    from mcp import Client

    async with in_this_process(upstream, tmp_path) as server, Client(f"{server.origin}/mcp") as client:
        upstream.script("last", say("half an", reason="length"))
        cut = await client.call_tool("consult", {"question": "Why?", "mixture": "trio"})
        assert text_in(cut).startswith("half an\n\n[This answer is incomplete")
        upstream.script("last", words("half an") + hang())
        run = text_in(await client.call_tool("submit", {"question": "Why now?", "mixture": "trio"}))
        await holds(lambda: bool(upstream.calls("last")[1:]) and upstream.calls("last")[-1].started.is_set())
        await client.call_tool("cancel", {"run": run})
        stopped = await client.call_tool("result", {"run": run})
        assert stopped.is_error and "stopped" in text_in(stopped)


async def test_an_error_shows_no_path(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As over HTTP, where callers are others than the operator; an error of the program's own shows nothing at all."""
    from mcp import Client

    monkeypatch.setattr(Discretion, "tells_all", property(lambda self: False))
    async with in_this_process(upstream, tmp_path) as server, Client(f"{server.origin}/mcp") as client:
        failed = await client.call_tool("consult", {"question": "Why?", "mixture": "keyless"})
        assert failed.is_error and str(tmp_path) not in text_in(failed)
        monkeypatch.setattr(Consulting, "start", AsyncMock(side_effect=ValueError("a secret")))
        failed = await client.call_tool("consult", {"question": "Why?", "mixture": "trio"})
        assert failed.is_error and "secret" not in text_in(failed)


async def test_a_client_that_gives_up_ends_its_run(upstream: Upstream, tmp_path: Path) -> None:
    """Every upstream call of the run is cancelled."""
    from mcp import Client

    upstream.script("last", hang())
    async with in_this_process(upstream, tmp_path) as server, Client(f"{server.origin}/mcp") as client:
        asking = asyncio.create_task(client.call_tool("consult", {"question": "Why?", "mixture": "trio"}))
        await holds(lambda: bool(upstream.calls("last")))
        asking.cancel()
        async with asyncio.timeout(PATIENCE):
            await upstream.calls("last")[-1].disconnected.wait()
