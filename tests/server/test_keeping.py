"""The owners of runs, which runs are stored, and what happens to them when the server stops."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.run_client import begin, call, ended, follow, has_written, record, until_refused
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
from tests.fakes.waiting import PATIENCE, holds

pytestmark = pytest.mark.anyio

# -- callers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1"])
async def test_dns_rebinding_reads_no_runs(http: aiohttp.ClientSession, server: Served, host: str) -> None:
    """A web page of that domain would have the server's own origin; every route refuses it."""
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
        status, payload = await call(http, method, server, path, headers={"Host": host})
        assert (status, payload["error"]["code"]) == (403, "host_not_allowed"), path


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1", "[::1]:8000", "192.168.1.5:8000"])
async def test_loopback_names_and_addresses_are_accepted(
    http: aiohttp.ClientSession, server: Served, host: str
) -> None:
    """No other site can make these names resolve to the server."""
    assert (await call(http, "GET", server, "/runs", headers={"Host": host}))[0] == 200


async def test_pages_of_other_sites_are_refused(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """By their Origin, as for chat."""
    for method, path in (("POST", "/runs"), ("GET", "/runs"), ("DELETE", "/runs/x"), ("POST", "/runs/x/stop")):
        status, payload = await call(http, method, server, path, asking(), headers={"Origin": "https://evil.example"})
        assert (status, payload["error"]["code"]) == (403, "origin_not_allowed")
    status, _ = await call(http, "GET", server, "/runs", headers={"Origin": server.origin})
    assert status == 200 and not upstream.requests


async def test_runs_belong_to_their_key(http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path) -> None:
    """Other keys get 404; limits count; without a key every route refuses."""
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
            status, payload = await call(http, "POST", server, "/runs", {"continue": each}, **his)
            assert (status, payload["error"]["code"]) == (404, "run_not_found")
        for method, path in (("GET", "/runs"), ("POST", "/runs"), ("GET", f"/runs/{run}"), ("GET", "/mixtures")):
            assert (await call(http, method, server, path))[0] == 401
        assert (await record(http, server, going, **hers))["outcome"] == "running"
        await call(http, "POST", server, f"/runs/{going}/stop", **hers)
        answer_well(upstream)
        status, payload = await call(http, "GET", server, "/runs", headers={"Host": "evil.example", **hers["headers"]})
        assert status == 200  # another site's page has no key
        mine = await begin(http, server, asking(), **his)
        await follow(http, server, mine, **his)
        assert (await server.logged(mine))["key"] == "bob"
        for _ in range(6):  # what is refused does not count for the requests in a minute
            status, payload = await call(http, "POST", server, "/runs", asking(), **his)
            assert (status, payload["error"]["code"]) == (429, "insufficient_quota")


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


# -- storing or not -----------------------------------------------------------------------------------------------------


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
async def test_which_runs_are_stored_by_default(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path, args: tuple[str, ...], kept: bool
) -> None:
    """On this machine without keys, all; otherwise none of the API's, and nothing is on disk."""
    secret = os.urandom(8).hex()
    how: dict[str, Any] = {}
    if "--keys" in args:
        args = ("--keys", str(tmp_path / "keys.json"))
        how["headers"] = {"Authorization": f"Bearer {await moa(tmp_path, 'key', 'add', 'ann', *args)}"}
    async with Served(tmp_path, *args, config=CONFIG.format(base_url=upstream.base_url)) as server:
        _, payload, _ = await post(http, server, asking(text=f"over the API {secret}"), **how)
        run = await begin(http, server, asking(text=f"mine {secret}"), **how)
        await follow(http, server, run, **how)
        assert (await record(http, server, run, **how))["outcome"] == "answered"
        _, listed = await call(http, "GET", server, "/runs", **how)
        assert listed["kept"] is kept
        assert [each["run"] for each in listed["runs"]] == [run, *([payload["moa"]["run"]] if kept else [])]
        state = tmp_path / "state" / "moa"
        on_disk = b"".join(path.read_bytes() for path in state.iterdir()) if state.exists() else b""
        assert (secret.encode() in on_disk) is kept


async def test_in_memory_the_last_few_runs_are_available(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """Older ones are deleted."""
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--store", "off", config=config) as server:
        for number in range(40):
            run = await begin(http, server, asking("up/a", f"question {number}"))
            await follow(http, server, run)
        _, listed = await call(http, "GET", server, "/runs?limit=200")
        assert 32 <= len(listed["runs"]) <= 36 and listed["runs"][0]["question"] == "question 39"


async def test_keeping_without_a_store_is_refused(tmp_path: Path) -> None:
    """The server reports it at the start."""
    assert "--keep needs a store" in await moa(tmp_path, "serve", "--port", "0", "--keep", "--store", "off")


# -- shutting down ------------------------------------------------------------------------------------------------------


async def test_on_sigterm_runs_finish_and_are_stored(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """The server waits for a run without followers, and a follower of another receives its end."""
    resume = asyncio.Event()
    upstream.script("last", words("first ") + until(resume) + words("second") + finish() + done())
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--grace", "20", config=config) as server:
        alone = await begin(http, server, asking())
        followed = await begin(http, server, asking())
        following = asyncio.create_task(follow(http, server, followed))
        await holds(lambda: len(upstream.calls("last")) == 2)
        server.process.send_signal(signal.SIGTERM)
        await until_refused(server)
        assert server.process.returncode is None
        resume.set()
        assert (await following)[-1][1]["event"] == "run_finished"
        async with asyncio.timeout(PATIENCE):
            assert await server.process.wait() == 0
    assert "Traceback" not in server.text
    async with Served(tmp_path, config=config) as server:
        for run in (alone, followed):
            payload = await record(http, server, run)
            assert (payload["outcome"], payload["answer"]["text"]) == ("answered", "first second")


@pytest.mark.parametrize("twice", [False, True], ids=["after the grace", "at a second signal"])
@pytest.mark.parametrize("followed", [False, True], ids=["alone", "followed"])
async def test_runs_beyond_the_grace_are_stopped_and_stored(
    upstream: Upstream, tmp_path: Path, twice: bool, followed: bool
) -> None:
    """After the grace, or at a second signal, its calls are cancelled, and it can be continued."""
    upstream.script("last", words("half") + hang(), say("at last"))
    config = CONFIG.format(base_url=upstream.base_url)
    grace = ("--grace", "600" if twice else "0")
    async with Served(tmp_path, *grace, config=config) as server, aiohttp.ClientSession() as http:
        run = await begin(http, server, asking())
        following = asyncio.create_task(follow(http, server, run)) if followed else None
        await has_written(http, server, run, {"last": "half"})
        server.process.send_signal(signal.SIGTERM)
        if twice:
            await until_refused(server)
        assert await server.stop() == 0
        await asyncio.wait_for(upstream.calls("last")[0].disconnected.wait(), PATIENCE)
        if following:
            assert (await following)[-1][1]["event"] == "run_stopped"
    assert "Traceback" not in server.text
    async with Served(tmp_path, config=config) as server, aiohttp.ClientSession() as http:
        assert (await record(http, server, run))["outcome"] == "stopped"
        payload = await ended(http, server, await begin(http, server, {"continue": run}))
        assert payload["answer"]["text"] == "at last" and len(payload["recalled"]) == 3


# -- several servers ----------------------------------------------------------------------------------------------------


async def test_servers_that_share_a_store_share_runs(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """One server lists, continues and deletes the runs of another."""
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
        payload = await ended(http, two, await begin(http, two, {"continue": run}))
        assert len(payload["recalled"]) == 3
        assert len((await call(http, "GET", two, "/runs"))[1]["runs"]) == 2
        assert (await call(http, "DELETE", two, f"/runs/{run}"))[0] == 204
        assert (await call(http, "GET", one, f"/runs/{run}"))[0] == 404
        assert len((await call(http, "GET", one, "/runs"))[1]["runs"]) == 1
