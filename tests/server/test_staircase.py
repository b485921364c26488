"""A staircase behind the server: the answer streams while its proposals are still being written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.serving import Served, all_events, asking, said
from tests.fakes.upstream import Body, Script, Upstream, say, until, words
from tests.fakes.waiting import PATIENCE

pytestmark = pytest.mark.anyio

CONFIG = """
[endpoints.up]
base_url = "{base_url}"
continuation = "prefix"

[mixtures.stairs]
layers = [["up/a", "up/b"]]
aggregator = "up/last"
progress = true
schedule = {{ kind = "staircase", chunks = [8], writes = [8] }}
"""
ANSWER = "One word after another, and the whole of it without a seam that anybody could see."


async def test_the_answer_begins_while_proposals_are_written_and_is_whole(tmp_path: Path, upstream: Upstream) -> None:
    """The first words of the answer come before any proposal is complete; the rest follows without a seam."""
    answer_began = asyncio.Event()

    def proposal(body: Body) -> Script:
        return (
            words("A proposal that is long enough to have its first chunk ") + until(answer_began) + say("and its end.")
        )

    def aggregator(body: Body) -> Script:
        last = body["messages"][-1]
        if last["role"] == "assistant":
            return say(ANSWER.removeprefix(last["content"]))
        return words(ANSWER, pace=0.01) + until(asyncio.Event())

    for name in "ab":
        upstream.script(name, proposal)
    upstream.script("last", aggregator)
    async with (
        Served(tmp_path, config=CONFIG.format(base_url=upstream.base_url)) as server,
        aiohttp.ClientSession() as http,
    ):
        body = asking("moa/stairs", stream=True, stream_options={"include_usage": True})
        reading = asyncio.create_task(all_events(http, server, body))
        await upstream.received(3)  # both proposers wait, and the aggregator has been called
        answer_began.set()
        events = await asyncio.wait_for(reading, PATIENCE)
    assert said(events[:-2]) == ANSWER
    assert "A proposal" in said(events[:-2], "reasoning_content")
    *_, aggregation = events[-2]["moa"]["calls"]
    (piece,) = aggregation["attempts"]
    assert aggregation["answers"] and piece["part"]
    assert events[-2]["usage"]["completion_tokens"] == aggregation["output_tokens"]
    assert events[-2]["usage"]["prompt_tokens"] < aggregation["input_tokens"]
    first, last = upstream.calls("last")
    assert "(unfinished)" in first.body["messages"][0]["content"]
    assert "and its end." in last.body["messages"][0]["content"]
    assert ANSWER.startswith(last.body["messages"][-1]["content"])
