from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.fakes.serving import CONFIG, Served, answer_well
from tests.fakes.upstream import Upstream, refuse

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parent.parent / "examples"


async def output(name: str, *args: str) -> str:
    """What an example prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / name), *args), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(120):
        told = (await process.communicate())[0].decode()
    assert process.returncode == 0, told
    return told


async def test_three_models_agree() -> None:
    """The example of the embedded model runs as it stands, on real weights."""
    told = await output("three_models.py", "Name a fruit.")
    assert told.count(" is done: ") == 3
    assert "the answer is " in told


async def test_a_run_is_watched(upstream: Upstream, tmp_path: Path) -> None:
    """The example of a run's events follows one to its end, and says what its answer resembles or why there is none."""
    answer_well(upstream)
    async with Served(tmp_path, config=CONFIG.format(base_url=upstream.base_url)) as server:
        told = await output("watch_run.py", "Why?", server.origin, "moa/trio")
        assert told.count(" is done: 5 tokens") == 4
        assert "\nthe whole answer\n" in told
        assert "beside layer 1: a 0%, b 0%, c 0%, new 100%" in told
        upstream.script("last", refuse(503, "overloaded"))
        assert "the aggregator failed" in await output("watch_run.py", "Why?", server.origin, "moa/trio")
