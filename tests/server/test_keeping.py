"""Whose runs they are, what is kept of them, and what becomes of them when the server is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.run_client import begin, call, ended, follow, holds, record
from tests.fakes.serving import CONFIG, Served, answer_well, asking, home, post
from tests.fakes.upstream import (
    Upstream,
    done,
    finish,
    hang,
    say,
    until,
    words,
)

pytestmark = pytest.mark.anyio

SOON = 2.0
"""Seconds: a generous bound on a busy machine."""


# -- who may ask -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1"])
async def test_a_name_that_is_made_to_mean_this_machine_reads_nothing(
    http: aiohttp.ClientSession, server: Served, host: str
) -> None:
    """A web page of that name would be of the server's own origin; every route refuses it."""
    for method, path in (
        ("GET", "/runs"),
        ("POST", "/runs"),
        ("GET", "/runs/x"),
        ("GET", "/runs/x/events"),
        ("POST", "/runs/x/stop"),
        ("DELETE", "/runs/x"),
        ("GET", "/mixtures"),
        ("POST", "/mixtures/toml"),
    ):
        status, told = await call(http, method, server, path, headers={"Host": host})
        assert (status, told["error"]["code"]) == (403, "host_not_allowed"), path


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1", "[::1]:8000", "192.168.1.5:8000"])
async def test_this_machine_and_addresses_are_let_in(http: aiohttp.ClientSession, server: Served, host: str) -> None:
    """However it is reached without a name that somebody else could have made."""
    assert (await call(http, "GET", server, "/runs", headers={"Host": host}))[0] == 200


async def test_pages_from_elsewhere_may_not_ask(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """As for chat: by their Origin."""
    for method, path in (("POST", "/runs"), ("GET", "/runs"), ("DELETE", "/runs/x"), ("POST", "/runs/x/stop")):
        status, told = await call(http, method, server, path, asking(), headers={"Origin": "https://evil.example"})
        assert (status, told["error"]["code"]) == (403, "origin_not_allowed")
    status, _ = await call(http, "GET", server, "/runs", headers={"Origin": server.origin})
    assert status == 200 and not upstream.requests


async def test_runs_belong_to_their_key(http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path) -> None:
    """To another key they are not there; limits count; without a key there is nothing at all."""
    config = CONFIG.format(base_url=upstream.base_url)
    ann = await moa(tmp_path, "key", "add", "ann", "--keys", str(tmp_path / "keys.json"))
    limits = ("--dollars-per-day", "0.0001", "--requests-per-minute", "5")
    bob = await moa(tmp_path, "key", "add", "bob", "--keys", str(tmp_path / "keys.json"), *limits)
    hers: Any
    his: Any
    hers, his = ({"headers": {"Authorization": f"Bearer {secret}"}} for secret in (ann, bob))
    async with Served(tmp_path, "--keys", str(tmp_path / "keys.json"), "--keep", config=config) as server:
        run = await begin(http, server, asking(), **hers)
        await follow(http, server, run, **hers)
        assert (await record(http, server, run, **hers))["outcome"] == "answered"
        assert [each["run"] for each in (await call(http, "GET", server, "/runs", **hers))[1]["runs"]] == [run]
        assert (await call(http, "GET", server, "/runs", **his))[1]["runs"] == []
        upstream.script("a", hang())
        going = await begin(http, server, asking(), **hers)
        for each in (run, going):
            for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/stop"), ("DELETE", "")):
                assert (await call(http, method, server, f"/runs/{each}{path}", **his))[0] == 404
            status, told = await call(http, "POST", server, "/runs", {"continue": each}, **his)
            assert (status, told["error"]["code"]) == (404, "run_not_found")
        for method, path in (("GET", "/runs"), ("POST", "/runs"), ("GET", f"/runs/{run}"), ("GET", "/mixtures")):
            assert (await call(http, method, server, path))[0] == 401
        assert (await record(http, server, going, **hers))["outcome"] == "running"
        await call(http, "POST", server, f"/runs/{going}/stop", **hers)
        answer_well(upstream)
        status, told = await call(http, "GET", server, "/runs", headers={"Host": "evil.example", **hers["headers"]})
        assert status == 200  # a key is what a page from elsewhere does not have
        mine = await begin(http, server, asking(), **his)
        await follow(http, server, mine, **his)
        assert (await server.logged(mine))["key"] == "bob"
        status, told = await call(http, "POST", server, "/runs", asking(), **his)
        assert (status, told["error"]["code"]) == (429, "insufficient_quota")
        for _ in range(4):
            status, told = await call(http, "POST", server, "/runs", asking(), **his)
        assert (status, told["error"]["code"]) == (429, "rate_limit_exceeded")


async def moa(folder: Path, *args: str) -> str:
    """Run the command; gives the last line it prints."""
    import sys

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "moa", *args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=home(folder),
    )
    out, _ = await process.communicate()
    lines = out.decode().splitlines()
    return next((line for line in lines if line.startswith("moa-")), lines[-1])


# -- keeping or not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kept"),
    [
        ((), True),
        (("--keep",), True),
        (("--no-keep",), False),
        (("--store", "off"), False),
        (("--keys", "KEYS"), False),
    ],
)
async def test_what_is_kept_unless_it_is_said(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path, args: tuple[str, ...], kept: bool
) -> None:
    """Everything on this machine without keys; elsewhere nothing of the API, and nothing at all on disk."""
    secret = os.urandom(8).hex()
    how: dict[str, Any] = {}
    if "--keys" in args:
        args = ("--keys", str(tmp_path / "keys.json"))
        how["headers"] = {"Authorization": f"Bearer {await moa(tmp_path, 'key', 'add', 'ann', *args)}"}
    async with Served(tmp_path, *args, config=CONFIG.format(base_url=upstream.base_url)) as server:
        _, told, _ = await post(http, server, asking(text=f"over the API {secret}"), **how)
        run = await begin(http, server, asking(text=f"mine {secret}"), **how)
        await follow(http, server, run, **how)
        assert (await record(http, server, run, **how))["outcome"] == "answered"
        _, listed = await call(http, "GET", server, "/runs", **how)
        assert listed["kept"] is kept
        assert [each["run"] for each in listed["runs"]] == [run, *([told["moa"]["run"]] if kept else [])]
        state = tmp_path / "state" / "moa"
        on_disk = b"".join(path.read_bytes() for path in state.iterdir()) if state.exists() else b""
        assert (secret.encode() in on_disk) is kept


async def test_in_memory_the_last_few_are_at_hand(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """Not all that there ever were."""
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--store", "off", config=config) as server:
        for number in range(40):
            run = await begin(http, server, asking("up/a", f"question {number}"))
            await follow(http, server, run)
        _, listed = await call(http, "GET", server, "/runs?limit=200")
        assert 32 <= len(listed["runs"]) <= 36 and listed["runs"][0]["question"] == "question 39"


async def test_keeping_without_a_store_is_a_contradiction(tmp_path: Path) -> None:
    """Said at the start."""
    assert "--keep needs a store" in await moa(tmp_path, "serve", "--port", "0", "--keep", "--store", "off")


# -- told to stop ------------------------------------------------------------------------------------------------------


async def test_on_sigterm_runs_may_end_and_are_kept(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """Nobody follows it, and the server waits all the same; a follower of another hears its end."""
    go_on = asyncio.Event()
    upstream.script("last", words("first ") + until(go_on) + words("second") + finish() + done())
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--grace", "20", config=config) as server:
        alone = await begin(http, server, asking())
        followed = await begin(http, server, asking())
        following = asyncio.create_task(follow(http, server, followed))
        await holds(lambda: len(upstream.calls("last")) == 2)
        server.process.send_signal(signal.SIGTERM)
        await holds(lambda: "stopping" in server.text)
        await asyncio.sleep(0.3)
        assert server.process.returncode is None
        go_on.set()
        assert (await following)[-1][1]["event"] == "run_finished"
        async with asyncio.timeout(10):
            assert await server.process.wait() == 0
    assert "Traceback" not in server.text
    async with Served(tmp_path, config=config) as server:
        for run in (alone, followed):
            told = await record(http, server, run)
            assert (told["outcome"], told["answer"]["text"]) == ("answered", "first second")


@pytest.mark.parametrize("twice", [False, True], ids=["after the grace", "told twice"])
@pytest.mark.parametrize("followed", [False, True], ids=["alone", "followed"])
async def test_what_does_not_end_is_stopped_and_kept(
    upstream: Upstream, tmp_path: Path, twice: bool, followed: bool
) -> None:
    """After the grace, or at once when told twice: its calls are cancelled, and it can be gone on with."""
    upstream.script("last", words("half") + hang(), say("at last"))
    config = CONFIG.format(base_url=upstream.base_url)
    grace = ("--grace", "30" if twice else "1")
    async with Served(tmp_path, *grace, config=config) as server, aiohttp.ClientSession() as http:
        run = await begin(http, server, asking())
        following = asyncio.create_task(follow(http, server, run)) if followed else None
        await holds(lambda: upstream.calls("last"))
        await asyncio.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        if twice:
            await holds(lambda: "stopping" in server.text)
            await asyncio.sleep(0.3)
        began = time.monotonic()
        assert await server.stop() == 0
        assert time.monotonic() - began < 5
        await asyncio.wait_for(upstream.calls("last")[0].disconnected.wait(), SOON)
        if following:
            assert (await following)[-1][1]["event"] == "run_stopped"
    assert "Traceback" not in server.text
    async with Served(tmp_path, config=config) as server, aiohttp.ClientSession() as http:
        assert (await record(http, server, run))["outcome"] == "stopped"
        told = await ended(http, server, await begin(http, server, {"continue": run}))
        assert told["answer"]["text"] == "at last" and len(told["recalled"]) == 3


# -- several servers ---------------------------------------------------------------------------------------------------


async def test_servers_that_share_a_store_share_runs(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """What one ran, another shows, goes on with and deletes."""
    config = CONFIG.format(base_url=upstream.base_url)
    store = ("--store", str(tmp_path / "shared.sqlite"))
    async with (
        Served(tmp_path / "1", *store, config=config) as one,
        Served(tmp_path / "2", *store, config=config) as two,
    ):
        run = await begin(http, one, asking())
        whole = await follow(http, one, run)
        await call(http, "GET", one, "/runs")
        assert await follow(http, two, run) == whole
        told = await ended(http, two, await begin(http, two, {"continue": run}))
        assert len(told["recalled"]) == 3
        assert len((await call(http, "GET", two, "/runs"))[1]["runs"]) == 2
        assert (await call(http, "DELETE", two, f"/runs/{run}"))[0] == 204
        assert (await call(http, "GET", one, f"/runs/{run}"))[0] == 404
        assert len((await call(http, "GET", one, "/runs"))[1]["runs"]) == 1
