"""Anthropic's Messages API, with Anthropic's SDK: texts, tools, thinking, images and errors, streamed and whole."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moa.messages import Answer, Delta, Request
from moa.pieces import collected
from moa.server.dialects.dialect import Result
from moa.server.dialects.functions import Tools
from moa.server.dialects.messages import read_messages
from moa.server.dialects.messages.encoder import MessagesEncoder, messages_error
from moa.server.failures import Refusal
from tests.fakes.packages import needs
from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream, call_tool, error_event, refuse, say, think, words
from tests.server.test_responses import JSON, PIECES, heads, sent

pytestmark = pytest.mark.anyio
with_sdk = needs("anthropic", install="uv sync --extra vendors")

TOOL = {"name": "weather", "description": "The weather.", "input_schema": {"type": "object", "properties": {}}}
ASK: list[Any] = [{"role": "user", "content": "Why?"}]


@pytest.fixture
async def client(server: Served) -> AsyncIterator[Any]:
    import anthropic

    async with anthropic.AsyncAnthropic(base_url=server.origin, api_key="none", max_retries=0) as client:
        yield client


@with_sdk
async def test_a_question_is_answered(client: Any, upstream: Upstream) -> None:
    """The SDK reads the text, the stop reason and the usage; the fields have reached the model under their own names."""
    message = await client.messages.create(
        model="claude-moa-trio",
        max_tokens=100,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=ASK,
        stop_sequences=["END"],
        extra_body={"temperature": 0.5},
        metadata={"user_id": "somebody"},
    )
    assert (message.content[0].text, message.stop_reason, message.role) == ("the whole answer", "end_turn", "assistant")
    assert message.model == "claude-moa-trio" and message.usage.output_tokens > 0
    body = sent(upstream)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["stop"], body["temperature"], body["max_tokens"]) == (["END"], 0.5, 100)
    assert "somebody" not in json.dumps(body)


@with_sdk
async def test_a_stream_builds_the_same_message(client: Any, upstream: Upstream) -> None:
    """The SDK's events come in their order, and thinking only where the request asks for it."""
    for thinking in ({"type": "adaptive"}, {"type": "disabled"}):
        upstream.script("last", think("So.", "two words"))
        async with client.messages.stream(model="moa/shown", max_tokens=100, messages=ASK, thinking=thinking) as stream:
            kinds = [event.type async for event in stream if not event.type.endswith("_delta")]
            message = await stream.get_final_message()
        blocks = ["thinking", "text"] if thinking["type"] == "adaptive" else ["text"]
        assert [block.type for block in message.content] == blocks
        assert message.content[-1].text == "two words"
        if thinking["type"] == "adaptive":
            assert "proposal a" in message.content[0].thinking and message.content[0].signature
        assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
        assert message.usage.input_tokens > 0


@with_sdk
async def test_a_tool_loop(client: Any, upstream: Upstream) -> None:
    """A call comes back as a block; with its result, an image among it, the answer follows."""
    upstream.script("last", call_tool("weather", {"city": "Bern"}), say("It rains."))
    async with client.messages.stream(model="moa/trio", max_tokens=100, messages=ASK, tools=[TOOL]) as stream:
        first = await stream.get_final_message()
    assert first.stop_reason == "tool_use"
    call = first.content[-1]
    assert (call.name, call.input) == ("weather", {"city": "Bern"})
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "rain"}, image]}
    history = [
        *ASK,
        {"role": "assistant", "content": [block.model_dump() for block in first.content]},
        {"role": "user", "content": [result, {"type": "text", "text": "So?"}]},
    ]
    second = await client.messages.create(model="moa/trio", max_tokens=100, messages=history, tools=[TOOL])
    assert second.content[0].text == "It rains."
    body = sent(upstream)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "user"]
    assert body["messages"][2] == {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    assert "AA==" in json.dumps(body["messages"][3]) and "So?" in json.dumps(body["messages"][3])


@with_sdk
async def test_tokens_are_counted(client: Any, http: aiohttp.ClientSession, server: Served) -> None:
    """The count is an estimate, and a header says so."""
    count = await client.messages.count_tokens(model="moa/trio", messages=[{"role": "user", "content": "word " * 400}])
    assert 300 < count.input_tokens < 700
    body = {"model": "moa/trio", "messages": ASK}
    async with http.post(f"{server.url}/messages/count_tokens?beta=true", json=body) as response:
        assert response.headers["x-moa-estimated"] == "true"
    async with http.post(f"{server.url}/messages/count_tokens", json={"model": "moa/trio"}) as response:
        assert (response.status, (await response.json())["type"]) == (400, "error")


@with_sdk
async def test_errors_have_anthropics_form(client: Any, upstream: Upstream) -> None:
    """The SDK raises the class of each, before and after the first word."""
    import anthropic

    upstream.script("last", refuse(500, "on fire"))
    for stream in (False, True):
        with pytest.raises(anthropic.InternalServerError, match="on fire"):
            await client.messages.create(model="moa/trio", max_tokens=9, messages=ASK, stream=stream)
    with pytest.raises(anthropic.NotFoundError) as caught:
        await client.messages.create(model="moa/nobody", max_tokens=9, messages=ASK)
    assert caught.value.body["error"]["type"] == "not_found_error"
    upstream.script("last", words("two words") + error_event("on fire"))
    with pytest.raises(anthropic.APIStatusError, match="on fire"):
        async with client.messages.stream(model="moa/trio", max_tokens=9, messages=ASK) as stream:
            await stream.get_final_message()


def test_a_whole_answer_hides_nothing() -> None:
    """A refusal follows the text, and arguments that are no object stay readable: an empty object would be another call."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}
    answer = Answer(text="Hm. ", tool_calls=(call,), finish_reason="length")
    message = json.loads(encoder().whole([Result(answer, {"refusal": "No."})]))
    assert message["content"][0]["text"] == "Hm. No."
    assert message["content"][1]["input"] == {"INVALID_JSON": '{"a": '}


def test_a_prompt_that_is_too_long_has_the_words_that_clients_act_on() -> None:
    """Claude Code compacts its conversation when a message says that the prompt is too long."""
    error = json.loads(messages_error(Refusal(400, "no member can read it", code="context_length_exceeded")))
    assert error["error"] == {"type": "invalid_request_error", "message": "prompt is too long: no member can read it"}


def test_documents_and_results_become_what_models_read() -> None:
    """Texts of documents are texts, PDFs are files, and an error of a tool says that it is one."""
    document = {"type": "document", "title": "Notes", "source": {"type": "text", "data": "all of it"}}
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}}
    failed = {"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": "no such file"}
    use = {"type": "tool_use", "id": "t1", "name": "read", "input": {"path": "x"}}
    messages = read(
        [
            {"role": "user", "content": [document, pdf]},
            {"role": "assistant", "content": [{"type": "text", "text": "I read."}, use]},
            {"role": "user", "content": [failed]},
            {"role": "system", "content": "A reminder."},
        ]
    ).messages
    assert messages[0]["content"][0] == {"type": "text", "text": "Notes\nall of it"}
    assert messages[0]["content"][1]["file"]["file_data"] == "data:application/pdf;base64,AA=="
    assert json.loads(messages[1]["tool_calls"][0]["function"]["arguments"]) == {"path": "x"}
    assert messages[2]["content"] == "Error: no such file"
    assert messages[3] == {"role": "system", "content": "A reminder."}


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, "xhigh"),
    ],
)
def test_thinking_is_an_effort(fields: dict[str, Any], effort: str | None) -> None:
    """A budget of tokens is the effort that comes nearest."""
    assert read(ASK, **fields).body.get("reasoning_effort") == effort


def test_a_choice_of_tools_has_the_words_of_chat_completions() -> None:
    """``any`` is ``required``, and a tool is named."""
    for choice, translated in (("any", "required"), ("auto", "auto"), ("none", "none")):
        assert read(ASK, tools=[TOOL], tool_choice={"type": choice}).body["tool_choice"] == translated
    body = read(
        ASK, tools=[TOOL], tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    ).body
    assert body["tool_choice"]["function"]["name"] == "weather" and body["parallel_tool_calls"] is False


def test_tools_that_anthropic_runs_are_left_out() -> None:
    """No model here could run them; all others are functions."""
    tools = [TOOL, {"type": "web_search_20250305", "name": "web_search"}, {"type": "bash_20250124", "name": "bash"}]
    assert [tool["function"]["name"] for tool in read(ASK, tools=tools).body["tools"]] == ["weather", "bash"]


def test_a_search_among_tools_has_a_result_that_models_read() -> None:
    """And a call without a name, which no server accepts, is left out."""
    search = {"type": "tool_use", "id": "t1", "name": "ToolSearch", "input": {}}
    found = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "tool_reference", "tool_name": "Read"}]}
    nameless = {"type": "tool_use", "id": "t2", "input": {}}
    history = [*ASK, {"role": "assistant", "content": [search, nameless]}, {"role": "user", "content": [found]}]
    _, assistant, result = read(history).messages
    assert len(assistant["tool_calls"]) == 1 and "Read" in result["content"]


KINDS = ("text", "image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result", "server_tool_use")
BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional=dict.fromkeys(("text", "source", "thinking", "signature", "id", "input", "tool_use_id", "content"), JSON),
)
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(("user", "assistant", "system")),
        "content": st.text(max_size=5) | st.lists(BLOCKS, max_size=3),
    }
)


@settings(max_examples=50)
@given(st.lists(MESSAGE, max_size=5))
def test_no_block_breaks_the_server(messages: list[dict[str, Any]]) -> None:
    """Whatever a block holds, the request is read, or refused as a bad one."""
    try:
        request = read([*messages, *ASK])
    except Refusal as refusal:
        assert refusal.status == 400
    else:
        assert request == Request.of(request.body)


def read(messages: list[Any], **fields: Any) -> Request:
    return read_messages({"model": "moa/trio", "messages": messages, **fields}).request


def encoder() -> MessagesEncoder:
    made = MessagesEncoder("moa/trio", 10, Tools(), thinking=True)
    made.start("0" * 32)
    return made


def streamed(deltas: Sequence[Delta]) -> list[dict[str, Any]]:
    """The blocks of a stream of these pieces; each starts, grows and stops before the next."""
    writer = encoder()
    frames = b"".join([*(writer.delta(delta, 0) for delta in deltas), writer.end([Result(collected(deltas), {})])])
    events = [json.loads(line[6:]) for line in frames.decode().split("\n") if line.startswith("data: ")]
    assert [event["type"] for event in (events[0], *events[-2:])] == ["message_start", "message_delta", "message_stop"]
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in events[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert not is_open and event["index"] == len(blocks)
                blocks.append({**event["content_block"], "json": ""})
                is_open = True
            case "content_block_delta":
                assert is_open and event["index"] == len(blocks) - 1
                names = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
                name = names.get(event["delta"]["type"], "json")
                blocks[-1][name] += event["delta"]["partial_json" if name == "json" else name]
            case "content_block_stop":
                assert is_open
                is_open = False
    assert not is_open
    return blocks


@settings(max_examples=50)
@given(st.lists(PIECES, max_size=12))
def test_a_stream_holds_the_whole_answer(pieces: list[Delta]) -> None:
    """Its blocks follow one another, and no word, no thought and no argument is lost."""
    deltas = heads([piece for piece in pieces if not piece.thought])
    answer, blocks = collected(deltas), streamed(deltas)
    assert "".join(block["text"] for block in blocks if block["type"] == "text") == answer.text
    assert "".join(block["thinking"] for block in blocks if block["type"] == "thinking") == answer.reasoning
    arguments = {block["id"]: block["json"] for block in blocks if block["type"] == "tool_use"}
    assert arguments == {call["id"]: call["function"]["arguments"] for call in answer.tool_calls}
