"""Invalid requests and failed runs: the server always answers with an error that gives the reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moa.server import connection
from moa.server.dialects.chat import ChatEncoder
from tests.fakes.local_server import in_this_process
from tests.fakes.serving import Served, all_events, asking, post, said
from tests.fakes.upstream import (
    Upstream,
    chunk,
    drop,
    error_event,
    finish,
    hang,
    pause,
    refuse,
    say,
    until,
    usage,
    words,
)
from tests.fakes.waiting import PATIENCE, holds
from tests.server.conftest import Serve

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def server(serve: Serve) -> Served:
    dead = '[endpoints.dead]\nbase_url = "http://127.0.0.1:9/v1"\nattempts = 1\n'
    return await serve("--max-body", "100000", more=dead)


def assert_openais(body: Any) -> dict[str, Any]:
    """An error object as OpenAI has it; gives it."""
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str)
    assert "Traceback" not in error["message"] and 'File "' not in error["message"]
    return error


# -- invalid requests ---------------------------------------------------------------------------------------------------

USER = {"role": "user", "content": "?"}
WRONG: list[tuple[Any, str | None]] = [
    ({"messages": [USER]}, "model"),
    ({"model": 5, "messages": [USER]}, "model"),
    ({"model": "", "messages": [USER]}, "model"),
    ({"model": "half \ud83d of a pair", "messages": [USER]}, "model"),
    ({"model": "moa/trio"}, "messages"),
    ({"model": "moa/trio", "messages": []}, "messages"),
    ({"model": "moa/trio", "messages": "Why?"}, "messages"),
    ({"model": "moa/trio", "messages": ["Why?"]}, "messages[0]"),
    ({"model": "moa/trio", "messages": [USER, {"role": "wizard", "content": "?"}]}, "messages[1].role"),
    ({"model": "moa/trio", "messages": [{"role": ["user"], "content": "?"}]}, "messages[0].role"),
    ({"model": "moa/trio", "messages": [{"role": {}, "content": "?"}]}, "messages[0].role"),
    ({"model": "moa/trio", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"model": "moa/trio", "messages": [{"role": "user", "content": [{"type": []}]}]}, "messages[0].content[0].type"),
    ({"model": "moa/trio", "messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content"),
    *(
        ({"model": "moa/trio", "messages": [USER, {"role": "assistant", **calls}]}, f"messages[1].{param}")
        for calls, param in (
            ({"tool_calls": "x"}, "tool_calls"),
            ({"tool_calls": [1]}, "tool_calls[0]"),
            ({"tool_calls": [{"id": "c", "function": [1]}]}, "tool_calls[0].function"),
            ({"tool_calls": [{"id": "c", "custom": "x"}]}, "tool_calls[0].custom"),
            ({"function_call": "x"}, "function_call"),
        )
    ),
    (asking(stream="yes"), "stream"),
    (asking(stream_options=[]), "stream_options"),
    (asking(stream_options={"include_usage": True}), "stream_options"),
    (asking(stream_options={"include_usage": "yes"}), "stream_options.include_usage"),
    (asking(n=0), "n"),
    (asking(n=1000), "n"),
    (asking(n="2"), "n"),
    (asking(temperature="hot"), "temperature"),
    (asking(temperature=3), "temperature"),
    (asking(temperature=True), "temperature"),
    (asking(top_p=-1), "top_p"),
    (asking(max_tokens=0), "max_tokens"),
    (asking(max_tokens=1.5), "max_tokens"),
    (asking(max_completion_tokens=10**400), "max_completion_tokens"),
    (asking(stop=5), "stop"),
    (asking(stop=[5]), "stop[0]"),
    (asking(seed="x"), "seed"),
    (asking(seed=2**80), "seed"),
    (asking(tools={}), "tools"),
    (asking(tools=["f"]), "tools[0]"),
    (asking(tools=[{"type": "function"}]), "tools[0]"),
    (asking(tools=[{"type": "function", "function": "f"}]), "tools[0].function"),
    (asking(tools=[{"type": "function", "function": {}}]), "tools[0].function.name"),
    (
        asking(tools=[{"type": "function", "function": {"name": "f", "parameters": [1]}}]),
        "tools[0].function.parameters",
    ),
    (
        asking(tools=[{"type": "function", "function": {"name": "f", "parameters": {"properties": 5}}}]),
        "tools[0].function.parameters.properties",
    ),
    (asking(tool_choice="never"), "tool_choice"),
    (asking(parallel_tool_calls="yes"), "parallel_tool_calls"),
    (asking(response_format="json"), "response_format"),
    (asking(logprobs=5), "logprobs"),
    (asking(top_logprobs=21), "top_logprobs"),
    (asking(user=5), "user"),
    (asking(moa=5), "moa"),
    (asking(moa={"progress": "yes"}), "moa.progress"),
    (asking(moa={"shows": True}), "moa.shows"),
    (asking(base_url="http://evil.example/v1"), "base_url"),
    (asking(api_base="http://evil.example/v1"), "api_base"),
    (asking(api_key="sk-1"), "api_key"),
    (asking(extra_headers={}), "extra_headers"),
    (asking(bedrock_guardrail_config={}), "bedrock_guardrail_config"),
]


@pytest.mark.parametrize(
    ("body", "param"), WRONG, ids=lambda value: str(value)[-60:] if isinstance(value, dict) else ""
)
async def test_an_invalid_field_is_400_and_named(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, body: Any, param: str
) -> None:
    """Status 400, OpenAI's error form, ``param`` the field; no model is called."""
    status, payload, _ = await post(http, server, body)
    error = assert_openais(payload)
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert upstream.requests == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"{'model': 1}",
        b"\xff\xfe{}",
        b'{"model": "\xe9"}',
        b"\x00" * 100,
        b"[" * 90_000,
        b'{"model": "moa/trio", "messages": [' + b"[" * 40_000,
        b'{"model": "moa/trio", "messages": [{"role": "user", "content": "?", "x": ' + b"[" * 700 + b"]" * 700 + b"}]}",
        json.dumps(asking(temperature=float("nan"))).encode(),
        json.dumps(asking(x=float("inf"))).encode(),
        b'{"model": "moa/trio", "messages": [{"role": "user", "content": "?"}], "x": 1e999}',
        b'{"model": "moa/trio", "messages": [{"role": "user", "content": "?"}], "seed": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda data: repr(data[:50]) + str(len(data)),
)
async def test_a_body_that_is_no_json_object_is_400(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, data: bytes
) -> None:
    """Broken, empty, not UTF-8, not finite or nested without end: 400 in OpenAI's form, and no model is called."""
    async with http.post(f"{server.url}/chat/completions", data=data) as response:
        assert response.status == 400
        assert assert_openais(await response.json())["type"] == "invalid_request_error"
    assert upstream.requests == []


@pytest.mark.parametrize(
    "name",
    [
        "moa/nothing",
        "nothing",
        "gpt-4o",
        "openai/gpt-4o",
        "local//etc/passwd",
        "local/../../etc/passwd",
        "local/~/.ssh/id_rsa",
        "local/Qwen/Qwen2.5-0.5B-Instruct-GGUF",
        "http://127.0.0.1:9/v1/x",
        "moa/../trio",
        "moa/",
        "/",
        "up",
        "groq/llama-3.3-70b-versatile",
        "x" * 5000,
    ],
    ids=lambda name: ascii(name)[:40],
)
async def test_unconfigured_models_are_404(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, name: str
) -> None:
    """A request can name no file, address or provider beyond the configured ones: 404, and nothing is opened."""
    status, payload, _ = await post(http, server, asking(name))
    error = assert_openais(payload)
    assert (status, error["param"], error["code"]) == (404, "model", "model_not_found")
    assert upstream.requests == []


async def test_a_mixture_whose_key_is_missing_is_424(http: aiohttp.ClientSession, server: Served) -> None:
    """The error names the variable that the operator must set."""
    status, payload, _ = await post(http, server, asking("moa/keyless"))
    assert status == 424
    assert "OPENAI_API_KEY" in assert_openais(payload)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("DELETE", "/v1/models/moa/trio", 405),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/models/moa/nothing", 404),
        ("GET", "/v1/models/%ff%fe", 404),
        ("GET", "/../../etc/passwd", 404),
    ],
)
async def test_wrong_methods_and_paths_are_404_and_405(
    http: aiohttp.ClientSession, server: Served, method: str, path: str, status: int
) -> None:
    """These errors have OpenAI's form, too; with a wrong method they name the right ones."""
    async with http.request(method, server.origin + path) as response:
        assert response.status == status
        error = assert_openais(await response.json())
        if status == 405:
            right = {"/v1/chat/completions": "POST"}.get(path, "GET")
            assert right in response.headers["allow"] and right in error["message"]


async def test_a_body_that_is_too_large_is_413(http: aiohttp.ClientSession, server: Served) -> None:
    """With a content-length it is refused unread; in chunks, as soon as it exceeds the limit."""
    body = json.dumps(asking(text="x" * 200_000)).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    for data in (body, chunks()):
        async with http.post(f"{server.url}/chat/completions", data=data) as response:
            assert response.status == 413
            assert assert_openais(await response.json())["code"] == "request_too_large"


@pytest.mark.parametrize("length", [b"many", b"-5", b"1e3", b"9" * 40], ids=repr)
async def test_an_invalid_content_length_is_refused(server: Served, length: bytes) -> None:
    """The connection gets a 4xx, and the server continues."""
    host, port = server.origin.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n{}")
    head = await asyncio.wait_for(reader.readline(), PATIENCE)
    assert head.split()[1] in (b"400", b"413")
    writer.close()
    await writer.wait_closed()


# -- no answer ----------------------------------------------------------------------------------------------------------


async def test_no_usable_proposals_is_502_with_every_cause(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Streamed or not, with the run ID in the header; the aggregator is not called."""
    for name in "abc":
        upstream.script(name, refuse(500, f"broken {name}"))
    for stream in (False, True):
        status, payload, headers = await post(http, server, asking(stream=stream))
        error = assert_openais(payload)
        assert status == 502
        assert [any(f"broken {name}" in cause for cause in error["causes"]) for name in "abc"] == [True] * 3
        assert headers["x-moa-run"] == error["moa"]["run"]
        assert headers["content-type"] == "application/json"
    assert upstream.calls("last") == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "status"),
    [
        (refuse(500, "broken"), 502),
        (refuse(401, "bad key"), 424),
        (refuse(404, "no such model"), 424),
        (refuse(400, "unsupported value"), 400),
        (refuse(429, "slow down", retry_after=0.1), 429),
        (refuse(429, "slow down"), 429),
        (finish() + usage(), 502),
    ],
    ids=["500", "401", "404", "400", "429 with a time", "429", "no text"],
)
async def test_the_status_reports_why_the_aggregator_failed(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, script: Any, status: int, stream: bool
) -> None:
    """Never 200: 502, 429 with Retry-After, 400 if the upstream rejects the request itself, 424 if it rejects the server."""
    upstream.script("last", script)
    got, payload, headers = await post(http, server, asking(stream=stream))
    assert got == status
    assert assert_openais(payload)["causes"]
    assert ("retry-after" in headers) == (status == 429)


async def test_an_unreachable_upstream_is_502(http: aiohttp.ClientSession, server: Served) -> None:
    """For a single model as well as for a mixture."""
    status, payload, _ = await post(http, server, asking("dead/model"))
    assert status == 502
    assert "127.0.0.1:9" in assert_openais(payload)["message"]


async def test_a_deadline_without_proposals_is_504(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The proposers produced no text in time."""
    upstream.script("a", hang())
    status, payload, _ = await post(http, server, asking("moa/hasty"))
    assert (status, assert_openais(payload)["code"]) == (504, "deadline_passed")


@pytest.mark.parametrize("break_off", [drop(), error_event("on fire"), usage()], ids=["cut", "error event", "no end"])
async def test_a_failure_after_the_first_word_ends_the_stream_with_an_error(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, break_off: Any
) -> None:
    """The words so far, then an error event and nothing more: no finish reason, no [DONE]. The SDK raises."""
    import openai
    from openai import AsyncOpenAI

    upstream.script("last", words("half an answer") + pause(0.02) + break_off)
    received = await all_events(http, server, asking())
    assert said(received[:-1]) == "half an answer"
    assert assert_openais(received[-1])["code"] == "upstream_failed"
    assert all(event["choices"][0]["finish_reason"] is None for event in received[:-1])
    text = ""
    async with AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        with pytest.raises(openai.APIError):
            async for piece in await client.chat.completions.create(**{**asking(), "stream": True}):
                text += piece.choices[0].delta.content or ""
    assert text == "half an answer"
    status, _, _ = await post(http, server, asking())
    assert status == 502


async def test_a_failure_after_progress_is_an_error_event_too(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The proposals were shown; then the aggregator failed."""
    upstream.script("last", refuse(500, "on fire"))
    received = await all_events(http, server, asking("moa/shown"))
    assert "proposal a" in said(received[:-1], "reasoning_content")
    assert "on fire" in assert_openais(received[-1])["message"]


async def test_one_failed_choice_fails_the_answer(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Two of three choices do not answer a request for three; no call stays open."""
    upstream.script("last", say("one"), refuse(500, "broken"), chunk({"content": "x"}) + hang())
    status, payload, _ = await post(http, server, asking(n=3))
    assert status == 502
    assert_openais(payload)
    await holds(lambda: not upstream.open_calls)


# -- in this process: defects of the server -----------------------------------------------------------------------------


def breaks(*args: Any, **kwargs: Any) -> Any:
    raise ZeroDivisionError("private words")


async def test_an_internal_error_is_500_without_its_message(
    http: aiohttp.ClientSession, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenAI's error form, streamed or not, and an event once words were sent; only the log has the traceback."""
    async with in_this_process(upstream, tmp_path) as server:
        with monkeypatch.context() as patch:
            for name in ("whole", "delta", "end"):
                patch.setattr(ChatEncoder, name, breaks)
            for stream in (False, True):
                status, payload, _ = await post(http, server, asking(stream=stream))
                assert (status, assert_openais(payload)["code"]) == (500, "internal_error")
                assert "private" not in json.dumps(payload)
        monkeypatch.setattr(ChatEncoder, "end", breaks)
        received = await all_events(http, server, asking())
        assert said(received[:-1]) == "the whole answer"
        assert assert_openais(received[-1])["code"] == "internal_error"


async def test_an_internal_error_before_the_run_is_500_too(
    http: aiohttp.ClientSession, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error form is the same."""
    async with in_this_process(upstream, tmp_path) as server:
        monkeypatch.setattr("moa.server.dialects.chat.checked", breaks)
        status, payload, _ = await post(http, server, asking())
        assert (status, assert_openais(payload)["code"]) == (500, "internal_error")


async def test_a_long_silence_is_filled_with_comments(
    http: aiohttp.ClientSession, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Connections do not time out while proposers think; clients skip comments; the answer is complete."""
    monkeypatch.setattr(connection, "QUIET", 0.05)
    resume = asyncio.Event()

    async def read(response: aiohttp.ClientResponse) -> str:
        """The whole stream; the model resumes after the second comment."""
        text = ""
        async for packet in response.content.iter_any():
            text += packet.decode()
            if text.count(": still at work\n\n") >= 2:
                resume.set()
        assert resume.is_set()
        resume.clear()
        return text

    upstream.script("a", until(resume) + say("late"))
    async with in_this_process(upstream, tmp_path) as server, asyncio.timeout(PATIENCE):
        async with http.post(f"{server.url}/chat/completions", json=asking(stream=True)) as response:
            text = await read(response)
        assert text.endswith("data: [DONE]\n\n")
        assert said([event async for event in lines(text)]) == "the whole answer"
        origin = server.url.removesuffix("/v1")
        async with http.post(f"{origin}/runs", json=asking()) as response:
            run = (await response.json())["run"]
        async with http.get(f"{origin}/runs/{run}/events") as response:
            await read(response)
        upstream.script("a", until(resume) + refuse(500))
        upstream.script("last", refuse(500, "broken"))
        async with http.post(f"{server.url}/chat/completions", json=asking(stream=True)) as response:
            assert response.status == 200
            last = [event async for event in lines(await read(response))][-1]
        assert "broken" in assert_openais(last)["message"]


async def lines(text: str) -> AsyncIterator[Any]:
    for line in text.split("\n"):
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))
