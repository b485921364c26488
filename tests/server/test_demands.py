"""What a request demands beyond text: a tool call, images that are seen, log probabilities. An answer without one is an
error, or says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from tests.fakes.serving import Served, all_events, asking, post, said
from tests.fakes.upstream import Body, Script, Upstream, call_tool, chunk, done, finish, refuse, say, usage
from tests.server.conftest import Serve

pytestmark = pytest.mark.anyio

CONFIGURED = """
[models."up/plain"]
tools = false
images = false

[models."up/blind"]
images = false

[mixtures.toolless]
layers = [["up/a"]]
aggregator = "up/plain"

[mixtures.rescued]
layers = [["up/a"]]
aggregator = { model = "up/plain", fallbacks = ["up/last"] }

[mixtures.blind]
layers = [["up/blind", "up/plain"]]
aggregator = "up/plain"

[mixtures.unsuspecting]
layers = [["up/one", "up/two"]]
aggregator = "up/three"

[mixtures.picking]
layers = [["up/four", "up/five"]]
aggregate = "central"

[mixtures.sighted]
layers = [["up/a", "up/blind"]]
aggregator = "up/plain"
"""

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
OTHER = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
NAMED = {"type": "function", "function": {"name": "weather"}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
LOOK = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, PICTURE]}]


@pytest.fixture(scope="module")
async def server(serve: Serve) -> Served:
    return await serve(more=CONFIGURED)


@pytest.fixture(autouse=True)
def plain(upstream: Upstream, well: None) -> None:
    for name in ("plain", "blind"):
        upstream.script(name, say(f"words of {name}"))


def refusing_images(body: Body) -> Script:
    """As OpenAI's models without sight; https://community.openai.com/t/invalid-content-type-image-url/780512"""
    if "image_url" in json.dumps(body["messages"]):
        return refuse(400, "Invalid content type. image_url is only supported by certain models.")
    return say("I see nothing.")


# -- tools ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["up/plain", "moa/toolless"])
async def test_a_model_without_tools_answers_in_text_and_says_so(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, model: str
) -> None:
    """It gets no tools; the answer is degraded, for the caller offered some."""
    status, payload, _ = await post(http, server, asking(model, tools=[TOOL], tool_choice="auto"))
    assert (status, payload["choices"][0]["message"]["content"]) == (200, "words of plain")
    assert any("up/plain calls no tools" in line for line in payload["moa"]["degraded"])
    sent = upstream.calls("plain")[0].body
    assert not {"tools", "tool_choice"} & {*sent}


@pytest.mark.parametrize("choice", ["required", NAMED])
async def test_a_model_without_tools_cannot_be_told_to_call_one(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, choice: Any
) -> None:
    """It is a 400 before any model is called; a fallback that calls tools answers instead."""
    for model in ("up/plain", "moa/toolless"):
        status, payload, headers = await post(http, server, asking(model, tools=[TOOL], tool_choice=choice))
        assert (status, payload["error"]["code"], payload["error"]["param"]) == (
            400,
            "unsupported_value",
            "tool_choice",
        )
        assert headers["x-should-retry"] == "false"
    assert upstream.requests == []
    upstream.script("last", call_tool("weather", {}))
    status, payload, _ = await post(http, server, asking("moa/rescued", tools=[TOOL], tool_choice=choice))
    assert (status, payload["choices"][0]["finish_reason"]) == (200, "tool_calls")


DEMANDS = [
    "required",
    NAMED,
    {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}},
]


@pytest.mark.parametrize("choice", DEMANDS, ids=["required", "named", "allowed"])
async def test_an_answer_without_the_demanded_call_is_an_error(
    http: aiohttp.ClientSession, server: Served, choice: Any
) -> None:
    """Whole it is a 502 with a code of its own; a stream ends with the error, and without [DONE]."""
    body = asking("up/last", tools=[TOOL, OTHER], tool_choice=choice)
    status, payload, headers = await post(http, server, body)
    assert (status, payload["error"]["code"], payload["error"]["param"]) == (502, "tool_call_missing", "tool_choice")
    assert headers["x-should-retry"] == "false"
    events = await all_events(http, server, body)
    assert said([event for event in events if "choices" in event]) == "the whole answer"
    assert events[-1]["error"]["code"] == "tool_call_missing"


async def test_a_call_of_another_tool_is_not_the_demanded_one(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """A named tool must be called; with ``required`` any will do."""
    upstream.script("last", call_tool("time", {}))
    body = asking("up/last", tools=[TOOL, OTHER])
    status, payload, _ = await post(http, server, {**body, "tool_choice": NAMED})
    assert (status, payload["error"]["code"]) == (502, "tool_call_missing")
    status, payload, _ = await post(http, server, {**body, "tool_choice": "required"})
    assert status == 200 and payload["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "time"


async def test_a_fallback_gives_the_demanded_call(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """An aggregator that did not obey has failed, so the next one answers."""
    upstream.script("spare", call_tool("weather", {}))
    status, payload, _ = await post(http, server, asking("moa/safe", tools=[TOOL], tool_choice="required"))
    assert (status, payload["choices"][0]["finish_reason"]) == (200, "tool_calls")


@pytest.mark.parametrize(
    "ending", [finish("length"), finish("content_filter"), chunk({"refusal": "I cannot."}) + finish()]
)
async def test_a_cut_or_refused_answer_stays_what_it_is(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, ending: Script
) -> None:
    """As in OpenAI's API, an answer that the limit, a filter or the model itself ended needs no call."""
    upstream.script("last", chunk({"content": "Let me"}) + ending + usage() + done())
    status, _, _ = await post(http, server, asking("up/last", tools=[TOOL], tool_choice="required"))
    assert status == 200


@pytest.mark.parametrize("choice", ["auto", "none", None, {"type": "auto"}])
async def test_a_choice_that_demands_nothing_allows_text(
    http: aiohttp.ClientSession, server: Served, choice: Any
) -> None:
    """Text is an answer to tools on offer."""
    status, _, _ = await post(http, server, asking("up/last", tools=[TOOL], tool_choice=choice))
    assert status == 200


@pytest.mark.parametrize("fields", [{}, {"tools": []}, {"tools": [OTHER]}])
async def test_a_demand_for_a_tool_that_is_not_offered_is_refused(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, fields: Mapping[str, Any]
) -> None:
    """OpenAI refuses it, too; nothing is called."""
    status, payload, _ = await post(http, server, asking("up/last", tool_choice=NAMED, **fields))
    assert (status, payload["error"]["param"]) == (400, "tool_choice")
    assert upstream.requests == []


# -- images ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["up/plain", "moa/blind"])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_image_that_nobody_can_see_is_refused(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, model: str, stream: bool
) -> None:
    """It is a 400 that says so, and no model is called."""
    status, payload, headers = await post(http, server, {"model": model, "messages": LOOK, "stream": stream})
    assert (status, payload["error"]["code"], payload["error"]["param"]) == (400, "unsupported_value", "messages")
    assert "images" in payload["error"]["message"] and headers["x-should-retry"] == "false"
    assert upstream.requests == []


async def test_an_image_of_an_earlier_turn_stops_no_conversation(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """A model that does not see may go on with the words that another has written about it."""
    more = [{"role": "assistant", "content": "A bird."}, {"role": "user", "content": "Which kind?"}]
    status, payload, _ = await post(http, server, {"model": "up/plain", "messages": [*LOOK, *more]})
    assert status == 200 and payload["moa"]["degraded"]


async def test_an_image_that_some_can_see_is_answered(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The proposer that sees gets the image; the others read that there is one, and the answer is degraded."""
    status, payload, _ = await post(http, server, {"model": "moa/sighted", "messages": LOOK})
    assert status == 200
    assert any("does not see the image" in line for line in payload["moa"]["degraded"])
    assert "image_url" in json.dumps(upstream.calls("a")[0].body)
    assert "image_url" not in json.dumps(upstream.calls("plain")[0].body)


async def test_a_single_model_that_turns_out_blind_is_a_400(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Its server refuses the image; an answer that has not seen it is none. The second time nothing is called."""
    upstream.script("unsuspected", refusing_images)
    for _ in range(2):
        status, payload, _ = await post(http, server, {"model": "up/unsuspected", "messages": LOOK})
        assert (status, payload["error"]["code"]) == (400, "unsupported_value")
    assert len(upstream.requests) == 2
    status, _, _ = await post(http, server, asking("up/unsuspected"))
    assert status == 200


@pytest.mark.parametrize("model", ["moa/unsuspecting", "moa/picking"])
async def test_a_mixture_that_turns_out_blind_is_a_400(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, model: str
) -> None:
    """Every server refuses the image: neither an aggregator nor the choice of a proposal makes that an answer."""
    for name in ("one", "two", "three", "four", "five"):
        upstream.script(name, refusing_images)
    status, payload, _ = await post(http, server, {"model": model, "messages": LOOK})
    assert (status, payload["error"]["code"]) == (400, "unsupported_value")


# -- log probabilities ----------------------------------------------------------------------------------------------------


async def test_logprobs_that_are_missing_are_reported(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """A proposal as the answer, and a model that ignores the field, have none; where they come, nothing is degraded."""
    tokens = {"content": [{"token": "A", "logprob": -0.1, "bytes": [65], "top_logprobs": []}]}
    upstream.script("y", chunk({"content": "A"}, logprobs=tokens) + finish() + usage() + done())
    for model, why in (("moa/central", "it is a proposal"), ("up/last", "its model gave none"), ("up/y", None)):
        status, payload, _ = await post(http, server, asking(model, logprobs=True))
        degraded = [line for line in payload["moa"]["degraded"] if "logprobs" in line]
        assert status == 200
        assert (payload["choices"][0]["logprobs"] is None) == bool(degraded) == (why is not None)
        assert all(why and why in line for line in degraded)
