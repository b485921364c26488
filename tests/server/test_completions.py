"""The server as clients use it: the official SDK, curl and JavaScript, against a real process on a real socket."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from pydantic import BaseModel

from tests.fakes.run_client import open_sockets
from tests.fakes.serving import Served, all_events, asking, post, said, streamed
from tests.fakes.upstream import (
    Script,
    Upstream,
    call_tool,
    chunk,
    data,
    done,
    finish,
    refuse,
    say,
    sequence,
    step,
    think,
    thoughts,
    until,
    usage,
    words,
)
from tests.fakes.waiting import PATIENCE
from tests.server.conftest import Serve

if TYPE_CHECKING:
    from openai import AsyncOpenAI

pytestmark = pytest.mark.anyio

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
async def client(server: Served) -> AsyncIterator[AsyncOpenAI]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


# -- the official SDK ---------------------------------------------------------------------------------------------------


async def test_the_sdk_lists_mixtures_and_single_models(client: AsyncOpenAI) -> None:
    """The list has the mixtures that can be called, all of it every mixture and its members; each has a row by its name."""
    import openai

    listed = [model.id async for model in client.models.list()]
    assert "moa/trio" in listed and not {"moa/paper", "moa/keyless"} & {*listed}
    assert all(name.startswith("moa/") for name in listed)
    models = {model.id: model async for model in client.models.list(extra_query={"all": "true"})}
    assert {"moa/trio", "moa/auto", "moa/paper", "up/a", "up/last"} <= set(models)
    assert not any("/moa/" in name or name.startswith("openai/") for name in models)
    one = await client.models.retrieve("moa/trio")
    assert (one.id, one.object, one.owned_by) == ("moa/trio", "model", models["up/a"].owned_by)
    for name, full in {
        "up/a": "up/a",
        "trio": "moa/trio",
        "moa/keyless": "moa/keyless",
        "up/unlisted": "up/unlisted",
    }.items():
        assert (await client.models.retrieve(name)).id == full
    keyless = (models["moa/keyless"].model_extra or {})["moa"]
    assert keyless["available"] is False
    assert "OPENAI_API_KEY" in keyless["why_not"]
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("moa/nothing")
    assert caught.value.code == "model_not_found"
    assert "GET /v1/models?all=true" in caught.value.message


async def test_a_configuration_can_have_everything_listed(serve: Serve, http: aiohttp.ClientSession) -> None:
    """With ``list = "all"`` the plain list holds single models and what lacks a key, too."""
    server = await serve(first='list = "all"\n')
    async with http.get(f"{server.url}/models") as response:
        names = {row["id"] for row in (await response.json())["data"]}
    assert {"moa/trio", "moa/keyless", "up/a"} <= names


async def test_the_sdk_gets_a_whole_answer(client: AsyncOpenAI, upstream: Upstream) -> None:
    """It has text, finish reason, the usage of the answering call, and the model's name from the request."""
    answer = await client.chat.completions.create(model="moa/trio", messages=[{"role": "user", "content": "Why?"}])
    assert answer.choices[0].message.content == "the whole answer"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.object, answer.model) == ("chat.completion", "moa/trio")
    assert answer.id.startswith("chatcmpl-")
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (10, 5, 15)
    assert len(upstream.requests) == 4


async def test_the_sdk_streams(client: AsyncOpenAI, upstream: Upstream) -> None:
    """Words arrive in order and the usage last, in the SDK's own types."""
    stream = await client.chat.completions.create(
        model="moa/trio",
        messages=[{"role": "user", "content": "Why?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    contents = [chunk.choices[0].delta.content for chunk in chunks[:-1]]
    assert (contents[0], contents[-1]) == ("", None)
    assert "".join(text or "" for text in contents) == "the whole answer"
    assert chunks[-1].usage and chunks[-1].usage.total_tokens == 15


async def test_the_synchronous_sdk_works_too(server: Served) -> None:
    """It lists models, gets a whole answer, and streams one."""
    from openai import OpenAI

    def use() -> tuple[list[str], str | None, str]:
        with OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
            names = [model.id for model in client.models.list()]
            messages: Any = [{"role": "user", "content": "Why?"}]
            whole = client.chat.completions.create(model="moa/trio", messages=messages)
            with client.chat.completions.create(model="moa/trio", messages=messages, stream=True) as stream:
                text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            return names, whole.choices[0].message.content, text

    names, whole, text = await asyncio.to_thread(use)
    assert "moa/trio" in names
    assert whole == text == "the whole answer"


async def test_a_single_model_answers_under_its_own_name(client: AsyncOpenAI, upstream: Upstream) -> None:
    """It makes one call without proposers, also if it is a model of a configured endpoint that no mixture names."""
    upstream.script("lonely", say("alone"))
    for name, text in (("up/a", "proposal a"), ("up/lonely", "alone")):
        answer = await client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Why?"}])
        assert answer.choices[0].message.content == text
    assert [call.model for call in upstream.requests] == ["a", "lonely"]


async def test_a_tool_loop_of_two_steps_calls_proposers_once(client: AsyncOpenAI, upstream: Upstream) -> None:
    """The SDK makes two requests and reads the answer; the upstream's prompt only grows from step to step, byte for byte."""
    upstream.script(
        "last",
        call_tool("weather", {"city": "Oslo"}, "call_1"),
        call_tool("weather", {"city": "Rome"}, "call_2"),
        say("Oslo is cold, Rome is warm."),
    )
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Compare Oslo and Rome."},
    ]
    steps = 0
    while True:
        answer = await client.chat.completions.create(model="moa/trio", messages=messages, tools=[WEATHER])
        message = answer.choices[0].message
        if answer.choices[0].finish_reason != "tool_calls":
            break
        steps += 1
        assert message.content is None
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or ():
            assert call.type == "function"
            result = {"Oslo": "-5", "Rome": "24"}[json.loads(call.function.arguments)["city"]]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert steps == 2
    assert message.content == "Oslo is cold, Rome is warm."
    assert [len(upstream.calls(name)) for name in ("a", "b", "c", "last")] == [1, 1, 1, 3]
    prompts = [json.dumps(call.body["messages"]) for call in upstream.calls("last")]
    for before, after in pairwise(prompts):
        assert after.startswith(before.removesuffix("]"))
    assert all(call.body["tools"] == [WEATHER] for call in upstream.calls("last"))
    for name in "abc":
        request = upstream.calls(name)[0].body
        assert "tools" not in request
        assert "weather(city): The weather of a city." in request["messages"][0]["content"]


async def test_tool_calls_stream_in_the_order_received(client: AsyncOpenAI, upstream: Upstream) -> None:
    """The name and the ID come first, then the arguments in pieces, then the finish reason."""
    upstream.script("last", call_tool("weather", {"city": "Oslo"}))
    stream = await client.chat.completions.create(
        model="moa/trio", messages=[{"role": "user", "content": "Oslo?"}], tools=[WEATHER], stream=True
    )
    choices = [chunk.choices[0] async for chunk in stream]
    assert choices[0].delta.role == "assistant"
    pieces = [piece for choice in choices for piece in choice.delta.tool_calls or ()]
    assert pieces[0].id == "call_1" and pieces[0].function and pieces[0].function.name == "weather"
    written = "".join((piece.function and piece.function.arguments) or "" for piece in pieces)
    assert json.loads(written) == {"city": "Oslo"}
    assert choices[-1].finish_reason == "tool_calls"


async def test_a_mixture_can_call_its_proposers_at_every_step(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """With fanout = "every" the proposers receive tool results, too."""
    loop = [
        {"role": "user", "content": "Oslo?"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "-5"},
    ]
    for messages in (loop[:1], loop):
        status, _, _ = await post(http, server, {**asking("moa/every"), "messages": messages})
        assert status == 200
    assert len(upstream.calls("a")) == len(upstream.calls("b")) == 2


async def test_a_json_schema_reaches_the_aggregator_alone(client: AsyncOpenAI, upstream: Upstream) -> None:
    """The SDK's parse() returns an object; proposers may answer in any form."""

    class Verdict(BaseModel):
        city: str
        degrees: int

    upstream.script("last", say('{"city": "Oslo", "degrees": -5}'))
    answer = await client.chat.completions.parse(
        model="moa/trio", messages=[{"role": "user", "content": "Oslo?"}], response_format=Verdict
    )
    assert answer.choices[0].message.parsed == Verdict(city="Oslo", degrees=-5)
    assert upstream.calls("last")[0].body["response_format"]["json_schema"]["name"] == "Verdict"
    assert "response_format" not in upstream.calls("a")[0].body


async def test_images_reach_every_agent(client: AsyncOpenAI, upstream: Upstream) -> None:
    """A message of parts keeps its parts; references are added as one more part."""
    url = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    parts: Any = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    await client.chat.completions.create(model="moa/trio", messages=[{"role": "user", "content": parts}])
    assert upstream.calls("a")[0].body["messages"][-1]["content"] == parts
    assert upstream.calls("last")[0].body["messages"][-1]["content"][:2] == parts


async def test_a_history_of_fifty_turns_arrives_whole(client: AsyncOpenAI, upstream: Upstream) -> None:
    """Proposers and the aggregator receive every message in order; only the last message is followed by references."""
    history: list[Any] = [
        {"role": role, "content": f"{role} {turn}"} for turn in range(50) for role in ("user", "assistant")
    ]
    messages = [*history, {"role": "user", "content": "And now?"}]
    await client.chat.completions.create(model="moa/trio", messages=messages)
    assert upstream.calls("b")[0].body["messages"] == messages
    sent = upstream.calls("last")[0].body["messages"]
    assert sent[:-1] == history
    assert sent[-1]["content"].startswith("And now?\n\n")


async def test_the_sdk_raises_the_same_exceptions_as_for_openai(client: AsyncOpenAI, upstream: Upstream) -> None:
    """Each status becomes the SDK's own exception, with message, type, param and code."""
    import openai

    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="moa/trios", messages=[{"role": "user", "content": "?"}])
    assert (missing.value.param, missing.value.code) == ("model", "model_not_found")
    assert "moa/trio" in missing.value.message or "'trio'" in missing.value.message
    with pytest.raises(openai.BadRequestError) as wrong:
        await client.chat.completions.create(
            model="moa/trio", messages=[{"role": "user", "content": "?"}], temperature=3
        )
    assert (wrong.value.param, wrong.value.type) == ("temperature", "invalid_request_error")
    upstream.script("last", refuse(429, "slow down", retry_after=1))
    with pytest.raises(openai.RateLimitError) as limited:
        await client.chat.completions.create(model="moa/trio", messages=[{"role": "user", "content": "?"}])
    assert limited.value.response.headers["retry-after"] == "1"


# -- the wire -----------------------------------------------------------------------------------------------------------


async def test_the_order_of_chunks_is_openais(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """The role comes alone, then words, then the finish reason in an empty delta with the moa object, then [DONE]."""
    received = await all_events(http, server, asking())
    assert received[-1] == "[DONE]"
    choices = [event["choices"][0] for event in received[:-1]]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert {*map(tuple, (choice["delta"] for choice in choices[1:-1]))} == {("content",)}
    assert said(received[:-1]) == "the whole answer"  # words that the server read at once are passed on together
    assert choices[-1]["delta"] == {}
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert {event["object"] for event in received[:-1]} == {"chat.completion.chunk"}
    assert len({(event["id"], event["created"], event["model"]) for event in received[:-1]}) == 1
    assert not any("usage" in event for event in received[:-1])
    assert ["moa" in event for event in received[:-1]] == [False] * (len(received) - 2) + [True]


async def test_a_stream_has_usage_on_request(http: aiohttp.ClientSession, server: Served) -> None:
    """It is null in every chunk, until one chunk without choices has the usage and the moa object."""
    received = await all_events(http, server, asking(stream_options={"include_usage": True}))
    assert all(event["usage"] is None for event in received[:-2])
    assert received[-2]["choices"] == []
    assert received[-2]["usage"]["total_tokens"] == 15
    assert received[-2]["moa"]["usage"]["total_tokens"] == 60
    assert received[-2]["moa"]["run"] == received[-2]["id"].removeprefix("chatcmpl-")


async def test_words_arrive_while_they_are_written(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The client receives the first word before the upstream sends the last."""
    resume = asyncio.Event()

    async def wait(call: Any) -> None:
        await asyncio.wait_for(resume.wait(), PATIENCE)

    upstream.script("last", words("first ") + step(wait) + words("second") + finish() + done())
    async with streamed(http, server, asking()) as received:
        async for event in received:
            if event != "[DONE]" and event["choices"][0]["delta"].get("content"):
                resume.set()
    assert resume.is_set()


async def test_request_fields_reach_the_agents_that_they_concern(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The aggregator receives all; proposers receive the sampling alone, and their own overrides it."""
    shared: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.8,
        "presence_penalty": 0.1,
    }
    alone: dict[str, Any] = {
        "stop": ["END"],
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {"type": "json_object"},
        "tools": [WEATHER],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "user": "u1",
        "x_vendor": {"deep": [1]},
    }
    status, _, _ = await post(http, server, asking("moa/own", max_completion_tokens=77, seed=5, **shared, **alone))
    assert status == 200
    last, a, b = (upstream.calls(name)[0].body for name in ("last", "a", "b"))
    sent = {**shared, **alone, "max_completion_tokens": 77, "seed": 5}
    assert {key: last[key] for key in sent} == sent
    assert {key: b[key] for key in shared} == shared
    assert (b["max_completion_tokens"], b["seed"]) == (77, 5)
    assert (a["temperature"], a["max_tokens"], a["top_p"]) == (0.9, 50, 0.8)
    assert "max_completion_tokens" not in a
    for body in (a, b):
        assert not set(alone) & set(body)
    for body in (last, a, b):
        assert not {"moa", "n"} & set(body)


async def test_n_runs_the_aggregator_n_times_on_one_set_of_proposals(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Three choices take three aggregations and call each proposer once; moa counts all of it, usage the prompt once."""
    upstream.script("last", say("one"), say("two"), say("three"))
    _, whole, _ = await post(http, server, asking(n=3))
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert sorted(choice["message"]["content"] for choice in whole["choices"]) == ["one", "three", "two"]
    assert [len(upstream.calls(name)) for name in ("a", "b", "c", "last")] == [1, 1, 1, 3]
    assert (whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"]) == (10, 3 * 5)
    assert whole["moa"]["usage"]["total_tokens"] == 6 * 15
    assert len(whole["moa"]["calls"]) == 6
    upstream.script("last", say("one"), say("two"), say("three"))
    received = await all_events(http, server, asking(n=3))
    assert sorted(said(received, index=index) for index in range(3)) == ["one", "three", "two"]
    for index in range(3):
        mine = [e["choices"][0] for e in received[:-1] if e["choices"] and e["choices"][0]["index"] == index]
        assert mine[0]["delta"]["role"] == "assistant"
        assert mine[-1]["finish_reason"] == "stop"


async def test_logprobs_come_back(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """They arrive in pieces in a stream, and joined otherwise."""
    tokens: list[Any] = [{"content": [{"token": word, "logprob": -0.1, "top_logprobs": []}]} for word in ("a", "b")]
    pieces = [chunk({"content": each["content"][0]["token"]}, logprobs=each) for each in tokens]
    upstream.script("last", pieces[0] + pieces[1] + finish() + usage() + done())
    _, whole, _ = await post(http, server, asking(logprobs=True))
    assert [each["token"] for each in whole["choices"][0]["logprobs"]["content"]] == ["a", "b"]
    received = await all_events(http, server, asking(logprobs=True))
    streamed = [event["choices"][0]["logprobs"] for event in received[1:3]]
    assert [each["content"][0]["token"] for each in streamed] == ["a", "b"]


async def test_a_function_call_in_pieces_is_one_in_the_message(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The arguments of a legacy ``function_call`` are joined for an answer in one piece."""
    pieces = chunk({"function_call": {"name": "f", "arguments": '{"q": '}}) + chunk(
        {"function_call": {"arguments": "1}"}}
    )
    upstream.script("last", pieces + finish("function_call") + done())
    _, whole, _ = await post(http, server, asking())
    [choice] = whole["choices"]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"q": 1}'}
    assert choice["finish_reason"] == "function_call"


async def test_a_refusal_is_a_field_of_the_message(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Fields that an upstream sends in the message beside its text are in the message here, too, not in the choice."""
    upstream.script("last", words("I ") + chunk({"refusal": "will "}) + chunk({"refusal": "not"}) + finish() + done())
    _, whole, _ = await post(http, server, asking())
    assert whole["choices"][0]["message"]["refusal"] == "will not"
    assert "refusal" not in whole["choices"][0]
    assert said(await all_events(http, server, asking()), "refusal") == "will not"


async def test_reasoning_is_apart_from_the_answer(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The aggregator's reasoning arrives as reasoning_content."""
    upstream.script("last", think("hm hm", "Four."))
    _, whole, _ = await post(http, server, asking())
    assert whole["choices"][0]["message"]["reasoning_content"] == "hm hm"
    assert whole["choices"][0]["message"]["content"] == "Four."


async def test_lone_surrogates_pass_through(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """Servers that cut strings anywhere send the halves of a pair apart; both arrive and are one character again."""
    upstream.script("last", chunk({"content": "\ud83d"}) + chunk({"content": "\ude00"}) + finish() + done())
    _, whole, _ = await post(http, server, asking(text="half \ud83d"))
    assert whole["choices"][0]["message"]["content"] == "😀"
    received = await all_events(http, server, asking())
    assert said(received).encode("utf-16", "surrogatepass").decode("utf-16") == "😀"


# -- progress -----------------------------------------------------------------------------------------------------------


async def test_progress_shows_proposals_one_after_another(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The first agent with text is shown live, the others in turn, layer by layer; the answer itself does not change."""
    shown = asyncio.Event()
    upstream.script("a", until(shown) + say("slow words of a"))
    upstream.script("b", words("first ") + until(shown) + words("words of b") + finish() + usage() + done())
    upstream.script("c", until(shown) + refuse(500, "out of order"))
    received: list[Any] = []
    async with streamed(http, server, asking("moa/shown")) as stream:
        async for event in stream:
            received.append(event)
            if "first" in said(received, "reasoning_content"):
                shown.set()
    seen = said(received, "reasoning_content")
    assert [seen.index(mark) for mark in MARKS] == sorted(seen.index(mark) for mark in MARKS)
    assert "**b** · layer 1\n\nfirst words of b\n\n**" in seen
    assert "slow words of a" in seen
    assert "*failed: up/c: 500" in seen and "out of order" in seen
    assert seen.endswith("**d** · layer 2\n\nproposal d\n\n")
    assert said(received) == "the whole answer"
    kinds = ["".join(event["choices"][0]["delta"]) for event in received[:-1]]
    assert kinds[0] == "rolecontent"
    assert kinds.index("content") > max(i for i, kind in enumerate(kinds) if kind == "reasoning_content")


MARKS = ("**b** · layer 1", "**a** · layer 1", "**d** · layer 2")


async def test_a_request_decides_about_progress(http: aiohttp.ClientSession, server: Served) -> None:
    """ "moa": {"progress": …} overrides the mixture's setting; without either, no proposal is shown."""
    chunks = await all_events(http, server, asking("moa/trio", moa={"progress": True}))
    assert "proposal a" in said(chunks, "reasoning_content")
    plain = await all_events(http, server, asking("moa/trio"))
    assert said(plain, "reasoning_content") == ""
    off = await all_events(http, server, asking("moa/shown", moa={"progress": False}))
    assert said(off, "reasoning_content") == ""


async def test_progress_arrives_before_the_answer_can(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The first visible token arrives while proposers still write."""
    seen = asyncio.Event()

    async def wait(call: Any) -> None:
        await asyncio.wait_for(seen.wait(), PATIENCE)

    upstream.script("a", words("early ") + step(wait) + words("late") + finish() + done())
    async with streamed(http, server, asking("moa/shown")) as received:
        async for event in received:
            if event != "[DONE]" and "early" in event["choices"][0]["delta"].get("reasoning_content", ""):
                seen.set()
    assert seen.is_set()


# -- costs --------------------------------------------------------------------------------------------------------------


async def test_the_moa_object_accounts_for_every_call(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Each call has its agent, layer, role, model, tokens, cached tokens, cost and times; they sum to the run's."""
    cached = {"prompt_tokens_details": {"cached_tokens": 60}}
    upstream.script("c", words("c") + finish() + usage(100, 10, **cached) + done())
    status, whole, headers = await post(http, server, asking())
    assert status == 200
    payload = whole["moa"]
    assert headers["x-moa-run"] == payload["run"] == whole["id"].removeprefix("chatcmpl-")
    assert [(call["agent"], call["layer"], call["role"], call["model"]) for call in payload["calls"]] == [
        ("a", 1, "proposer", "up/a"),
        ("b", 1, "proposer", "up/b"),
        ("c", 1, "proposer", "up/c"),
        ("last", 2, "aggregator", "up/last"),
    ]
    assert [call["cost"] for call in payload["calls"]] == pytest.approx(
        [15e-6, 30e-6, (40 * 3 + 60 + 30) * 1e-6, 150e-6]
    )
    assert payload["cost"] == pytest.approx(405e-6)
    assert payload["cost_is_at_least"] is False
    assert [call["cached_tokens"] for call in payload["calls"]] == [0, 0, 60, 0]
    assert payload["usage"]["prompt_tokens"] == sum(call["input_tokens"] for call in payload["calls"]) == 130
    assert payload["usage"]["prompt_tokens_details"]["cached_tokens"] == 60
    assert [call.get("answers") for call in payload["calls"]] == [None, None, None, True]
    assert (whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"]) == (10, 5)
    assert whole["usage"]["cost"] == payload["cost"]
    assert payload["degraded"] == []
    for call in payload["calls"]:
        assert 0 <= call["time_to_first_token"] <= call["duration"] <= payload["duration"]
    assert payload["time_to_first_token"] <= payload["duration"]


async def test_an_unknown_price_is_null(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """It is never 0: null where no price is known, and "at least" where some are."""
    _, whole, _ = await post(http, server, asking("moa/unpriced"))
    assert whole["moa"]["cost"] is None
    assert [call["cost"] for call in whole["moa"]["calls"]] == [None, None]
    upstream.script("last", refuse(500))
    _, whole, _ = await post(http, server, asking("moa/safe"))
    assert whole["moa"]["cost"] >= 15e-6
    assert whole["moa"]["cost_is_at_least"] is True


async def test_degraded_gives_the_reasons(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """A dropped proposer and a fallback's answer are reported with their reasons, streamed or not."""
    upstream.script("b", refuse(500, "on fire"))
    _, whole, _ = await post(http, server, asking())
    assert len(whole["moa"]["degraded"]) == 1
    assert "b (layer 1)" in whole["moa"]["degraded"][0] and "on fire" in whole["moa"]["degraded"][0]
    assert "on fire" in next(call["dropped"] for call in whole["moa"]["calls"] if call["agent"] == "b")
    upstream.script("last", refuse(500, "also on fire"))
    received = await all_events(http, server, asking("moa/safe"))
    assert said(received) == "words of spare"
    assert "also on fire" in str(received[-2]["moa"]["degraded"])


async def test_a_selected_proposal_streams_word_by_word(http: aiohttp.ClientSession, server: Served) -> None:
    """Without an aggregator that writes, the selected proposal arrives in the same chunks, with a finish reason."""
    received = await all_events(http, server, asking("moa/central"))
    assert said(received).startswith("proposal ")
    assert received[-2]["choices"][0]["finish_reason"] == "stop"


# -- other clients ------------------------------------------------------------------------------------------------------

SCRIPT = """
const [url, body] = process.argv.slice(1)
const response = await fetch(url + '/chat/completions',
  { method: 'POST', headers: { 'content-type': 'application/json' }, body })
const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
let rest = '', answer = '', thought = '', done = false, packets = 0
for (;;) {
  const { value, done: ended } = await reader.read()
  if (ended) break
  packets++
  const lines = (rest + value).split('\\n')
  rest = lines.pop()
  for (const line of lines) {
    if (!line.startsWith('data: ')) continue
    if (line === 'data: [DONE]') { done = true; continue }
    const delta = JSON.parse(line.slice(6)).choices[0]?.delta ?? {}
    answer += delta.content ?? ''
    thought += delta.reasoning_content ?? ''
  }
}
const run = response.headers.get('x-moa-run')
console.log(JSON.stringify({ status: response.status, run, answer, thought, done, packets }))
"""


async def program(*args: str) -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*args, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on this machine")
async def test_plain_javascript_reads_the_stream(server: Served, upstream: Upstream) -> None:
    """fetch and a reader loop, without a library, receive words outside ASCII, progress and [DONE]."""
    upstream.script("last", say("Größe 你好 😀"))
    out = await program(
        "node", "--input-type=module", "-e", SCRIPT, server.url, json.dumps(asking("moa/shown", stream=True))
    )
    payload = json.loads(out)
    assert (payload["status"], payload["answer"], payload["done"]) == (200, "Größe 你好 😀", True)
    assert "**d** · layer 2" in payload["thought"]
    assert len(payload["run"]) == 32


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
async def test_curl_gets_streams_and_whole_answers(server: Served) -> None:
    """The documented commands work, with only a body."""
    body = json.dumps(asking(stream=True))
    out = await program(
        *("curl", "-sN", f"{server.url}/chat/completions", "-H", "content-type: application/json", "-d", body)
    )
    assert out.endswith("data: [DONE]\n\n")
    assert (
        "the whole answer"
        in json.loads(await program("curl", "-s", f"{server.url}/chat/completions", "-d", json.dumps(asking())))[
            "choices"
        ][0]["message"]["content"]
    )
    assert "moa/trio" in await program("curl", "-s", f"{server.url}/models")


# -- many concurrent runs -----------------------------------------------------------------------------------------------


async def test_two_hundred_concurrent_runs_do_not_mix(server: Served, upstream: Upstream) -> None:
    """Each answer carries its own marker through its proposals and its aggregate, streamed or not."""

    def own_words(body: Any) -> Any:
        return say(" ".join(word for word in str(body["messages"][-1]["content"]).split() if word.startswith("user-")))

    for name in ("a", "b", "c", "last"):
        upstream.script(name, own_words)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def one(number: int) -> str:
            body = asking(text=f"I am user-{number} .")
            if number % 2:
                return said(await all_events(http, server, body))
            return str((await post(http, server, body))[1]["choices"][0]["message"]["content"])

        answers = await asyncio.gather(*(one(number) for number in range(200)))
    assert answers == [" ".join([f"user-{number}"] * 4) for number in range(200)]
    assert len(upstream.requests) == 800


async def test_many_runs_share_a_few_connections(http: aiohttp.ClientSession, server: Served) -> None:
    """All runs share one pooled client: after the first run, no further sockets stay open."""

    await post(http, server, asking())
    before = open_sockets(server)
    for _ in range(10):
        await post(http, server, asking())
    assert len(open_sockets(server) - before) <= 4


async def test_reasoning_of_proposers_stays_hidden(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """A proposer's reasoning is neither shown nor a reference."""
    upstream.script("a", thoughts("secret") + words("open") + finish() + usage() + done())
    received = await all_events(http, server, asking("moa/shown"))
    assert "secret" not in json.dumps(received)
    assert "secret" not in upstream.calls("d")[0].prompt


async def test_the_answering_models_tier_and_fingerprint_pass_through(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """They are fields of the whole answer, and of every chunk from the first words on; those of proposers are not."""

    def built(tier: str) -> Script:
        one = {"service_tier": tier, "system_fingerprint": f"fp_{tier}"}
        choices = [{"index": 0, "delta": {"content": "So."}, "finish_reason": None}]
        return sequence([data(json.dumps({**one, "choices": choices}))] * 2) + finish() + done()

    upstream.script("last", built("flex"))
    upstream.script("a", built("priority"))
    _, body, _ = await post(http, server, asking())
    assert (body["service_tier"], body["system_fingerprint"]) == ("flex", "fp_flex")
    assert not {"service_tier", "system_fingerprint"} & (body["choices"][0] | body["choices"][0]["message"]).keys()
    chunks = await all_events(http, server, asking("moa/shown", stream_options={"include_usage": True}))
    spoken = [chunk for chunk in chunks if "So." in json.dumps(chunk)]
    after = chunks[chunks.index(spoken[-1]) : -1]
    assert len(after) >= 3 and {chunk.get("system_fingerprint") for chunk in after} == {"fp_flex"}
    assert "service_tier" not in json.dumps([chunk["choices"] for chunk in chunks[:-1]])
    assert "fp_priority" not in json.dumps(chunks)
