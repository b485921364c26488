"""Anthropic, Gemini, Bedrock and Perplexity through their own SDKs, against servers that replay their documented streams."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from moa.errors import (
    CallRejected,
    KeyRejected,
    ModelError,
    RateLimited,
    StreamBroken,
    TimedOut,
    Unreachable,
    UpstreamFailed,
)
from moa.messages import Delta, Request, collected
from moa.models import Model, traits_of
from moa.models.catalog import Access, Catalog
from moa.models.endpoint import Timeouts
from moa.models.provider import Api
from moa.models.retries import Retried
from moa.models.trace_context import TRACE_HEADERS
from moa.models.vendors.endpoint import VendorEndpoint
from moa.prices import Price, Prices
from tests.fakes.packages import needs
from tests.fakes.vendors import (
    SIGNATURE,
    Reply,
    VendorServer,
    as_json,
    block_events,
    candidate,
    claude,
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
from tests.fakes.waiting import PATIENCE
from tests.models.calling import deltas_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,  # the SDKs take seconds to import
    needs("pydantic_ai", install="uv sync --group ci"),
]

KEY = "sk-0123456789abcdef"

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

MODELS: dict[str, str] = {
    "anthropic": "claude-sonnet-5-5",
    "google": "gemini-3.8-flash",
    "bedrock": "global.anthropic.claude-haiku-5-5",
    "responses": "perplexity/sonar",
}
ANSWERS = {
    "anthropic": claude(says("Fo", "ur.")),
    "google": gemini(candidate({"text": "Fo"}), candidate({"text": "ur."}, finish="STOP")),
    "bedrock": converse(*converse_text("Fo", "ur.")),
    "responses": responses("Four."),
}
APIS: tuple[Api, ...] = ("anthropic", "google", "bedrock", "responses")


@pytest.fixture
async def server() -> AsyncIterator[VendorServer]:
    async with VendorServer() as running:
        yield running


@pytest.fixture
async def vendors(server: VendorServer) -> AsyncIterator[dict[str, Model]]:
    """A model of each API, all at the server."""
    endpoints = [VendorEndpoint(api, api, address(server, api), api_key=KEY, region="us-east-1") for api in APIS]
    yield {endpoint.name: endpoint.model(MODELS[endpoint.name]) for endpoint in endpoints}
    for endpoint in endpoints:
        await endpoint.aclose()


def address(server: VendorServer, api: Api) -> str:
    return f"{server.url}/v1" if api == "responses" else server.url


async def failure(model: Model, body: Any = "hi") -> tuple[list[Delta], ModelError]:
    """The deltas before the call failed, and its error."""
    deltas: list[Delta] = []
    with pytest.raises(ModelError) as caught:
        async for delta in model.stream(Request.of(body)):
            deltas.append(delta)  # noqa: PERF401 - the deltas before the error must survive it
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    return deltas, caught.value


@pytest.mark.parametrize("api", APIS)
async def test_an_answer_streams_with_its_usage(server: VendorServer, vendors: dict[str, Model], api: Api) -> None:
    """Text comes piece by piece, then the finish reason, then what the vendor counted; one request is made, with the key."""
    server.answers(ANSWERS[api])
    deltas = await deltas_of(vendors[api])
    answer = collected(deltas)
    assert (answer.text, answer.finish_reason) == ("Four.", "stop")
    assert len([delta for delta in deltas if delta.text]) == (1 if api == "responses" else 2)
    assert answer.usage is not None
    assert answer.usage.output_tokens > 0
    assert not answer.usage.estimated
    (call,) = server.calls
    assert any(KEY in value for value in call.headers.values())
    assert traits_of(vendors[api]).continuation == "turns"


@pytest.mark.parametrize("api", APIS)
async def test_a_model_is_found_by_its_providers_name(server: VendorServer, api: Api) -> None:
    """An endpoint of the file may speak any of these APIs; a known provider does so by itself."""
    server.answers(ANSWERS[api])
    access = Access(base_url=address(server, api), api_key_env="MINE", api=api)
    async with Catalog({"mine": access}, environ={"MINE": KEY, "AWS_REGION": "eu-west-1"}) as catalog:
        assert collected(await deltas_of(catalog.model(f"mine/{MODELS[api]}"))).text == "Four."


async def test_a_known_vendor_is_called_at_the_address_of_its_variable(server: VendorServer) -> None:
    """``ANTHROPIC_BASE_URL`` moves Anthropic, as its own SDK has it."""
    server.answers(ANSWERS["anthropic"])
    environ = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": server.url}
    async with Catalog(environ=environ) as catalog:
        assert collected(await deltas_of(catalog.model("anthropic/claude-sonnet-5-5"))).text == "Four."


async def test_a_tool_loop_keeps_signed_thinking(server: VendorServer, vendors: dict[str, Model]) -> None:
    """Claude's thinking goes out as reasoning, and comes back signed, word for word and in its place."""
    answers = claude(
        thinks("Let me", " look."),
        redacted("EmwK"),
        says("I look."),
        uses("weather", '{"city": ', '"Paris"}'),
        stop="tool_use",
    )
    server.answers(answers, claude(says("Sunny.")))
    question = {"role": "user", "content": "How is the weather in Paris?"}
    body = {"messages": [question], "tools": TOOLS, "reasoning_effort": "high"}
    deltas = await deltas_of(vendors["anthropic"], Request.of(body))
    first = collected(deltas)
    assert (first.reasoning, first.text, first.finish_reason) == ("Let me look.", "I look.", "tool_calls")
    (call,) = first.tool_calls
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    details = next(delta.extra["reasoning_details"] for delta in deltas if delta.extra)
    asked = {"role": "assistant", "content": first.text, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    for kept in ({"reasoning_details": details}, {}):  # a client that drops the field: the endpoint remembers it
        again = {**body, "messages": [question, {**asked, **kept}, result]}
        assert collected(await deltas_of(vendors["anthropic"], Request.of(again))).text == "Sunny."
        assert server.calls[-1].body["messages"][1]["content"] == [
            {"type": "thinking", "thinking": "Let me look.", "signature": SIGNATURE},
            {"type": "redacted_thinking", "data": "EmwK"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": call["id"], "name": "weather", "input": {"city": "Paris"}},
        ]
    assert server.calls[-1].body["output_config"] == {"effort": "high"}


async def test_gemini_gets_its_thought_signature_back(server: VendorServer, vendors: dict[str, Model]) -> None:
    """The signature of a function call comes back with that call: Gemini refuses one without it."""
    part = {"functionCall": {"name": "weather", "args": {"city": "Paris"}}, "thoughtSignature": "U0lH"}
    server.answers(
        gemini(candidate({"text": "Hm", "thought": True}), candidate(part, finish="STOP")), ANSWERS["google"]
    )
    question = {"role": "user", "content": "How is the weather in Paris?"}
    deltas = await deltas_of(vendors["google"], Request.of({"messages": [question], "tools": TOOLS}))
    first = collected(deltas)
    assert (first.reasoning, first.finish_reason) == ("Hm", "tool_calls")
    (call,) = first.tool_calls
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    details = next(delta.extra["reasoning_details"] for delta in deltas if delta.extra)
    asked = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_details": details}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    await deltas_of(vendors["google"], Request.of({"messages": [question, asked, result], "tools": TOOLS}))
    parts = server.calls[-1].body["contents"][1]["parts"]
    assert [each["thoughtSignature"] for each in parts if "functionCall" in each] == ["U0lH"]


async def test_bedrock_gets_its_signed_reasoning_back(server: VendorServer, vendors: dict[str, Model]) -> None:
    """Converse's reasoning content goes out as reasoning and comes back with its signature before the tool's use."""
    events: list[tuple[str, Any]] = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm"}}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "SIG"}}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t1", "name": "weather"}}}),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"city":"Paris"}'}}}),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        ("messageStop", {"stopReason": "tool_use"}),
    ]
    server.answers(converse(*events), ANSWERS["bedrock"])
    question = {"role": "user", "content": "How is the weather in Paris?"}
    first = collected(await deltas_of(vendors["bedrock"], Request.of({"messages": [question], "tools": TOOLS})))
    assert (first.reasoning, first.finish_reason) == ("Hm", "tool_calls")
    asked = {"role": "assistant", "content": None, "tool_calls": [*first.tool_calls]}
    result = {"role": "tool", "tool_call_id": "t1", "content": "sunny"}
    await deltas_of(vendors["bedrock"], Request.of({"messages": [question, asked, result], "tools": TOOLS}))
    content = server.calls[-1].body["messages"][1]["content"]
    assert content[0] == {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "SIG"}}}
    assert content[1]["toolUse"]["toolUseId"] == "t1"


@pytest.mark.parametrize("api", APIS)
async def test_reasoning_of_another_maker_is_left_out(
    server: VendorServer, vendors: dict[str, Model], api: Api
) -> None:
    """Details in another maker's format, which only that maker can read, do not reach this one."""
    details = [
        {"type": "reasoning.text", "text": "secret thoughts", "signature": "x", "format": "another-v1", "index": 0}
    ]
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello.", "reasoning_details": details},
        {"role": "user", "content": "again"},
    ]
    server.answers(ANSWERS[api])
    await deltas_of(vendors[api], Request.of({"messages": history}))
    assert "secret thoughts" not in str(server.calls[0].body)


@pytest.mark.parametrize("api", [api for api in APIS if api != "bedrock"])
async def test_the_callers_trace_reaches_the_vendor(server: VendorServer, vendors: dict[str, Model], api: Api) -> None:
    """The vendors' SDKs send the headers of the running trace; Bedrock's does not take any."""
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    server.answers(ANSWERS[api])
    token = TRACE_HEADERS.set({"traceparent": parent})
    try:
        await deltas_of(vendors[api], Request.of({"messages": [{"role": "user", "content": "hi"}]}))
    finally:
        TRACE_HEADERS.reset(token)
    assert server.calls[0].headers["traceparent"] == parent


@pytest.mark.parametrize("api", APIS)
async def test_past_tool_calls_need_no_tools(server: VendorServer, vendors: dict[str, Model], api: Api) -> None:
    """Tools that only the history knows are defined for the vendor, and may not be called."""
    call = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
    ]
    server.answers(ANSWERS[api])
    assert collected(await deltas_of(vendors[api], Request.of({"messages": history}))).text == "Four."
    sent = str(server.calls[0].body).lower()
    assert "weather" in sent
    assert "none" in sent


SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "integer"}},
    "required": ["x"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("api", APIS)
async def test_an_image_and_a_schema_reach_the_vendor(
    server: VendorServer, vendors: dict[str, Model], api: Api
) -> None:
    """The image is sent in the vendor's form, and the schema in the field that binds the model to it."""
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    message = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
    server.answers(ANSWERS[api])
    await deltas_of(vendors[api], Request.of({"messages": [message], "response_format": wanted}))
    body = server.calls[0].body
    assert PNG in str(body).replace("-", "+")  # Google's SDK writes URL-safe Base64
    field = {"anthropic": "output_config", "google": "generationConfig", "bedrock": "outputConfig", "responses": "text"}
    assert "integer" in str(body[field[api]])


async def test_sampling_reaches_the_models_that_take_it(server: VendorServer, vendors: dict[str, Model]) -> None:
    """A field that a model refuses or ignores is left out, without a warning; the others get the vendor's names."""
    fields = {"temperature": 0.2, "top_p": 0.9, "max_tokens": 500, "stop": ["END"], "seed": 7, "presence_penalty": 0.1}
    body = {"messages": [{"role": "user", "content": "hi"}], **fields, "store": True, "metadata": {}, "user": "u"}
    server.answers(ANSWERS["google"])
    await deltas_of(vendors["google"], Request.of(body))
    sent = server.calls[-1].body["generationConfig"]
    assert (sent["temperature"], sent["topP"], sent["maxOutputTokens"], sent["seed"]) == (0.2, 0.9, 500, 7)
    assert sent["stopSequences"] == ["END"]
    server.answers(ANSWERS["anthropic"])
    await deltas_of(vendors["anthropic"], Request.of(body))
    sent = server.calls[-1].body
    assert (sent["max_tokens"], sent["stop_sequences"]) == (500, ["END"])
    assert not {"temperature", "top_p", "seed", "presence_penalty", "store", "user"} & {*sent}


async def test_reasoning_at_a_responses_api_is_set_and_asked_back(server: VendorServer) -> None:
    """Effort reaches the models that take it, Grok's encrypted reasoning is requested, and storing can be refused."""
    server.answers(ANSWERS["responses"])
    fields = {"reasoning_effort": "high", "openai_store": False}
    async with VendorEndpoint("v", "responses", address(server, "responses"), api_key=KEY) as endpoint:
        for name in ("grok-4.7", "perplexity/sonar"):
            question = {"messages": [{"role": "user", "content": "hi"}], **fields}
            await deltas_of(endpoint.model(name), Request.of(question))
    grok, sonar = (call.body for call in server.calls)
    assert grok["reasoning"]["effort"] == sonar["reasoning"]["effort"] == "high"
    assert (grok["include"], grok["store"]) == (["reasoning.encrypted_content"], False)
    assert "include" not in sonar


async def test_a_prompt_that_will_come_again_is_cached(server: VendorServer, vendors: dict[str, Model]) -> None:
    """A lone question is not written to the cache, which costs more; one with tools is; the caller's marks count."""
    server.answers(ANSWERS["anthropic"])
    question = {"role": "user", "content": "hi"}
    await deltas_of(vendors["anthropic"], Request.of({"messages": [question]}))
    assert "cache_control" not in str(server.calls[-1].body)
    await deltas_of(vendors["anthropic"], Request.of({"messages": [question], "tools": TOOLS}))
    assert "cache_control" in server.calls[-1].body
    history = [question, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "and the references"}]
    await deltas_of(vendors["anthropic"], Request.of({"messages": history}))
    _, answer, last = server.calls[-1].body["messages"]
    assert answer["content"][-1]["cache_control"] and "cache_control" not in str(last), "all before the last question"
    marked = {
        "role": "user",
        "content": [{"type": "text", "text": "long", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    }
    await deltas_of(vendors["anthropic"], Request.of({"messages": [marked]}))
    assert server.calls[-1].body["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


async def test_writing_to_the_cache_has_its_price(server: VendorServer) -> None:
    """Input written to the cache costs what the list says for it, input read from it another price; own prices override."""
    usage = {"input_tokens": 1000, "cache_creation_input_tokens": 10_000, "cache_read_input_tokens": 100_000}
    server.answers(claude(says("Four."), usage=usage))
    costs = []
    for prices in (Prices(), Prices({"anthropic/*": Price(1, 1, 1)})):
        async with VendorEndpoint("anthropic", "anthropic", server.url, api_key=KEY, prices=prices) as endpoint:
            deltas = await deltas_of(endpoint.model("claude-sonnet-5-5"))
        last = deltas[-1]
        assert last.usage is not None
        assert (last.usage.input_tokens, last.usage.cached_tokens) == (111_000, 100_000)
        costs.append(last.cost.dollars if last.cost else None)
    # $2 a million fresh, $2.50 written, $0.10 read, $10 for output: https://platform.claude.com/docs/en/about-claude/pricing
    assert costs == [pytest.approx((1000 * 2 + 10_000 * 2.5 + 100_000 * 0.1 + 15 * 10) / 1e6), pytest.approx(0.111015)]


@pytest.mark.parametrize(
    ("api", "reply", "reason"),
    [
        ("anthropic", claude(says("I cannot"), stop="refusal"), "content_filter"),
        ("anthropic", claude(says("I"), stop="max_tokens"), "length"),
        ("anthropic", claude(says("I"), stop="stop_sequence"), "stop"),
        ("anthropic", claude(says("I"), stop="model_context_window_exceeded"), "length"),
        ("google", gemini(candidate({"text": "I"}, finish="SAFETY")), "content_filter"),
        ("google", gemini(candidate({"text": "I"}, finish="MAX_TOKENS")), "length"),
        ("google", gemini({"promptFeedback": {"blockReason": "SAFETY"}}), "content_filter"),
        ("bedrock", converse(*converse_text("I", stop="guardrail_intervened")), "content_filter"),
        ("bedrock", converse(*converse_text("I", stop="max_tokens")), "length"),
        ("responses", responses("I", "incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
        ("responses", responses("I", "incomplete", incomplete_details={"reason": "content_filter"}), "content_filter"),
    ],
)
async def test_stop_reasons_are_openais_words(
    server: VendorServer, vendors: dict[str, Model], api: Api, reply: Reply, reason: str
) -> None:
    """An answer that is complete, cut or filtered says so in the words that clients know."""
    server.answers(reply)
    assert collected(await deltas_of(vendors[api])).finish_reason == reason


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
BEGUN = [*opening(), *[*block_events([says("Fo")])][:2]]


@pytest.mark.parametrize(
    ("api", "reply"),
    [
        ("anthropic", named_events(*BEGUN, OVERLOADED)),
        ("anthropic", named_events(*BEGUN)),
        ("anthropic", named_events(*BEGUN, cut=True)),
        ("anthropic", claude(says("Fo"), stop="pause_turn")),
        ("google", gemini(candidate({"text": "Fo"}))),
        ("google", gemini(candidate({"text": "Fo"}), cut=True)),
        ("google", gemini(candidate({"text": "Fo"}, finish="MALFORMED_FUNCTION_CALL"))),
        (
            "google",
            gemini(
                candidate({"text": "Fo"}), {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
            ),
        ),
        ("bedrock", converse(*converse_text("Fo")[:2])),
        ("bedrock", converse(*converse_text("Fo")[:2], cut=True)),
        ("bedrock", converse(*converse_text("Fo")[:2], ("modelStreamErrorException", {"message": "boom"}))),
        ("responses", responses("Fo", "failed", error={"code": "server_error", "message": "boom"})),
    ],
)
async def test_an_answer_that_stops_halfway_is_broken(
    server: VendorServer, vendors: dict[str, Model], api: Api, reply: Reply
) -> None:
    """Nothing half passes for whole: the text so far comes with its usage, then the error; it is not made again."""
    server.answers(reply)
    deltas, error = await failure(Retried(vendors[api]))
    assert isinstance(error, StreamBroken)
    assert "".join(delta.text for delta in deltas) == "Fo"
    assert deltas[-1].usage
    assert len(server.calls) == 1


async def test_half_a_tool_call_is_broken(server: VendorServer, vendors: dict[str, Model]) -> None:
    """Arguments that stop in the middle are an error, whatever the stop reason says."""
    server.answers(claude(uses("weather", '{"ci'), stop="tool_use"))
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
    _, error = await failure(vendors["anthropic"], body)
    assert "in the middle of its arguments" in str(error)


# https://platform.claude.com/docs/en/api/errors, https://ai.google.dev/gemini-api/docs/troubleshooting,
# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html#API_runtime_ConverseStream_Errors
INVALID = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
RETRY_IN_17 = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}]


@pytest.mark.parametrize(
    ("api", "reply", "kind", "message"),
    [
        ("anthropic", as_json(OVERLOADED, 529), UpstreamFailed, "Overloaded"),
        ("anthropic", named_events(*opening(), OVERLOADED), UpstreamFailed, "Overloaded"),
        (
            "anthropic",
            as_json({"error": {"type": "rate_limit_error", "message": "Slow down"}}, 429, retry_after="17"),
            RateLimited,
            "Slow",
        ),
        (
            "anthropic",
            as_json({"error": {"type": "authentication_error", "message": f"invalid {KEY}"}}, 401),
            KeyRejected,
            r"invalid \[key\]",
        ),
        (
            "anthropic",
            as_json({"error": {"type": "invalid_request_error", "message": "no"}}, 400),
            CallRejected,
            "400.*no",
        ),
        (
            "google",
            as_json({"error": {"code": 429, "message": "Quota", "details": RETRY_IN_17}}, 429),
            RateLimited,
            "Quota",
        ),
        (
            "google",
            as_json({"error": {"code": 400, "message": "API key not valid.", "details": INVALID}}, 400),
            KeyRejected,
            "not valid",
        ),
        ("google", as_json({"error": {"code": 503, "message": "overloaded"}}, 503), UpstreamFailed, "overloaded"),
        (
            "bedrock",
            as_json({"message": "Slow down"}, 429, x_amzn_errortype="ThrottlingException"),
            RateLimited,
            "Slow down",
        ),
        (
            "bedrock",
            as_json({"message": "bad token"}, 403, x_amzn_errortype="UnrecognizedClientException"),
            KeyRejected,
            "bad token",
        ),
        (
            "bedrock",
            as_json({"message": "no such model"}, 400, x_amzn_errortype="ValidationException"),
            CallRejected,
            "no such model",
        ),
        (
            "responses",
            as_json({"error": {"message": "bad key", "type": "invalid_api_key", "code": 401}}, 401),
            KeyRejected,
            "bad key",
        ),
    ],
)
async def test_errors_keep_their_kind_and_their_wait(
    server: VendorServer, vendors: dict[str, Model], api: Api, reply: Reply, kind: type[ModelError], message: str
) -> None:
    """An error has the kind that its status means, the vendor's words without the key, and the wait that it asks for."""
    server.answers(reply)
    deltas, error = await failure(vendors[api])
    assert deltas == []
    assert type(error) is kind
    assert len(server.calls) == 1  # the SDK does not retry
    assert re.search(message, str(error))
    assert error.retry_after == (17 if message in ("Slow", "Quota") else None)


# The wordings that public reports quote; see :mod:`moa.models.contexts`.
TOO_LONG = {
    "anthropic": {"type": "invalid_request_error", "message": "prompt is too long: 1050000 tokens > 1000000 maximum"},
    "google": {
        "code": 400,
        "message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    },
}


@pytest.mark.parametrize("api", TOO_LONG)
async def test_a_prompt_that_is_too_long_has_its_code(
    server: VendorServer, vendors: dict[str, Model], api: str
) -> None:
    """A client learns by the code that its conversation has outgrown the model."""
    server.answers(as_json({"error": TOO_LONG[api]}, 400))
    _, error = await failure(vendors[api])
    assert (error.code, error.of_request, error.retryable) == ("context_length_exceeded", True, False)


async def test_a_spent_quota_is_not_retried(server: VendorServer, vendors: dict[str, Model]) -> None:
    """A 429 because the credits are spent does not pass with time."""
    spent = {
        "error": {
            "message": "You exceeded your current quota",
            "type": "insufficient_quota",
            "code": "insufficient_quota",
        }
    }
    server.answers(as_json(spent, 429))
    _, error = await failure(Retried(vendors["responses"], wait_initial=0, wait_jitter=0))
    assert not error.retryable
    assert len(server.calls) == 1


async def test_a_retry_is_ours(server: VendorServer, vendors: dict[str, Model]) -> None:
    """An error that may pass is retried by the wrapper that reports it, and the answer of the second attempt counts."""
    server.answers(as_json(OVERLOADED, 529), ANSWERS["anthropic"])
    model = Retried(vendors["anthropic"], wait_initial=0, wait_jitter=0)
    assert collected(await deltas_of(model)).text == "Four."
    assert len(server.calls) == 2


async def test_a_key_that_expires_is_fetched_again(server: VendorServer) -> None:
    """A 401 fetches another key and sends the call again with it."""
    keys = iter(["first-key", "second-key"])
    server.answers(as_json({"error": {"message": "expired"}}, 401), ANSWERS["anthropic"])
    async with VendorEndpoint("anthropic", "anthropic", server.url, api_key=lambda: next(keys)) as endpoint:
        assert collected(await deltas_of(endpoint.model("claude-sonnet-5-5"))).text == "Four."
    assert ["second-key" in str(call.headers) for call in server.calls] == [False, True]


@pytest.mark.parametrize("api", APIS)
async def test_nothing_at_the_address_is_unreachable(api: Api) -> None:
    """A server that is not there is an error that may pass."""
    async with VendorEndpoint("v", api, "http://127.0.0.1:9/v1", api_key=KEY, region="us-east-1") as endpoint:
        _, error = await failure(endpoint.model(MODELS[api]))
    assert isinstance(error, Unreachable)


@pytest.mark.parametrize("api", APIS)
async def test_silence_is_limited(server: VendorServer, api: Api) -> None:
    """A vendor that stops sending is given up after the time between tokens."""
    started = {
        "anthropic": named_events(*BEGUN, hangs=True),
        "google": gemini(candidate({"text": "Fo"}), hangs=True),
        "bedrock": converse(*converse_text("Fo")[:2], hangs=True),
        "responses": Reply(responses("Fo").packets[:4], hangs=True),
    }
    server.answers(started[api])
    quick = Timeouts(stall=0.05)
    async with VendorEndpoint(
        "v", api, address(server, api), api_key=KEY, timeouts=quick, region="us-east-1"
    ) as endpoint:
        deltas, error = await failure(endpoint.model(MODELS[api]))
    assert isinstance(error, TimedOut)
    assert "".join(delta.text for delta in deltas) == "Fo"


@pytest.mark.parametrize("api", APIS)
async def test_closing_the_stream_ends_the_call(server: VendorServer, vendors: dict[str, Model], api: Api) -> None:
    """A reader that goes away takes the connection with it, so that nothing more is written and paid."""
    started = {
        "anthropic": named_events(*BEGUN, hangs=True),
        "google": gemini(candidate({"text": "Fo"}), hangs=True),
        "bedrock": converse(*converse_text("Fo")[:2], hangs=True),
        "responses": Reply(responses("Fo").packets[:4], hangs=True),
    }
    server.answers(started[api])
    stream = vendors[api].stream(Request.of("hi"))
    assert (await anext(stream)).text == "Fo"
    await stream.aclose()
    async with asyncio.timeout(PATIENCE):
        await server.calls[0].gone.wait()


async def test_the_vendors_list_their_models(server: VendorServer) -> None:
    """The lists come in the vendor's order, without Gemini's prefix; Bedrock's runtime has none, and says so."""
    claude_a = {"id": "claude-a", "type": "model", "display_name": "A", "created_at": "2026-01-01T00:00:00Z"}
    lists: dict[Api, dict[str, Any]] = {
        "anthropic": {"data": [claude_a], "has_more": False},
        "google": {"models": [{"name": "models/gemini-a"}]},
        "responses": {"object": "list", "data": [{"id": "sonar", "object": "model", "created": 1, "owned_by": "p"}]},
    }
    found = {}
    for api, body in lists.items():
        server.answers(as_json(body))
        async with VendorEndpoint("v", api, address(server, api), api_key=KEY) as endpoint:
            found[api] = await endpoint.models()
    assert found == {"anthropic": ["claude-a"], "google": ["gemini-a"], "responses": ["sonar"]}
    async with VendorEndpoint("v", "bedrock", server.url, api_key=KEY) as endpoint:
        with pytest.raises(UpstreamFailed, match="has no list"):
            await endpoint.models()


async def test_what_has_no_counterpart_is_refused_before_it_is_sent(
    server: VendorServer, vendors: dict[str, Model]
) -> None:
    """A kind of content that the API does not know is an error that names it; nothing is sent and paid."""
    video = {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://example.com/x.mp4"}}]}
    _, error = await failure(vendors["anthropic"], {"messages": [video]})
    assert isinstance(error, CallRejected)
    assert "'video_url'" in str(error)
    assert server.calls == []
