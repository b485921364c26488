"""Every example runs unchanged, without a key or a network: with a scripted llama.cpp; slow tests have real weights."""

from __future__ import annotations

import asyncio
import io
import re
import runpy
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, redirect_stdout
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from moa import EmbeddedModel, Mixture
from moa.mixture.background import BACKGROUND
from tests.fakes.local_server import serving
from tests.fakes.scripted_llama import scripted
from tests.fakes.serving import CONFIG, Served, answer_well
from tests.fakes.upstream import Upstream, refuse
from tests.models.embedding import needs_weights

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parent.parent / "examples"

Run = Callable[..., Awaitable[str]]
"""Runs an example with arguments, and gives what it prints."""


async def start(name: str, *args: str) -> asyncio.subprocess.Process:
    """An example as a process; what it prints, and its errors, go to one pipe."""
    command = (sys.executable, "-u", str(EXAMPLES / name), *args)
    return await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )


async def output(name: str, *args: str) -> str:
    """What an example prints as a process; its exit status must be 0."""
    process = await start(name, *args)
    async with asyncio.timeout(120):
        printed = (await process.communicate())[0].decode()
    assert process.returncode == 0, printed
    return printed


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Examples as programs of this process, which closes what they leave open."""

    async def run(name: str, *args: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *args])
        with redirect_stdout(io.StringIO()) as printed:
            names = await asyncio.to_thread(runpy.run_path, str(EXAMPLES / name), run_name="__main__")
        for value in names.values():
            if isinstance(value, Mixture | EmbeddedModel):
                await asyncio.wrap_future(BACKGROUND.start(value.aclose()).future)
        return printed.getvalue()

    return run


@pytest.fixture(params=["scripted", pytest.param("real", marks=[pytest.mark.slow, needs_weights])])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> Run:
    """An example in this process with a scripted llama.cpp, or as a process with real weights."""
    if request.param == "real":
        return output
    scripted(monkeypatch, upstream)
    return in_this_process(monkeypatch)


def test_every_example_has_a_test() -> None:
    """A new example must run in the suite."""
    tested = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in tested] == []


async def test_ask_from_a_script(run: Run) -> None:
    """Two proposers and an aggregator answer a call without await, and no warning follows it."""
    lines = (await run("ask.py", "Name a fruit.")).splitlines()
    assert re.fullmatch(r"2 proposals, \d+ tokens, \$0", lines[-1])
    assert "Warning" not in "".join(lines)


async def test_models_of_ones_own(run: Run) -> None:
    """A class around a model and a plain function propose; the function finds the note on the question."""
    printed = await run("own_model.py")
    assert printed.startswith("with-notes: ")
    assert "\nnotes_on: The Moon is 384,400 km away.\n" in printed
    assert "\nsmollm2: " in printed


async def test_a_schedule_of_ones_own(run: Run) -> None:
    """The two short proposals are used, and the long one is cancelled."""
    printed = await run("own_schedule.py")
    assert printed.startswith("['brief', 'short'], and ('long (layer 1) was dropped: two others were faster'")


async def test_an_aggregation_of_ones_own(run: Run) -> None:
    """One function writes the answer, another picks a proposal."""
    printed = await run("own_aggregation.py")
    assert re.match(r"vote: (\d+|no number)\nshortest: \S", printed)


async def test_progress_by_a_function(run: Run) -> None:
    """The function receives each agent's start and end, and the selection, before the answer is printed."""
    printed = await run("progress.py", "Name a fruit.")
    assert [printed.count(word) for word in (" has started\n", " is done: ", "\nthe answer is ")] == [3, 3, 1]


async def test_three_models_agree(run: Run) -> None:
    """Three samples of an embedded model finish, and one of them is the answer."""
    printed = await run("three_models.py", "Name a fruit.")
    assert printed.count(" is done: ") == 3
    assert "the answer is " in printed


@asynccontextmanager
async def web_app_here(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The address of the web app in this process."""
    monkeypatch.setattr("uvicorn.run", lambda app, port: None)
    monkeypatch.setattr(sys, "argv", ["web_app.py"])
    names = runpy.run_path(str(EXAMPLES / "web_app.py"), run_name="__main__")
    async with names["mixture"], serving(names["app"]) as address:
        yield address


@asynccontextmanager
async def web_app_process() -> AsyncIterator[str]:
    """The address of the web app as a process."""
    process = await start("web_app.py", "0")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            while not (found := re.search(rb"running on (http://[\d.:]+)", await process.stdout.readline())):
                assert not process.stdout.at_eof()
            yield found[1].decode()
    finally:
        process.terminate()
        await process.communicate()


async def answers_over_http(address: str) -> None:
    async with aiohttp.ClientSession(address) as http:
        async with http.get("/events", params={"question": "Name a fruit."}) as response:
            lines = (await response.text()).splitlines()
        async with http.get("/text", params={"question": "Name a fruit."}) as response:
            text = await response.text()
    assert lines[0].startswith('data: {"event": "run_started"')
    assert lines[-2].startswith('data: {"event": "run_finished"')
    assert text.strip()


async def test_a_web_app(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    """Events arrive as server-sent events, the answer's text as plain text."""
    scripted(monkeypatch, upstream)
    async with web_app_here(monkeypatch) as address:
        await answers_over_http(address)


@pytest.mark.slow
@needs_weights
async def test_a_web_app_with_real_weights() -> None:
    """As a process, the same events and text arrive."""
    async with web_app_process() as address:
        await answers_over_http(address)


async def test_a_run_is_watched(monkeypatch: pytest.MonkeyPatch, upstream: Upstream, tmp_path: Path) -> None:
    """A client follows a run's events to the end, then prints what the answer resembles, or why there is no answer."""
    answer_well(upstream)
    run = in_this_process(monkeypatch)
    async with Served(tmp_path, config=CONFIG.format(base_url=upstream.base_url)) as server:
        printed = await run("watch_run.py", "Why?", server.origin, "moa/trio")
        assert printed.count(" is done: 5 tokens") == 4
        assert "\nthe whole answer\n" in printed
        assert "beside layer 1: a 0%, b 0%, c 0%, new 100%" in printed
        upstream.script("last", refuse(503, "overloaded"))
        assert "the aggregator failed" in await run("watch_run.py", "Why?", server.origin, "moa/trio")


async def test_watching_ends_with_the_run() -> None:
    """A stream that ends without the run's last event is asked for the rest, and the status 204 ends it."""
    names = runpy.run_path(str(EXAMPLES / "watch_run.py"))
    names["events"].__globals__["AGAIN"] = 0.0
    asked = list[str]()

    async def events(request: web.Request) -> web.Response:
        asked.append(request.headers["Last-Event-ID"])
        return (
            web.Response(text='id: 1\ndata: {"event": "run_started"}\n\n')
            if len(asked) == 1
            else web.Response(status=204)
        )

    app = web.Application()
    app.router.add_get("/runs/one/events", events)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as http:
        assert [event async for event in names["events"](http, "one")] == [{"event": "run_started"}]
    assert asked == ["0", "1"]
