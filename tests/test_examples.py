"""Every example runs unchanged, without a key or a network, on real weights or a real server."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.serving import CONFIG, Served, answer_well
from tests.fakes.upstream import Upstream, refuse

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parent.parent / "examples"


async def start(name: str, *args: str) -> asyncio.subprocess.Process:
    """An example as a process; what it prints, and its errors, go to one pipe."""
    command = (sys.executable, "-u", str(EXAMPLES / name), *args)
    return await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )


async def output(name: str, *args: str) -> str:
    """What an example prints; its exit status must be 0."""
    process = await start(name, *args)
    async with asyncio.timeout(120):
        printed = (await process.communicate())[0].decode()
    assert process.returncode == 0, printed
    return printed


def test_every_example_has_a_test() -> None:
    """A new example must run in the suite."""
    tested = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in tested] == []


async def test_ask_from_a_script() -> None:
    """Two proposers and an aggregator answer a call without await, and no warning follows it."""
    lines = (await output("ask.py", "Name a fruit.")).splitlines()
    assert re.fullmatch(r"2 proposals, \d+ tokens, \$0", lines[-1])
    assert "Warning" not in "".join(lines)


@pytest.mark.slow
async def test_models_of_ones_own() -> None:
    """A class around a model and a plain function propose; the function finds the note on the question."""
    printed = await output("own_model.py")
    assert printed.startswith("with-notes: ")
    assert "\nnotes_on: The Moon is 384,400 km away.\n" in printed
    assert "\nsmollm2: " in printed


async def test_a_schedule_of_ones_own() -> None:
    """The two short proposals are used, and the long one is cancelled."""
    assert await output("own_schedule.py") == (
        "['brief', 'short'], and ('long (layer 1) was dropped: two others were faster',)\n"
    )


@pytest.mark.slow
async def test_an_aggregation_of_ones_own() -> None:
    """One function writes the answer, another picks a proposal."""
    printed = await output("own_aggregation.py")
    assert re.match(r"vote: (\d+|no number)\nshortest: \S", printed)


@pytest.mark.slow
async def test_progress_by_a_function() -> None:
    """The function receives each agent's start and end, and the selection, before the answer is printed."""
    printed = await output("progress.py", "Name a fruit.")
    assert [printed.count(word) for word in (" has started\n", " is done: ", "\nthe answer is ")] == [3, 3, 1]


async def test_a_web_app() -> None:
    """Events arrive as server-sent events, the answer's text as plain text."""
    process = await start("web_app.py", "0")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            while not (found := re.search(rb"running on (http://[\d.:]+)", await process.stdout.readline())):
                assert not process.stdout.at_eof()
            async with aiohttp.ClientSession(found[1].decode()) as http:
                async with http.get("/events", params={"question": "Name a fruit."}) as response:
                    lines = (await response.text()).splitlines()
                async with http.get("/text", params={"question": "Name a fruit."}) as response:
                    text = await response.text()
    finally:
        process.terminate()
        await process.communicate()
    assert lines[0].startswith('data: {"event": "run_started"')
    assert lines[-2].startswith('data: {"event": "run_finished"')
    assert text.strip()


@pytest.mark.slow
async def test_three_models_agree() -> None:
    """Three samples of an embedded model finish, and one of them is the answer."""
    printed = await output("three_models.py", "Name a fruit.")
    assert printed.count(" is done: ") == 3
    assert "the answer is " in printed


async def test_a_run_is_watched(upstream: Upstream, tmp_path: Path) -> None:
    """A client follows a run's events to the end, then prints what the answer resembles, or why there is no answer."""
    answer_well(upstream)
    async with Served(tmp_path, config=CONFIG.format(base_url=upstream.base_url)) as server:
        printed = await output("watch_run.py", "Why?", server.origin, "moa/trio")
        assert printed.count(" is done: 5 tokens") == 4
        assert "\nthe whole answer\n" in printed
        assert "beside layer 1: a 0%, b 0%, c 0%, new 100%" in printed
        upstream.script("last", refuse(503, "overloaded"))
        assert "the aggregator failed" in await output("watch_run.py", "Why?", server.origin, "moa/trio")
