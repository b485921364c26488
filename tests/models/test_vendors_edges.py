"""What vendors' own APIs get of unusual conversations, and what comes of unusual answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from moa.errors import CallRejected, ModelError, RateLimited, StreamBroken, UpstreamFailed
from moa.messages import Delta, Request, collected
from moa.models import Model
from moa.models.provider import Api
from moa.models.vendors.endpoint import VendorEndpoint
from tests.fakes.packages import needs
from tests.fakes.vendors import (
    Reply,
    VendorServer,
    as_json,
    block_events,
    candidate,
    claude,
    closing,
    converse,
    converse_text,
    gemini,
    named_events,
    opening,
    redacted,
    responses,
    says,
    thinks,
    uses,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,  # the SDKs take seconds to import
    needs("pydantic_ai", install="uv sync --group ci"),
]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
USER = {"role": "user", "content": "hi"}
ANSWERS: dict[Api, Reply] = {
    "anthropic": claude(says("ok")),
    "google": gemini(candidate({"text": "ok"}, finish="STOP")),
    "bedrock": converse(*converse_text("ok")),
    "responses": responses("ok"),
}
MODELS: dict[Api, str] = {
    "anthropic": "claude-sonnet-5-5",
    "google": "gemini-3.8-flash",
    "bedrock": "openai.gpt-oss-120b-1:0",
    "responses": "gpt-6-luna",
}
LOOK = {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}
TOOLS = [{"type": "function", "function": LOOK}]


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[VendorServer]:
    async with VendorServer() as running:
        yield running


@pytest.fixture(scope="module")
async def vendors(server: VendorServer) -> AsyncIterator[dict[Api, Model]]:
    """A model of each API, all at the server."""
    places: dict[Api, str] = {api: f"{server.url}/v1" if api == "responses" else server.url for api in MODELS}
    endpoints = {api: VendorEndpoint(api, api, url, api_key="sk-1", region="r") for api, url in places.items()}
    yield {api: endpoint.model(MODELS[api]) for api, endpoint in endpoints.items()}
    for endpoint in endpoints.values():
        await endpoint.aclose()


async def sent(server: VendorServer, model: Model, api: Api, messages: list[Any], **fields: Any) -> str:
    """The body that the vendor gets, as JSON; its answer arrives."""
    server.answers(ANSWERS[api])
    request = Request.of({"messages": messages, **fields})
    assert collected([delta async for delta in model.stream(request)]).text == "ok"
    return json.dumps(server.calls[-1].body, ensure_ascii=False)


async def answered(server: VendorServer, model: Model, reply: Reply) -> tuple[list[Delta], ModelError | None]:
    """The deltas of a reply, and the error behind them."""
    server.answers(reply)
    deltas: list[Delta] = []
    try:
        async for delta in model.stream(Request.of({"messages": [USER], "tools": TOOLS})):
            deltas.append(delta)  # noqa: PERF401 - the deltas before the error must survive it
    except ModelError as error:
        return deltas, error
    return deltas, None


def asked(*calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [*calls], **fields}


def call(arguments: Any = "{}", key: str = "c1", name: str = "look") -> dict[str, Any]:
    return {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(content: Any, key: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": key, "content": content}


IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
JUNK = [
    *({"format": f"{maker}-v1"} for maker in ("anthropic-claude", "google-gemini", "bedrock-converse")),
    {"format": "anthropic-claude-v1", "index": "x", "text": "t"},
    {"format": "google-gemini-v1", "index": 0, "of": "tool-call"},
    {"format": "bedrock-converse-v1", "text": 5},
    {"index": 1},
    "x",
]
HISTORIES: dict[str, tuple[list[Any], str]] = {
    "a picture as a result": ([USER, asked(call()), result([{"type": "text", "text": "this"}, IMAGE])], PNG),
    "a result without a word": ([USER, asked(call()), result("")], "(no output)"),
    "a result that is null": ([USER, asked(call()), result(None)], "(no output)"),
    "arguments that are no JSON": ([USER, asked(call("{bad")), result("r")], "bad"),
    "arguments that are a list": ([USER, asked(call("[1]")), result("r")], "[1]"),
    "arguments that are missing": ([USER, asked(call(None)), result("r")], "look"),
    "a call without an ID": ([USER, asked({"function": LOOK}), {"role": "tool", "content": "seen"}], "seen"),
    "a custom tool's call": (
        [USER, asked({"id": "c1", "custom": {"name": "sh", "input": "ls -l"}}), result("r")],
        "ls -l",
    ),
    "two calls at once": (
        [USER, asked(call('{"at": "a"}'), call('{"at": "b"}', "c2")), result("r2", "c2"), result("r1")],
        "r2",
    ),
    "details of nobody": ([USER, asked(call(), reasoning_details=JUNK), result("seen")], "seen"),
    "an answer that was empty": ([USER, {"role": "assistant", "content": ""}, USER], "hi"),
    "an answer in parts": ([USER, {"role": "assistant", "content": [{"type": "text", "text": "part"}]}, USER], "part"),
    "a late system message": ([USER, {"role": "developer", "content": "Be brief."}], "Be brief."),
}


@pytest.mark.parametrize("api", MODELS)
@pytest.mark.parametrize("name", HISTORIES)
async def test_an_unusual_history_reaches_the_vendor(
    server: VendorServer, vendors: dict[Api, Model], name: str, api: Api
) -> None:
    """What is odd in a conversation is sent in a form that the vendor takes, and nothing of it is lost."""
    messages, part = HISTORIES[name]
    body = await sent(server, vendors[api], api, messages, tools=TOOLS)
    assert json.dumps(part)[1:-1] in body.replace("-", "+") or part in body or part in body.replace('\\"', '"')


@pytest.mark.parametrize("api", MODELS)
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url"},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url", "image_url": 5},
        {"type": "input_audio", "input_audio": None},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "widget"},
    ],
)
async def test_a_malformed_part_is_the_requests_fault(
    server: VendorServer, vendors: dict[Api, Model], part: dict[str, Any], api: Api
) -> None:
    """It is refused before it is sent, and neither retried nor held against the vendor."""
    before = len(server.calls)
    with pytest.raises(CallRejected, match="cannot be sent"):
        await sent(server, vendors[api], api, [{"role": "user", "content": [part]}])
    assert len(server.calls) == before


async def test_what_a_vendor_cannot_hear_is_the_requests_fault(server: VendorServer, vendors: dict[Api, Model]) -> None:
    """Audio for a vendor that takes none is refused before it is sent."""
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    takes_none: list[Api] = ["anthropic", "bedrock", "responses"]
    for api in takes_none:
        with pytest.raises(CallRejected, match="cannot be sent"):
            await sent(server, vendors[api], api, [{"role": "user", "content": [audio]}])


def bedrock_tool(index: int, key: str, arguments: str, name: str = "look") -> list[tuple[str, Any]]:
    """The events of one tool use: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html"""
    start = {"toolUse": {"toolUseId": key, "name": name}}
    return [
        ("contentBlockStart", {"contentBlockIndex": index, "start": start}),
        ("contentBlockDelta", {"contentBlockIndex": index, "delta": {"toolUse": {"input": arguments}}}),
        ("contentBlockStop", {"contentBlockIndex": index}),
    ]


BEGIN, *_, STOP, METADATA = converse_text(stop="tool_use")
FOUND = {"functionCall": {"name": "look", "args": {"at": "a"}}}
FIRST, SECOND = (block_events([uses("look", '{"at":', f'"{at}"}}', call=f"t{at}")]) for at in "ab")
MIXED = [{**event, "index": index} for pair in zip(FIRST, SECOND, strict=True) for index, event in enumerate(pair)]
PARALLEL: list[tuple[Api, Reply]] = [
    (
        "anthropic",
        claude(
            says("x"), uses("look", '{"at":"a"}', call="ta"), uses("look", '{"at":"b"}', call="tb"), stop="tool_use"
        ),
    ),
    ("anthropic", named_events(*opening(), *MIXED, *closing("tool_use"))),
    ("google", gemini(candidate(FOUND, {"functionCall": {"name": "look", "args": {"at": "b"}}}, finish="STOP"))),
    (
        "google",
        gemini(candidate(FOUND), candidate({"functionCall": {"name": "look", "args": {"at": "b"}}}, finish="STOP")),
    ),
    (
        "bedrock",
        converse(BEGIN, *bedrock_tool(0, "ta", '{"at":"a"}'), *bedrock_tool(1, "tb", '{"at":"b"}'), STOP, METADATA),
    ),
]


@pytest.mark.parametrize(("api", "reply"), PARALLEL)
async def test_calls_in_parallel_stay_apart(
    server: VendorServer, vendors: dict[Api, Model], api: Api, reply: Reply
) -> None:
    """Each has an ID of its own and its own arguments, also where their pieces come in turn."""
    deltas, error = await answered(server, vendors[api], reply)
    assert error is None
    answer = collected(deltas)
    assert answer.finish_reason == "tool_calls"
    assert [json.loads(each["function"]["arguments"]) for each in answer.tool_calls] == [{"at": "a"}, {"at": "b"}]
    assert len({each["id"] for each in answer.tool_calls}) == 2


async def test_redacted_thinking_comes_back_in_its_place(server: VendorServer, vendors: dict[Api, Model]) -> None:
    """It is encrypted, so no client reads it; but without it, or behind the call, Claude refuses the next request."""
    reply = claude(thinks("hm", signature="SIG"), redacted("ENCRYPTED"), uses("look", "{}", call="t1"), stop="tool_use")
    deltas, _ = await answered(server, vendors["anthropic"], reply)
    details = [each for delta in deltas if delta.extra for each in delta.extra["reasoning_details"]]
    assert collected(deltas).reasoning == "hm"
    messages = [USER, asked(call(key="t1"), reasoning_details=details), result("r", "t1")]
    body = json.loads(await sent(server, vendors["anthropic"], "anthropic", messages, tools=TOOLS))
    assert [part["type"] for part in body["messages"][1]["content"]] == ["thinking", "redacted_thinking", "tool_use"]
    assert body["messages"][1]["content"][1]["data"] == "ENCRYPTED"


def finished(reason: str, **fields: Any) -> Reply:
    """Gemini's last chunk without any content."""
    return gemini({"candidates": [{"content": {"role": "model"}, "finishReason": reason, "index": 0}], **fields})


REFUSED = {
    "stop_reason": "refusal",
    "stop_details": {"type": "refusal", "category": "cyber", "explanation": "Not this."},
}


@pytest.mark.parametrize(
    ("api", "reply", "reason"),
    [
        ("anthropic", claude(), "stop"),
        ("anthropic", claude(redacted("ENC")), "stop"),
        ("google", finished("STOP"), "stop"),
        ("google", finished("SAFETY"), "content_filter"),
        ("google", finished("RECITATION"), "content_filter"),
        ("google", finished("MAX_TOKENS"), "length"),
        ("bedrock", converse(BEGIN, ("messageStop", {"stopReason": "end_turn"}), METADATA), "stop"),
        ("bedrock", converse(*converse_text("I", stop="model_context_window_exceeded")), "length"),
    ],
)
async def test_an_empty_answer_ends_as_the_vendor_says(
    server: VendorServer, vendors: dict[Api, Model], api: Api, reply: Reply, reason: str
) -> None:
    """An answer without text is complete, cut or filtered, and no error."""
    deltas, error = await answered(server, vendors[api], reply)
    assert (error, collected(deltas).finish_reason) == (None, reason)


async def test_a_refusals_words_reach_the_client(server: VendorServer, vendors: dict[Api, Model]) -> None:
    """https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons: why it refused, in OpenAI's field."""
    delta = {"type": "message_delta", "delta": {"stop_sequence": None, **REFUSED}, "usage": {"output_tokens": 5}}
    deltas, error = await answered(
        server, vendors["anthropic"], named_events(*opening(), delta, {"type": "message_stop"})
    )
    assert (error, collected(deltas).finish_reason) == (None, "content_filter")
    assert [delta.extra["refusal"] for delta in deltas if delta.extra] == ["Not this."]


def reported(kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": "Overloaded"}}


SPOKE = [*opening(), *[*block_events([says("Fo")])][:2]]
CALLED = [*opening(), *[*block_events([uses("look", '{"at":')])][:3]]


@pytest.mark.parametrize(
    ("api", "reply", "kind", "status"),
    [
        ("anthropic", named_events(reported("overloaded_error")), UpstreamFailed, 529),
        ("anthropic", named_events(*SPOKE, reported("overloaded_error")), StreamBroken, 503),
        ("anthropic", named_events(*CALLED, reported("overloaded_error")), StreamBroken, 503),
        ("anthropic", named_events(*SPOKE, reported("rate_limit_error")), StreamBroken, 429),
        ("anthropic", Reply([b"<html>busy</html>"], 502, "text/html"), UpstreamFailed, 502),
        ("anthropic", Reply([b"<html>hi</html>"], 200, "text/html"), UpstreamFailed, None),
        ("google", gemini({"candidates": []}), StreamBroken, None),
        ("google", finished("MALFORMED_FUNCTION_CALL"), StreamBroken, None),
        ("google", finished("UNEXPECTED_TOOL_CALL"), StreamBroken, None),
        ("google", as_json({"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}), UpstreamFailed, 503),
        ("bedrock", converse(("throttlingException", {"message": "slow"})), RateLimited, 429),
        (
            "bedrock",
            converse(BEGIN, *converse_text("Fo")[1:2], ("throttlingException", {"message": "slow"})),
            StreamBroken,
            429,
        ),
        ("bedrock", converse(("modelStreamErrorException", {"message": "retry"})), UpstreamFailed, 424),
        ("bedrock", converse(("serviceUnavailableException", {"message": "busy"})), UpstreamFailed, 503),
        ("bedrock", converse(*converse_text("I", stop="malformed_tool_use")), StreamBroken, None),
        ("bedrock", Reply([b"\x00garbage" * 20], 200, "application/vnd.amazon.eventstream"), UpstreamFailed, None),
    ],
)
async def test_an_error_of_the_vendors_may_pass(
    server: VendorServer, vendors: dict[Api, Model], api: Api, reply: Reply, kind: type[ModelError], status: int | None
) -> None:
    """An overload, a limit or a malformed call, before or in the middle of an answer, may be retried."""
    _, error = await answered(server, vendors[api], reply)
    assert type(error) is kind
    assert error is not None
    assert (error.status, error.retryable) == (status, True)


async def test_a_vendors_own_refusal_teaches(server: VendorServer) -> None:
    """A field that a newer model no longer takes is left out, and the call is made again without it."""
    message = "`temperature` is deprecated for this model."
    server.answers(
        as_json({"type": "error", "error": {"type": "invalid_request_error", "message": message}}, 400),
        claude(says("ok")),
    )
    before = len(server.calls)
    async with VendorEndpoint("a", "anthropic", server.url, api_key="sk-1") as endpoint:
        model = endpoint.model("claude-sonnet-4-6")
        request = Request.of({"messages": [USER], "temperature": 0.3, "top_k": 5})
        deltas = [delta async for delta in model.stream(request)]
    assert collected(deltas).text == "ok"
    assert ["temperature" in each.body for each in server.calls[before:]] == [True, False]
    assert server.calls[-1].body["top_k"] == 5
    assert model.learned.refuses == {"temperature"}


SHELL = {"type": "custom", "custom": {"name": "sh", "description": "Runs a command."}}
CUSTOM: dict[Api, Reply] = {
    "anthropic": claude(says("x"), uses("sh", '{"input": "ls', ' -l"}', call="t1"), stop="tool_use"),
    "google": gemini(candidate({"functionCall": {"name": "sh", "args": {"input": "ls -l"}}}, finish="STOP")),
    "bedrock": converse(BEGIN, *bedrock_tool(0, "t1", '{"input": "ls -l"}', "sh"), STOP, METADATA),
}


@pytest.mark.parametrize("api", CUSTOM)
async def test_a_tool_with_a_text_as_its_input_is_called(
    server: VendorServer, vendors: dict[Api, Model], api: Api
) -> None:
    """A custom tool of OpenAI's is a function with one parameter for a vendor; the client gets its call as it expects it."""
    server.answers(CUSTOM[api])
    request = Request.of({"messages": [USER], "tools": [SHELL, *TOOLS]})
    deltas = [delta async for delta in vendors[api].stream(request)]
    pieces = [piece for delta in deltas for piece in delta.tool_calls]
    assert [(piece["type"], piece["custom"]) for piece in pieces] == [("custom", {"name": "sh", "input": "ls -l"})]
    assert collected(deltas).finish_reason == "tool_calls"
    assert "Runs a command." in json.dumps(server.calls[-1].body)


async def test_half_a_text_for_a_tool_is_broken(server: VendorServer, vendors: dict[Api, Model]) -> None:
    """An input that stops in the middle is an error."""
    server.answers(claude(uses("sh", '{"input": "ls'), stop="tool_use"))
    with pytest.raises(StreamBroken, match="in the middle of its input"):
        async for _ in vendors["anthropic"].stream(Request.of({"messages": [USER], "tools": [SHELL]})):
            pass
