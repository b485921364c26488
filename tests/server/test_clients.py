"""Clients beside the usual ones: of HTTP/1.0, and clients that split a stream into lines as text."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moa.errors import ScheduleError
from moa.server.encoding import json_bytes
from moa.server.failures import refusal_of
from tests.fakes.serving import Served, asking
from tests.fakes.upstream import Upstream, say
from tests.fakes.waiting import PATIENCE

pytestmark = pytest.mark.anyio


async def raw(server: Served, *packets: bytes) -> tuple[bytes, bytes]:
    """Send bytes; returns the head and the rest of what comes until the server closes."""
    host, port = server.origin.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for packet in packets:
        writer.write(packet)
        await writer.drain()
    async with asyncio.timeout(PATIENCE):
        head, _, rest = (await reader.read(-1)).partition(b"\r\n\r\n")
    writer.close()
    return head, rest


@pytest.mark.parametrize("cut", [0, 10])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_of_http_1_0_gets_no_chunks(server: Served, stream: bool, cut: int) -> None:
    """A stream to it is the bare events, and the end of the connection ends it; a whole answer is its bare JSON."""
    body = json.dumps(asking(stream=stream)).encode()
    head = b"POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    request = head % len(body) + body
    head, rest = await raw(server, *filter(None, [request[:cut], request[cut:]]))
    assert head.startswith(b"HTTP/1.1 200")
    assert b"transfer-encoding" not in head.lower()
    if stream:
        assert rest.startswith(b"data: {") and rest.endswith(b"data: [DONE]\n\n")
    else:
        assert json.loads(rest)["choices"][0]["message"]["content"] == "the whole answer"


async def test_an_answers_line_breaks_of_unicode_are_escaped(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """No frame breaks for a client that splits text at every line break of Unicode, as httpx's ``iter_lines`` does."""
    words = "one\u2028two\u2029three\u0085four – 中文"
    upstream.script("last", say(words))
    async with http.post(f"{server.url}/chat/completions", json=asking(stream=True)) as response:
        lines = (await response.read()).decode().splitlines()
    payloads = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in payloads) == words


BREAKS = st.sampled_from("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\ud83d")


@example(10**30)
@given(
    st.recursive(
        st.text(BREAKS | st.characters()), lambda inner: st.lists(inner) | st.dictionaries(st.text(BREAKS), inner)
    )
)
def test_json_is_on_one_line(value: Any) -> None:
    """JSON has no line break of any kind, and reads back as it was, half characters and large numbers included."""
    data = json_bytes(value)
    assert len(data.decode().splitlines()) == 1
    assert json.loads(data) == value


def test_a_mistake_in_a_schedule_is_no_failure_of_an_upstream() -> None:
    """It is a 500 that names the schedule, so that neither an upstream is blamed nor the request repeated in vain."""
    refusal = refusal_of(ScheduleError("FirstTwo.readings raised KeyError: 'x'"))
    assert (refusal.status, refusal.code) == (500, "schedule_failed")
    assert "FirstTwo" in refusal.message
