"""Clients that wait, or let the server wait: connections, bodies, slots, and the end of a server."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from moa.config.config import Config
from moa.server.app import create_app
from moa.server.bodies import FREE, Bodies, Pace
from moa.server.body import MOST_VALUES, object_of, values_in
from moa.server.connection import EventStream
from moa.server.failures import Refusal
from moa.server.graceful import GracefulServer
from moa.server.sockets import Deadlines, Sockets
from tests.fakes.run_client import until_gauges
from tests.fakes.serving import CONFIG, Served, asking, post
from tests.fakes.upstream import Upstream, done, finish, say, words
from tests.fakes.waiting import PATIENCE, comes_true, holds
from tests.server.conftest import Serve

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def server(serve: Serve) -> Served:
    """A server with one slot."""
    return await serve("--max-runs", "1", "--max-queue", "1")


# -- connections --------------------------------------------------------------------------------------------------------


class Transport:
    """A connection's transport."""

    def __init__(self) -> None:
        self.unsent, self.sent, self.end = 0, b"", ""

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.end = self.end or "closed"

    def abort(self) -> None:
        self.end = "aborted"

    def is_closing(self) -> bool:
        return bool(self.end)


class Connection:
    """What uvicorn's protocols show of a connection."""

    def __init__(self) -> None:
        self.transport, self.flow = Transport(), SimpleNamespace(write_paused=False)
        self.cycle: Any = None
        self.scope: Any = None

    def begin(self) -> None:
        self.scope = {}

    def asked(self, *, more_body: bool = False) -> None:
        self.cycle = SimpleNamespace(response_complete=False, more_body=more_body, scope=self.scope)

    def answered(self) -> None:
        self.cycle.response_complete = True


def sockets(*connections: Any, most: int = 100) -> Sockets:
    return Sockets(set(connections), most, Deadlines(headers=10, idle=75, rest=10, write=30))


def test_each_stage_of_a_connection_has_its_deadline() -> None:
    """Headers, the pause between requests, and the rest of a refused body; a request that is being answered has none."""
    silent, half, idle, rest, busy = (Connection() for _ in range(5))
    half.begin()
    for each, more_body in ((idle, False), (rest, True), (busy, False)):
        each.begin()
        each.asked(more_body=more_body)
    idle.answered()
    rest.answered()
    everything = sockets(silent, half, idle, rest, busy)
    everything.look(0)
    everything.look(9)
    assert not any(each.transport.end for each in (silent, half, idle, rest, busy))
    everything.look(11)
    assert [each.transport.end for each in (silent, half, idle, rest, busy)] == ["closed", "closed", "", "closed", ""]
    assert silent.transport.sent == b"" and half.transport.sent.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    idle.begin()  # the next request
    everything.look(80)
    everything.look(91)
    assert idle.transport.sent.startswith(b"HTTP/1.1 408") and not busy.transport.end


def test_only_a_client_that_takes_nothing_is_disconnected() -> None:
    """A slow reader stays; one that takes no byte for the time is cut off, also after its answer is complete."""
    slow, stuck, closing = (Connection() for _ in range(3))
    for each in (slow, stuck, closing):
        each.begin()
        each.asked()
        each.transport.unsent = 100_000
    slow.flow.write_paused = stuck.flow.write_paused = True
    closing.answered()
    closing.transport.close()
    everything = sockets(slow, stuck, closing)
    for now in range(40):
        slow.transport.unsent -= 1
        everything.look(now)
    assert (slow.transport.end, stuck.transport.end, closing.transport.end) == ("", "aborted", "aborted")


def test_a_full_server_drops_those_that_wait_longest() -> None:
    """Idle connections make room for a new one; where every connection is being answered, the new one gets a 503."""
    connections: list[Any] = [Connection() for _ in range(4)]
    everything = sockets(*connections, most=4)
    for number, each in enumerate(connections):
        if number < 2:
            each.begin()
            each.asked()
    everything.look(0)
    several = set(connections)
    crowd = Sockets(several, 4)
    crowd.look(0)
    fifth: Any = Connection()
    several.add(fifth)
    crowd.admit(fifth)
    assert sum(each.transport.end == "aborted" for each in connections[2:]) == 1
    assert not any(each.transport.end for each in (*connections[:2], fifth))
    for each in several:
        each.begin()
        each.asked()
    sixth: Any = Connection()
    several.add(sixth)
    crowd.admit(sixth)
    assert sixth.transport.sent.startswith(b"HTTP/1.1 503") and sixth.transport.end == "closed"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", b"400"),
    ],
    ids=["no version", "TLS", "no length"],
)
async def test_what_is_no_http_is_refused_in_the_usual_form(server: Served, sent: bytes, status: bytes) -> None:
    """Headers without end, another protocol: an error object in JSON, and the connection closes."""
    host, port = server.origin.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == status and "error" in json.loads(body)
    writer.close()


async def test_headers_without_end_are_cut_off(server: Served) -> None:
    """The parser has no limit of its own; the server closes the connection."""
    host, port = server.origin.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ")
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            while True:
                writer.write(b"b" * 100_000)
                await writer.drain()


async def test_a_reader_that_reads_nothing_keeps_no_slot(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The run ends at its own pace; the next client is answered while the first has read nothing."""
    upstream.script("a", words("word " * 200 + "x" * 9_000_000) + finish() + done())
    upstream.script("b", say("at once"))
    host, port = server.origin.removeprefix("http://").split(":")
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((host, int(port)))
        body = json.dumps(asking("up/a", stream=True)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        reader.sendall(head.encode() + body)
        await holds(lambda: len(upstream.calls("a")) == 1)
        await until_gauges(http, server, (0, 0))
        status, _, _ = await post(http, server, asking("up/b"))
        assert status == 200


async def test_what_writes_a_stream_waits_only_above_the_bound() -> None:
    """Packets wait for the client, whole and in order; a writer waits while more bytes than the bound do."""
    taken, sent = asyncio.Event(), bytearray()

    async def send(message: Message) -> None:
        sent.extend(message.get("body", b""))
        await taken.wait()

    stream = EventStream(send, most_unsent=10)
    async with stream.sent():
        async with asyncio.timeout(1):
            await stream.write(b"12345")
            await stream.write(b"67890")
        late = asyncio.create_task(stream.write(b"abc"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not late.done()
        taken.set()
        await late
    assert sent == b"1234567890abc"


# -- bodies -------------------------------------------------------------------------------------------------------------


def requested(*packets: bytes | None, **headers: str) -> Request:
    """A request with this body; None waits without end."""
    queue = list(packets)

    async def receive() -> Message:
        packet = queue.pop(0)
        if packet is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": packet, "more_body": bool(queue)}

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": named}, receive)


async def refused(bodies: Bodies, request: Request) -> int:
    with pytest.raises(Refusal) as refusal:
        await bodies.parsed(request, len)
    return refusal.value.status


@pytest.fixture
async def bodies() -> AsyncIterator[Bodies]:
    made = Bodies(4 * FREE, 6 * FREE, Pace(pause=0.02, start=0.02))
    yield made
    made.close()


async def test_a_body_has_a_size_a_time_and_no_encoding(bodies: Bodies) -> None:
    """Too large is 413, too slow 408, compressed 415, a length that is no number 400."""
    assert await bodies.parsed(requested(b"{", b"}"), bytes) == b"{}"
    assert await refused(bodies, requested(b"", content_length=str(4 * FREE + 1))) == 413
    assert await refused(bodies, requested(b"x" * FREE * 5)) == 413
    assert await refused(bodies, requested(b"{", None)) == 408
    assert await refused(bodies, requested(b"", content_encoding="gzip")) == 415
    assert await refused(bodies, requested(b"", content_length="-1")) == 400


async def test_all_bodies_together_have_a_bound_and_small_ones_are_free(bodies: Bodies) -> None:
    """Beyond it there is a 503, until a request that holds a large body has ended."""
    resume = asyncio.Event()

    async def hold() -> None:
        await bodies.parsed(requested(b"x" * FREE * 4), len)
        await resume.wait()

    holding = asyncio.create_task(hold())
    await holds(lambda: bodies.held == 3 * FREE)
    three_more = requested(b"x" * FREE * 4)
    assert await asyncio.create_task(bodies.parsed(three_more, len)) == 4 * FREE
    await holds(lambda: bodies.held == 3 * FREE)
    values = requested(b"[" + b"[]," * 5000 + b"[]]")
    assert await asyncio.create_task(refused(bodies, values)) == 503
    assert await asyncio.create_task(bodies.parsed(requested(b"{}"), len)) == 2
    resume.set()
    await holding
    await holds(lambda: bodies.held == 0)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
        max_leaves=20,
    )
)
def test_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    """Any text, lone surrogates and a byte order mark included; and the count of values is never too low."""
    data = json.dumps({"x": value}).encode()
    assert object_of(data) == object_of(b"\xef\xbb\xbf" + data) == json.loads(data)
    assert values_in(data) >= data.count(b"[")


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"[]," * (MOST_VALUES + 1),
        b'"",' * (MOST_VALUES + 1),
        b'{"a":1,' * (MOST_VALUES + 1),
    ],
    ids=["lists", "strings", "objects"],
)
def test_too_many_values_are_refused_before_they_are_parsed(data: bytes) -> None:
    """A parsed value takes a hundred times the memory of its text. Commas in a text are no values."""
    with pytest.raises(Refusal):
        values_in(data)
    assert values_in(json.dumps({"text": "a, [b], {c}, \\" * MOST_VALUES}).encode()) < 5


# -- hostile requests ---------------------------------------------------------------------------------------------------

NASTY: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "\ud800",
    "\u2028",
    [],
    {},
    [[]],
    [None],
    {"type": 1},
    {"": []},
    ["user"],
    [{"type": "text"}],
    "9" * 500,
    {"type": "function", "function": {"name": "f", "parameters": [1]}},
    2**63,
    -(2**63),
]

FULL: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "moa/trio",
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "s"}]},
            {
                "role": "user",
                "content": [{"type": "text", "text": "q"}, {"type": "image_url", "image_url": {"url": "data:,"}}],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                "reasoning_details": [{"type": "t", "text": "x"}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "r"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "d",
                    "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                },
            }
        ],
        "tool_choice": "auto",
        "temperature": 1,
        "max_tokens": 10,
        "stop": ["x"],
        "n": 1,
        "stream": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "logit_bias": {"1": 1},
        "metadata": {"a": "b"},
        "moa": {"explain": True},
        "stream_options": {"include_usage": True},
    },
    "/v1/responses": {
        "model": "moa/trio",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "q"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "r"},
        ],
        "instructions": "i",
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "text": {"format": {"type": "text"}},
        "reasoning": {"effort": "low"},
    },
    "/v1/messages": {
        "model": "moa/trio",
        "max_tokens": 10,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "r"}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto"},
    },
    "/v1/messages/count_tokens": {"model": "moa/trio", "messages": [{"role": "user", "content": "q"}]},
    "/runs": {
        "mixture": {
            "name": "m",
            "layers": [["up/a", {"model": "up/b", "temperature": 1}]],
            "aggregator": {"model": "up/last", "fallbacks": ["up/c"]},
        },
        "messages": [{"role": "user", "content": "q"}],
    },
    "/mixtures/toml": {"name": "m", "mixture": {"layers": [["up/a"]], "aggregator": "up/last", "schedule": "barrier"}},
}


def mutated(value: Any, chance: random.Random) -> Any:
    """The body with one of its values replaced, removed or repeated."""
    places: list[tuple[Any, Any]] = []

    def walk(each: Any) -> None:
        for key in each if isinstance(each, dict) else range(len(each)) if isinstance(each, list) else ():
            places.append((each, key))
            walk(each[key])

    body = json.loads(json.dumps(value))
    walk(body)
    where, key = chance.choice(places)
    if isinstance(where, dict) and chance.random() < 0.15:
        del where[key]
    elif isinstance(where, list) and chance.random() < 0.15:
        where.append(where[key])
    else:
        where[key] = chance.choice(NASTY)
    return body


@pytest.mark.parametrize("path", FULL)
async def test_no_body_makes_an_error_of_ours(
    serve: Serve, http: aiohttp.ClientSession, upstream: Upstream, path: str
) -> None:
    """Whatever a body holds, the answer is 200 or the caller's fault: no 500, and no 502 that blames the upstreams."""
    server = await serve()
    before = len(server.log)
    chance = random.Random(path)
    bodies = [mutated(FULL[path], chance) for _ in range(25)]
    if path == "/runs":
        bodies += [{"continue": nasty} for nasty in NASTY]

    async def status(body: Any) -> int:
        async with http.post(server.origin + path, data=json.dumps(body).encode()) as response:
            text = await response.text()
            if response.status >= 500 and "demands a call" not in text:
                return response.status
            return 200

    found = [await status(body) for body in bodies]
    assert [body for body, code in zip(bodies, found, strict=True) if code != 200] == []
    assert "Traceback" not in "\n".join(server.log[before:])


# -- the end of a server ------------------------------------------------------------------------------------------------


def test_a_signal_before_the_start_ends_the_server(tmp_path: Path) -> None:
    """The handlers need nothing that exists only later; afterwards the handlers of before are back."""
    (tmp_path / "moa.toml").write_text(CONFIG.format(base_url="http://127.0.0.1:9/v1"))
    server = GracefulServer(create_app(Config(tmp_path / "moa.toml")), drain=0, grace=0, on_notice=print)
    before = signal.getsignal(signal.SIGTERM)
    with server.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert server.should_exit and not server.force_exit
        os.kill(os.getpid(), signal.SIGHUP)
        assert server.force_exit
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_draining_server_is_not_ready_and_works(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """With --drain it answers as before and /readyz is 503; a second signal ends it at once, with exit code 0."""
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--drain", "600", config=config) as server:
        assert (await post(http, server, asking()))[0] == 200  # it runs
        server.process.send_signal(signal.SIGHUP)

        async def draining() -> bool:
            async with http.get(f"{server.origin}/readyz") as response:
                return response.status == 503

        await comes_true(draining)
        assert (await post(http, server, asking()))[0] == 200
        assert await server.stop() == 0
    assert "Traceback" not in server.text
