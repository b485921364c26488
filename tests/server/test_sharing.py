"""Several servers on one store: each knows the runs of the others, and can follow, stop, delete and continue them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from moa.cli import history
from tests.fakes.run_client import begin, call, calls_by_model, ended, follow, has_written, record
from tests.fakes.serving import CONFIG, Served, asking
from tests.fakes.upstream import Upstream, done, finish, hang, say, until, words
from tests.fakes.waiting import PATIENCE, comes_true, holds

pytestmark = pytest.mark.anyio

Pair = tuple[Served, Served]


@pytest.fixture(scope="module")
async def pair(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    config = CONFIG.format(base_url=upstream.base_url)
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(
                Served(folder / name, "--store", str(folder / "shared.sqlite"), config=config)
            )
            for name in ("one", "two")
        ]
        yield one, two
    assert "Traceback" not in one.text + two.text


async def test_a_run_of_another_server_is_followed_live(
    http: aiohttp.ClientSession, upstream: Upstream, pair: Pair
) -> None:
    """Its events arrive under the same IDs while the answer is written, and the record says that it is running."""
    one, two = pair
    resume = asyncio.Event()
    upstream.script("last", words("first ") + until(resume) + words("second") + finish() + done())
    run = await begin(http, one, asking())
    following = asyncio.create_task(follow(http, two, run))
    await has_written(http, two, run, {"last": "first "})
    assert (await record(http, two, run))["outcome"] == "running"
    rows = (await call(http, "GET", two, "/runs"))[1]["runs"]
    assert next(row["outcome"] for row in rows if row["run"] == run) == "running"
    resume.set()
    received = await following
    assert received == await follow(http, one, run)
    assert [number for number, _ in received] == [*range(1, len(received) + 1)]
    assert (await record(http, two, run))["answer"]["text"] == "first second"
    async with http.get(f"{two.origin}/runs/{run}/events?after={len(received)}") as response:
        assert response.status == 204


@pytest.mark.parametrize("way", ["stop", "delete"])
async def test_a_run_of_another_server_is_stopped(
    http: aiohttp.ClientSession, upstream: Upstream, pair: Pair, way: str
) -> None:
    """Its call is cancelled, and both servers agree on what is left; it cannot be continued before."""
    one, two = pair
    upstream.script("last", hang())
    run = await begin(http, one, asking())
    await holds(lambda: len(upstream.calls("last")) == 1)
    status, payload = await call(http, "POST", two, "/runs", {"continue": run})
    assert (status, payload["error"]["code"]) == (409, "run_under_way")
    method, path = ("POST", "/stop") if way == "stop" else ("DELETE", "")
    assert (await call(http, method, two, f"/runs/{run}{path}"))[0] == 204
    await asyncio.wait_for(upstream.calls("last")[0].disconnected.wait(), PATIENCE)
    for server in pair:
        if way == "stop":
            assert (await record(http, server, run))["outcome"] == "stopped"
        else:
            assert (await call(http, "GET", server, f"/runs/{run}"))[0] == 404
    assert calls_by_model(upstream) == {"a": 1, "b": 1, "c": 1, "last": 1}


async def test_a_killed_servers_run_is_continued_once(
    http: aiohttp.ClientSession, upstream: Upstream, pair: Pair, tmp_path: Path
) -> None:
    """It is broken off; of two servers that continue it at once, one does, and no finished proposal is requested again."""
    one, two = pair
    resume = asyncio.Event()
    upstream.script("last", hang(), until(resume) + say("at last"))
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--store", one.args[1], config=config) as third:
        run = await begin(http, third, asking())
        await holds(lambda: len(upstream.calls("last")) == 1)
        await comes_true(lambda: _has_proposals(http, one, run))
        await third.stop(signal.SIGKILL)
    assert (await record(http, one, run))["outcome"] == "broken off"
    assert (await follow(http, one, run))[-1][1]["event"] not in ("run_finished", "run_stopped")
    answers = await asyncio.gather(*(call(http, "POST", server, "/runs", {"continue": run}) for server in (one, two)))
    assert sorted(status for status, _ in answers) == [201, 409]
    status, payload = await call(http, "POST", one, "/runs", {"continue": run})
    assert (status, payload["error"]["code"]) == (409, "run_under_way")
    resume.set()
    again = next(payload["run"] for status, payload in answers if status == 201)
    await comes_true(lambda: _has_ended(http, two, again))
    assert (await record(http, two, again))["answer"]["text"] == "at last"
    assert calls_by_model(upstream) == {"a": 1, "b": 1, "c": 1, "last": 2}
    await ended(http, two, await begin(http, two, {"continue": run}))  # later, once more


async def _has_proposals(http: aiohttp.ClientSession, server: Served, run: str) -> bool:
    calls = (await record(http, server, run))["calls"]
    return len([each for each in calls if each["role"] == "proposer" and each["duration"] is not None]) == 3


async def _has_ended(http: aiohttp.ClientSession, server: Served, run: str) -> bool:
    return bool((await record(http, server, run))["outcome"] == "answered")


async def test_a_terminal_beside_a_server(
    http: aiohttp.ClientSession, upstream: Upstream, pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    """``moa runs`` lists, follows and stops the runs of a running server."""
    one, _ = pair
    store = Path(one.args[1])
    upstream.script("last", words("first") + hang())
    run = await begin(http, one, asking())
    following = asyncio.create_task(history.follow(run, store, None))
    await has_written(http, one, run, {"last": "first"})
    history.rows(store, "", 1)
    assert f"{run}\trunning\t" in capsys.readouterr().out
    assert await history.stop([run[:10]], store) == 0
    await following
    shown = capsys.readouterr()
    assert "first" in shown.out and f"stopped {run[:8]}" in shown.err
    assert (await record(http, one, run))["outcome"] == "stopped"
