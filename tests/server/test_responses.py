"""The Responses API, with OpenAI's SDK: texts, tools, reasoning, images, schemas and errors, streamed and whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response
from pydantic import BaseModel

from moa.messages import Answer, Delta, Request, Usage
from moa.pieces import collected
from moa.server.dialects.dialect import Result
from moa.server.dialects.functions import Tools
from moa.server.dialects.responses import read_responses
from moa.server.dialects.responses.encoder import ResponsesEncoder
from moa.server.failures import Refusal
from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream, call_tool, chunk, error_event, finish, hang, refuse, say, think, until, words
from tests.fakes.waiting import PATIENCE, holds

pytestmark = pytest.mark.anyio

TOOL: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture
async def client(server: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


def sent(upstream: Upstream, model: str = "last") -> dict[str, Any]:
    """The body of the last call to a model."""
    body = upstream.calls(model)[-1].body
    assert isinstance(body, dict)
    return body


async def test_a_question_is_answered(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """The SDK reads the text, the usage and the run of a whole answer."""
    response = await client.responses.create(model="moa/trio", input="Why?", instructions="Be brief.")
    assert (response.output_text, response.status, response.object) == ("the whole answer", "completed", "response")
    assert response.usage is not None and response.usage.total_tokens > 0
    assert response.id == f"resp_{response.model_extra['moa']['run']}" if response.model_extra else False
    assert sent(upstream)["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_a_stream_has_the_events_of_openai_in_their_order(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """Each event has the next sequence number, and the SDK builds the same response from them."""
    upstream.script("last", think("So.", "two words"))
    async with client.responses.stream(model="moa/shown", input="Why?") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert [event.sequence_number for event in events] == [*range(len(events))]
    kinds = [event.type for event in events]
    assert list(dict.fromkeys(kinds)) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.completed",
    ]
    assert (final.output_text, [item.type for item in final.output]) == ("two words", ["reasoning", "message"])
    reasoning = final.output[0]
    assert reasoning.type == "reasoning" and "proposal a" in reasoning.summary[0].text


async def test_a_tool_loop(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """A call comes back as an item; with its result the answer follows, and the history reaches the model whole."""
    upstream.script("last", call_tool("weather", {"city": "Bern"}), say("It rains."))
    first = await client.responses.create(model="moa/trio", input="Weather?", tools=[TOOL])  # type: ignore[list-item]
    call = first.output[-1]
    assert call.type == "function_call" and json.loads(call.arguments) == {"city": "Bern"}
    assert sent(upstream)["tools"][0]["function"]["name"] == "weather"
    history: list[Any] = [
        {"role": "user", "content": "Weather?"},
        *(item.model_dump(exclude_none=True) for item in first.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
    ]
    second = await client.responses.create(model="moa/trio", input=history, tools=[TOOL])  # type: ignore[list-item]
    assert second.output_text == "It rains."
    user, assistant, result = sent(upstream)["messages"]
    assert (user["role"], assistant["tool_calls"][0]["id"]) == ("user", call.call_id)
    assert result == {"role": "tool", "tool_call_id": call.call_id, "content": "rain"}


@pytest.mark.parametrize("stream", [False, True])
async def test_custom_tools_and_namespaces(
    client: openai.AsyncOpenAI, upstream: Upstream, http: aiohttp.ClientSession, server: Served, stream: bool
) -> None:
    """A custom tool is a function of one string to the model, and a tool of a namespace a function with a longer name."""
    inner = {"type": "function", "name": "spawn", "parameters": {"type": "object"}}
    tools = [
        {"type": "custom", "name": "apply_patch", "description": "Edits files."},
        {"type": "namespace", "name": "agents", "description": "", "tools": [inner]},
        {"type": "web_search"},
    ]
    calls = [
        {
            "index": 0,
            "id": "c1",
            "function": {"name": "apply_patch", "arguments": json.dumps({"input": "*** Begin\n"})},
        },
        {"index": 1, "id": "c2", "function": {"name": "agents__spawn", "arguments": "{}"}},
    ]
    upstream.script("last", chunk({"tool_calls": calls}) + finish("tool_calls"))
    body = {"model": "moa/trio", "input": "Edit.", "tools": tools, "stream": stream}
    async with http.post(f"{server.url}/responses", json=body) as response:
        text = await response.text()
    last = json.loads(text.split("data: ")[-1])["response"] if stream else json.loads(text)
    patch, spawn = last["output"]
    assert (patch["type"], patch["name"], patch["input"]) == ("custom_tool_call", "apply_patch", "*** Begin\n")
    assert (spawn["type"], spawn["namespace"], spawn["name"]) == ("function_call", "agents", "spawn")
    assert [tool["function"]["name"] for tool in sent(upstream)["tools"]] == ["apply_patch", "agents__spawn"]


async def test_a_schema_is_passed_on_and_parsed(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """``responses.parse`` gives the object of its class."""

    class City(BaseModel):
        name: str

    upstream.script("last", say('{"name": "Bern"}'))
    response = await client.responses.parse(model="moa/trio", input="A city?", text_format=City)
    assert response.output_parsed == City(name="Bern")
    assert sent(upstream)["response_format"]["json_schema"]["schema"]["properties"]["name"]["type"] == "string"


async def test_an_answer_that_hits_its_limit_is_incomplete(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """Its status says so, and why."""
    upstream.script("last", say("half an", reason="length"))
    response = await client.responses.create(model="moa/trio", input="Why?", max_output_tokens=5)
    assert response.status == "incomplete" and response.incomplete_details is not None
    assert (response.incomplete_details.reason, response.output_text) == ("max_output_tokens", "half an")


@pytest.mark.parametrize("reason", ["length", "stop"])
def test_a_call_that_was_cut_off_is_incomplete(reason: str) -> None:
    """In the item's own event, in the last event and in a whole answer: no client may run it."""
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}
    status = "incomplete" if reason == "length" else "completed"
    deltas = [Delta(tool_calls=(call,), finish_reason=reason)]
    assert streamed(deltas)["output"][0]["status"] == status
    assert json.loads(encoder().whole(ended(deltas)))["output"][0]["status"] == status


async def test_a_failure_before_the_first_word_has_a_status(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """The SDK raises the error of that status, for a stream too."""
    upstream.script("last", refuse(500, "on fire"))
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError, match="on fire"):
            await client.responses.create(model="moa/trio", input="Why?", stream=stream)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="moa/trio", input=[])
    assert caught.value.param == "input"


async def test_a_failure_in_the_middle_ends_the_stream(
    client: openai.AsyncOpenAI, upstream: Upstream, http: aiohttp.ClientSession, server: Served
) -> None:
    """The SDK raises, and the last event is ``response.failed`` with the error's code."""
    upstream.script("last", words("two words") + error_event("on fire"))
    with pytest.raises(openai.APIError, match="on fire"):
        async for _ in await client.responses.create(model="moa/trio", input="Why?", stream=True):
            pass
    body = {"model": "moa/trio", "input": "Why?", "stream": True}
    async with http.post(f"{server.url}/responses", json=body) as response:
        last = json.loads((await response.text()).split("data: ")[-1])
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert "on fire" in last["response"]["error"]["message"]


def test_a_history_of_every_kind_of_item() -> None:
    """Reasoning, texts and calls of one turn become one message; results keep their images; other items are passed over."""
    body = {
        "model": "moa/trio",
        "instructions": "Be brief.",
        "input": [
            {
                "role": "developer",
                "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
            },
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}],
            },
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
            {"type": "local_shell_call", "call_id": "c2", "id": "x", "action": {"type": "exec", "command": ["ls"]}},
            {
                "type": "function_call_output",
                "call_id": "c1",
                "output": [
                    {"type": "input_text", "text": "seen"},
                    {"type": "input_image", "image_url": "http://x/y.png"},
                ],
            },
            {"type": "local_shell_call_output", "call_id": "c2", "id": "x", "output": "files"},
            {"type": "function_call_output", "call_id": "lost", "output": "late"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "item_reference", "id": "msg_1"},
            {"type": "compaction", "encrypted_content": "…"},
            {"role": "user", "content": "And now?"},
        ],
    }
    messages = read_responses(body).request.messages
    assert [message["role"] for message in messages] == [
        *("system", "developer", "user", "assistant", "tool", "tool", "user", "user", "user")
    ]
    assert messages[1]["content"] == "a\n\nb"
    assert messages[2]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}
    ]
    assert messages[3]["content"] == "I look." and messages[3]["reasoning_content"] == "Hm."
    assert [call["function"]["name"] for call in messages[3]["tool_calls"]] == ["look", "local_shell"]
    assert (messages[4]["content"], messages[5]["content"]) == ("seen", "files")
    assert "late" in messages[6]["content"]
    assert messages[7]["content"][0]["image_url"]["url"] == "http://x/y.png"


def test_messages_of_chat_completions_among_the_items() -> None:
    """Their calls and results reach the model, as some clients send them."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    history = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "seen"},
    ]
    messages = read_responses({"model": "moa/trio", "input": history}).request.messages
    assert messages[1:] == [history[1], history[2]]


def test_a_vendors_reasoning_survives_a_tool_loop() -> None:
    """Its blocks with their signatures go through ``encrypted_content``, and come back in the message of the call."""
    blocks = [{"type": "thinking", "thinking": "Hm.", "signature": "abc"}]
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    response = streamed([Delta(reasoning="Hm.", extra={"thinking_blocks": blocks}), Delta(tool_calls=(call,))])
    history = [*response["output"], {"type": "function_call_output", "call_id": "c1", "output": "seen"}]
    message = read_responses({"model": "moa/trio", "input": history}).request.messages[0]
    assert message["thinking_blocks"] == blocks and message["tool_calls"][0]["id"] == "c1"


KINDS = (
    "message",
    "reasoning",
    "function_call",
    "custom_tool_call",
    "function_call_output",
    "item_reference",
    "x_call",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("type", "text", "image_url")), inner),
    max_leaves=5,
)
ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional=dict.fromkeys(("content", "call_id", "name", "arguments", "output", "summary", "action", "id"), JSON)
    | {"role": st.sampled_from(("user", "assistant", "system"))},
)


@settings(max_examples=50)
@given(st.lists(ITEMS, max_size=6))
def test_no_item_breaks_the_server(items: list[dict[str, Any]]) -> None:
    """Whatever an item holds, the request is read, or refused as a bad one."""
    try:
        request = read_responses({"model": "moa/trio", "input": [*items, {"role": "user", "content": "Why?"}]}).request
    except Refusal as refusal:
        assert refusal.status == 400
    else:
        assert request == Request.of(request.body)


PIECES = st.one_of(
    st.builds(Delta, text=st.text(min_size=1, max_size=4)),
    st.builds(Delta, reasoning=st.text(min_size=1, max_size=4)),
    st.builds(Delta, thought=st.integers(1, 3), text=st.just("")),
    st.builds(
        lambda index, text: Delta(tool_calls=({"index": index, "function": {"arguments": text}},)),
        st.integers(0, 2),
        st.text(max_size=4),
    ),
)


def heads(deltas: Sequence[Delta]) -> list[Delta]:
    """The pieces with an ID and a name in the first piece of each call, as the models' reader gives them."""
    seen, result = set[int](), list[Delta]()
    for delta in deltas:
        calls = list[Mapping[str, Any]]()
        for piece in delta.tool_calls:
            index = piece["index"]
            named = {"id": f"c{index}", "type": "function", "function": {**piece["function"], "name": f"f{index}"}}
            calls.append(piece if index in seen else {**piece, **named})
            seen.add(index)
        result.append(delta.replaced(tool_calls=tuple(calls)))
    return result


def encoder() -> ResponsesEncoder:
    made = ResponsesEncoder("moa/trio", {}, Tools())
    made.start("0" * 32)
    return made


def ended(deltas: Sequence[Delta]) -> list[Result]:
    return [Result(collected(deltas), {})]


def streamed(deltas: Sequence[Delta]) -> dict[str, Any]:
    """The response at the end of a stream of these pieces."""
    writer = encoder()
    frames = b"".join([*(writer.delta(delta, 0) for delta in deltas), writer.end(ended(deltas))])
    events = [json.loads(line[6:]) for line in frames.decode().split("\n") if line.startswith("data: ")]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    response: dict[str, Any] = events[-1]["response"]
    assert sorted(done, key=lambda item: response["output"].index(item)) == response["output"]
    return response


@settings(max_examples=50)
@given(st.lists(PIECES, max_size=12))
def test_a_stream_and_a_whole_answer_say_the_same(pieces: list[Delta]) -> None:
    """The text and each call's arguments are the same in a stream's finished items, its last event and a whole answer."""
    deltas = heads(pieces)
    answer = collected(deltas)
    response = Response.model_validate(
        {"tool_choice": "auto", "tools": [], "parallel_tool_calls": True, **streamed(deltas)}
    )
    whole = Response.model_validate(
        {"tool_choice": "auto", "tools": [], "parallel_tool_calls": True, **json.loads(encoder().whole(ended(deltas)))}
    )
    assert whole.output_text == answer.text
    if not any(delta.thought for delta in deltas):
        assert response.output_text == answer.text
    arguments = {call["id"]: call["function"]["arguments"] for call in answer.tool_calls}
    for each in (response, whole):
        written = dict[str, str]()
        for item in each.output:
            if item.type == "function_call":
                written[item.call_id] = written.get(item.call_id, "") + item.arguments
        assert written == arguments


def test_a_quiet_stream_says_that_the_response_is_in_progress() -> None:
    """Before the run has started it is a comment; then the stream opens; then ``response.in_progress`` comes again."""
    writer = ResponsesEncoder("moa/trio", {}, Tools())
    assert writer.keep_alive().startswith(b":")
    writer.start("0" * 32)
    assert writer.keep_alive().startswith(b"event: response.created")
    assert writer.keep_alive().startswith(b"event: response.in_progress")


def test_usage_counts_cached_and_reasoning_tokens() -> None:
    """They are in the details, as OpenAI has them."""
    result = Result(Answer(text="x"), {}, usage=Usage(10, 5, 4, 3))
    usage = json.loads(encoder().whole([result]))["usage"]
    assert usage["input_tokens_details"]["cached_tokens"] == 4
    assert usage["output_tokens_details"] == {"reasoning_tokens": 3}


async def test_a_body_of_responses_at_the_address_of_chat_is_answered_as_one(
    http: aiohttp.ClientSession, server: Served
) -> None:
    """Cursor sends some there."""
    async with http.post(f"{server.url}/chat/completions", json={"model": "moa/trio", "input": "Why?"}) as response:
        assert (await response.json())["object"] == "response"


async def test_a_response_continues_a_saved_one(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """The earlier conversation comes before the new input; the earlier instructions do not."""
    upstream.script("last", say("Bern."), say("It rains."))
    first = await client.responses.create(model="moa/trio", input="The capital?", instructions="Be brief.")
    await client.responses.create(
        model="moa/trio", input="And the weather?", instructions="Be kind.", previous_response_id=first.id
    )
    messages = sent(upstream)["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[0]["content"] == "Be kind." and messages[2]["content"] == "Bern."
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="moa/trio", input="And?", previous_response_id="resp_none")
    assert caught.value.param == "previous_response_id"


@pytest.mark.parametrize("by", ["previous_response_id", "item_reference"])
async def test_a_tool_loop_over_a_saved_response(client: openai.AsyncOpenAI, upstream: Upstream, by: str) -> None:
    """Its calls get their results, whether the client names the response or, as Vercel's AI SDK does, each of its items."""
    upstream.script("last", call_tool("weather", {"city": "Bern"}), say("It rains."))
    first = await client.responses.create(model="moa/trio", input=f"Rain? {by}", tools=[TOOL])  # type: ignore[list-item]
    call = first.output[-1]
    assert call.type == "function_call"
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    if by == "previous_response_id":
        await client.responses.create(model="moa/trio", input=[result], previous_response_id=first.id)
    else:
        user: Any = {"role": "user", "content": "Rain?"}
        references: list[Any] = [{"type": "item_reference", "id": item.id} for item in first.output]
        await client.responses.create(model="moa/trio", input=[user, *references, *references, result])
    _, assistant, answer = sent(upstream)["messages"]
    assert assistant["tool_calls"][0]["id"] == call.call_id
    assert answer == {"role": "tool", "tool_call_id": call.call_id, "content": "rain"}


async def test_a_reference_to_what_is_not_saved(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """One of this server's form is a gap that models see, and one of another server's is passed over."""
    history: list[Any] = [
        {"role": "user", "content": "Why?"},
        {"type": "item_reference", "id": f"msg_{'0' * 32}_1"},
        {"type": "item_reference", "id": "msg_68af"},
        {"role": "user", "content": "And now?"},
    ]
    await client.responses.create(model="moa/trio", input=history)
    assert [message["role"] for message in sent(upstream)["messages"]] == ["user", "assistant", "user"]
    assert "not saved" in sent(upstream)["messages"][1]["content"]


async def test_a_response_in_the_background_is_read_later(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """It is in progress at first; it can be read when it has ended, cancelled before, and deleted."""
    gate = asyncio.Event()
    upstream.script("last", until(gate) + say("at last"))
    started = await client.responses.create(model="moa/trio", input="Why?", background=True)
    assert started.status == "in_progress"
    assert (await client.responses.retrieve(started.id)).status == "in_progress"
    gate.set()
    read = await client.responses.retrieve(started.id)
    async with asyncio.timeout(PATIENCE):
        while read.status == "in_progress":
            read = await client.responses.retrieve(started.id)
    assert (read.status, read.output_text) == ("completed", "at last")
    await client.responses.delete(started.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(started.id)


async def test_a_response_in_the_background_is_cancelled(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """Its upstream calls end."""
    upstream.script("last", hang())
    started = await client.responses.create(model="moa/trio", input="Why?", background=True)
    await holds(lambda: bool(upstream.calls("last")))
    assert (await client.responses.cancel(started.id)).status == "cancelled"
    async with asyncio.timeout(PATIENCE):
        await upstream.calls("last")[-1].disconnected.wait()
