"""when = "tool" through the server: no API shows the private tool, and its calls are paid for, saved and cancelled."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import aiohttp
import openai
import pytest

from tests.fakes.run_client import call, record
from tests.fakes.serving import Served, asking, post, streamed
from tests.fakes.upstream import Script, Upstream, call_tool, chunk, done, finish, hang, say, usage, words
from tests.fakes.waiting import PATIENCE, holds
from tests.server.conftest import Serve

pytestmark = pytest.mark.anyio

MORE = """
[mixtures.thinker]
layers = [["up/a", "up/b"]]
aggregator = "up/last"
when = "tool"

[mixtures.outer]
layers = [["moa/thinker"]]
aggregator = "up/d"
"""

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
async def server(serve: Serve) -> Served:
    """A server with a mixture whose aggregator may ask its proposers."""
    return await serve(more=MORE)


def asks(question: str = "Is it?", before: str = "") -> Script:
    """A call of the private tool whose arguments are streamed in single characters, after some text."""
    function = {"name": "deliberate", "arguments": ""}
    script = words(before) if before else Script()
    script += chunk({"tool_calls": [{"index": 0, "id": "call_p", "type": "function", "function": function}]})
    for character in json.dumps({"question": question}):
        script += chunk({"tool_calls": [{"index": 0, "function": {"arguments": character}}]})
    return script + finish("tool_calls") + usage(100, 10) + done()


def called(upstream: Upstream) -> dict[str, int]:
    """How many times each model was called."""
    return dict(Counter(each.model for each in upstream.requests))


async def test_the_sdk_of_openai_gets_an_answer_that_shows_nothing_of_the_tool(
    server: Served, upstream: Upstream
) -> None:
    """Streamed and not; with the caller's tools; the usage is the answering call's, the costs are all calls'."""
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        upstream.script("last", asks(before="Hm."), say("It is."))
        plain: Any = await client.chat.completions.create(
            model="moa/thinker", messages=[{"role": "user", "content": "sdk, plain"}]
        )
        upstream.script("last", asks(before="Hm."), say("It is."))
        text, kinds = "", set[str]()
        stream = await client.chat.completions.create(
            model="moa/thinker", messages=[{"role": "user", "content": "sdk, streamed"}], stream=True
        )
        async for piece in stream:
            text += piece.choices[0].delta.content or ""
            kinds |= {name for name, value in piece.choices[0].delta.model_dump().items() if value}
            last: Any = piece
        assert plain.choices[0].message.content == text == "Hm.\n\nIt is."
        assert plain.choices[0].finish_reason == last.choices[0].finish_reason == "stop"
        assert plain.choices[0].message.tool_calls is None and kinds <= {"content", "role"}
        for moa in (plain.moa, last.moa):
            assert "deliberate" not in json.dumps(moa)
            assert [(each["agent"], len(each.get("attempts", ()))) for each in moa["calls"]] == [
                *(("last", 1), ("a", 0), ("b", 0)),
            ]
            assert moa["usage"]["prompt_tokens"] == 130 and moa["usage"]["completion_tokens"] == 25
        upstream.script("last", asks(), call_tool("look", {"at": "sky"}))
        offered: Any = [LOOK]
        tools: Any = await client.chat.completions.create(
            model="moa/thinker", messages=[{"role": "user", "content": "sdk, tools"}], tools=offered
        )
        [wanted] = tools.choices[0].message.tool_calls
        assert (wanted.function.name, tools.choices[0].finish_reason) == ("look", "tool_calls")
    assert called(upstream) == {"last": 6, "a": 3, "b": 3}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Why?"}]}),
        ("/v1/responses", {"input": "Why?"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 99}),
        ("/v1/completions", {"prompt": "Why?"}),
    ],
)
@pytest.mark.parametrize("model", ["moa/thinker", "moa/outer"])
async def test_no_api_shows_the_tool(
    http: aiohttp.ClientSession,
    server: Served,
    upstream: Upstream,
    path: str,
    body: dict[str, Any],
    model: str,
    stream: bool,
) -> None:
    """Neither the response nor the saved run has its name, in a nested mixture neither."""
    upstream.script("last", asks(before="Hm."), say("It is."))
    upstream.script("d", say("Hm. It is."))
    async with http.post(f"{server.origin}{path}", json={"model": model, "stream": stream, **body}) as response:
        raw = await response.text()
        assert response.status == 200, raw
        run = response.headers["x-moa-run"]
    assert "deliberate" not in raw
    kept = await record(http, server, run)
    assert "deliberate" not in json.dumps(kept) and kept["answer"]["tool_calls"] == []
    assert kept["answer"]["text"].endswith("It is.")
    assert called(upstream)["last"] == 2 and called(upstream)["a"] == 1


async def test_a_request_may_override_it(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """Both ways."""
    _, answer, _ = await post(http, server, asking("moa/thinker", moa={"when": "always"}))
    assert called(upstream) == {"a": 1, "b": 1, "last": 1}
    assert "tools" not in upstream.calls("last")[0].body and answer["moa"]["degraded"] == []
    await post(http, server, asking("moa/trio", moa={"when": "tool"}))
    assert called(upstream) == {"a": 1, "b": 1, "last": 2}
    upstream.script("b", say("proposal a"))
    _, answer, _ = await post(http, server, asking("moa/trio", moa={"when": "disagree"}))
    assert answer["choices"][0]["message"]["content"] == "proposal a"
    assert called(upstream) == {"a": 2, "b": 2, "last": 2}


async def test_choices_share_what_the_first_one_asked(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The first choice decides whether the proposers are called; the others are written from the same proposals."""
    upstream.script("last", asks(), say("It is."))
    _, answer, _ = await post(http, server, asking("moa/thinker", n=3))
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["It is."] * 3
    assert called(upstream) == {"last": 4, "a": 1, "b": 1}
    upstream.script("last", say("At once."))
    _, answer, _ = await post(http, server, asking("moa/thinker", text="easy", n=2))
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["At once."] * 2
    assert called(upstream) == {"last": 6, "a": 1, "b": 1}


async def test_fields_of_the_request_hold(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """Stop sequences reach every call of the aggregator; with a response format the proposers are called first."""
    upstream.script("last", asks(), say("It is."))
    await post(http, server, asking("moa/thinker", stop=["END"], temperature=0.3))
    assert [each.body["stop"] for each in upstream.calls("last")] == [["END"]] * 2
    upstream.script("last", say('{"is": true}'))
    body = asking("moa/thinker", response_format={"type": "json_object"})
    _, answer, _ = await post(http, server, body)
    assert answer["choices"][0]["message"]["content"] == '{"is": true}'
    assert called(upstream) == {"last": 3, "a": 2, "b": 2}


async def test_a_client_that_leaves_during_the_deliberation_stops_it(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Every upstream call is cancelled."""
    upstream.script("last", asks(before="Hm."), say("never"))
    upstream.script("a", hang())
    async with streamed(http, server, asking("moa/thinker")) as events:
        async for event in events:
            if event["choices"][0]["delta"].get("content"):
                break
        await holds(lambda: len(upstream.calls("a")) == 1)
    async with asyncio.timeout(PATIENCE):
        await upstream.calls("a")[0].disconnected.wait()
    assert called(upstream)["last"] == 1


async def test_a_stopped_run_continues_with_what_was_proposed(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The proposals that are paid for are read, and no tool is offered."""
    upstream.script("last", asks(), words("half") + hang(), say("At last."))
    _, begun = await call(http, "POST", server, "/runs", asking("moa/thinker"))
    await holds(lambda: len(upstream.calls("last")) == 2)
    await call(http, "POST", server, f"/runs/{begun['run']}/stop")
    _, second = await call(http, "POST", server, "/runs", {"continue": begun["run"]})
    await holds(lambda: len(upstream.calls("last")) == 3)
    assert called(upstream) == {"last": 3, "a": 1, "b": 1}
    assert "proposal a" in upstream.calls("last")[2].prompt and "tools" not in upstream.calls("last")[2].body
    await call(http, "DELETE", server, f"/runs/{second['run']}")
