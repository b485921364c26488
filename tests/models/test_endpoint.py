"""The requests of an endpoint, its connections and its list of models."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable

import pytest

from moa.errors import (
    CallRejected,
    KeyRejected,
    ModelError,
    UpstreamFailed,
)
from moa.messages import Request, Usage, collected
from moa.models.endpoint import Endpoint
from tests.fakes.upstream import (
    Script,
    Upstream,
    hang,
    head,
    pause,
    refuse,
    say,
    whole,
    without_stream_options,
    words,
)
from tests.models.endpoints import KEY, QUESTION, answer, failure, soon

pytestmark = pytest.mark.anyio


# Requests


async def test_the_body_is_sent_complete(upstream: Upstream, endpoint: Endpoint) -> None:
    """Every field is sent unchanged, except the few that the endpoint sets; the request is not changed."""
    upstream.script("m", say("Four."))
    body = {
        "model": "moa/wise",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "é"}], "name": "x"}],
        "temperature": 0.5,
        "n": 3,
        "stream": False,
        "stream_options": {"include_usage": False, "chunk_size": 7},
        "vendors_own": {"deep": [1, None]},
    }
    before = json.dumps(body)
    await answer(endpoint, request=Request(body))
    assert upstream.requests[0].body == {
        "model": "m",
        "messages": body["messages"],
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True, "chunk_size": 7},
        "vendors_own": {"deep": [1, None]},
    }
    assert json.dumps(body) == before


async def test_the_key_and_headers_are_sent(upstream: Upstream) -> None:
    """The key is a bearer token; a query of the base URL is part of every call."""
    upstream.script("m", say("Four."))
    async with Endpoint("here", f"{upstream.base_url}/?v=1", api_key=f"{KEY}\n", headers={"X-Title": "t"}) as endpoint:
        await answer(endpoint)
        assert endpoint.base_url == f"{upstream.base_url}/"
    call = upstream.requests[0]
    assert (call.headers["Authorization"], call.headers["X-Title"]) == (f"Bearer {KEY}", "t")
    assert call.path == "/v1/chat/completions?v=1"


async def test_fields_are_renamed(upstream: Upstream) -> None:
    """A field is sent under the server's name for it; where the caller also used that name, the caller's value wins."""
    upstream.script("m", say("Four."))
    async with Endpoint(
        "here", upstream.base_url, rename={"seed": "random_seed", "max_completion_tokens": "max_tokens"}
    ) as e:
        await answer(e, request=QUESTION.replaced(seed=7, max_completion_tokens=1, max_tokens=2))
    body = upstream.requests[0].body
    assert (body["random_seed"], body["max_tokens"]) == (7, 2)
    assert not {"seed", "max_completion_tokens"} & set(body)


async def test_a_prompt_of_megabytes(upstream: Upstream, endpoint: Endpoint) -> None:
    """A prompt longer than a megabyte is sent completely and without a warning."""
    upstream.script("m", lambda body: say(str(len(body["messages"][0]["content"]))))
    assert collected(await answer(endpoint, request=Request.of("x" * 3_000_000))).text == "3000000"


async def test_a_server_that_does_not_know_stream_options(upstream: Upstream, endpoint: Endpoint) -> None:
    """The call is repeated once without them; later calls leave them out from the start."""
    upstream.script("m", without_stream_options(say("Four.")))
    for _ in range(2):
        assert (await answer(endpoint))[-1].usage == Usage(6, 2, estimated=True)
    assert ["stream_options" in call.body for call in upstream.requests] == [True, False, False]


async def test_a_server_that_quotes_the_request_still_gets_stream_options(
    upstream: Upstream, endpoint: Endpoint
) -> None:
    """A refusal that only mentions ``stream_options`` does not stop the usage reports of later calls."""
    quoting = refuse(422, 'bad field in {"stream_options": {"include_usage": true}}')
    upstream.script("m", quoting, quoting, say("Four."))
    assert type((await failure(endpoint))[1]) is CallRejected
    assert (await answer(endpoint))[-1].usage == Usage(10, 5)


# Connections


async def test_closing_the_stream_ends_the_call(upstream: Upstream, endpoint: Endpoint) -> None:
    """Closing the stream ends the server's work at once."""
    upstream.script("m", words("It is") + hang())
    stream = endpoint.model("m").stream(QUESTION)
    await anext(stream)
    assert upstream.open_calls == 1
    await stream.aclose()
    await soon(upstream.requests[0].disconnected)
    assert upstream.open_calls == 0


@pytest.mark.parametrize("script", [hang(), head() + hang(), words("It is") + hang()])
async def test_cancelling_the_reader_ends_the_call(upstream: Upstream, endpoint: Endpoint, script: Script) -> None:
    """Cancelling the reader's task cancels the call, wherever it is."""
    upstream.script("m", script)
    task = asyncio.create_task(answer(endpoint))
    await upstream.received(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await soon(upstream.requests[0].disconnected)


async def test_connections_are_reused(upstream: Upstream, endpoint: Endpoint) -> None:
    """Calls one after another share a connection, also after a refused one."""
    upstream.script("m", say("Four.") + pause(0.01), refuse(429), say("Four."))
    await answer(endpoint)
    await failure(endpoint)
    await answer(endpoint)
    ports = {call.peer for call in upstream.requests}
    assert len(ports) == 1


async def test_no_hidden_limit_on_concurrent_calls(upstream: Upstream, endpoint: Endpoint) -> None:
    """More than a hundred calls are open at once; only ``Limits`` bounds them."""
    everyone = asyncio.Event()

    async def gate(call: object) -> None:
        if upstream.open_calls == 120:
            everyone.set()
        await everyone.wait()

    upstream.script("m", Script((gate,)) + say("Four."))
    answers = await asyncio.gather(*(answer(endpoint) for _ in range(120)))
    assert upstream.peak == 120
    assert {collected(deltas).text for deltas in answers} == {"Four."}


async def test_a_closed_endpoint_opens_again(upstream: Upstream) -> None:
    """After closing, a later call opens a new session. Closing twice is fine."""
    upstream.script("m", say("Four."))
    endpoint = Endpoint("here", upstream.base_url)
    for _ in range(2):
        await answer(endpoint)
        await endpoint.aclose()
        await endpoint.aclose()


async def test_an_event_loop_closes_its_sessions(upstream: Upstream) -> None:
    """An endpoint that is never closed works in one ``asyncio.run`` after another and leaves nothing open."""
    upstream.script("m", say("Four."))

    def two_runs() -> list[str]:
        endpoint = Endpoint("here", upstream.base_url)
        return [collected(asyncio.run(answer(endpoint))).text for _ in range(2)]

    assert await asyncio.to_thread(two_runs) == ["Four.", "Four."]
    gc.collect()  # an unclosed session would warn here, and warnings are errors


async def test_an_endpoint_that_is_garbage_closes_its_session(upstream: Upstream) -> None:
    """Dropped while its event loop runs, and only found by the garbage collector, an endpoint leaves nothing open."""
    upstream.script("m", say("Four."))
    for _ in range(3):
        endpoint = Endpoint("here", upstream.base_url)
        cycle: list[object] = [endpoint]
        cycle.append(cycle)
        assert collected([delta async for delta in endpoint.model("m").stream(QUESTION)]).text == "Four."
        del endpoint, cycle
        gc.collect()  # an unclosed session would warn here, and warnings are errors


# The list of models


async def test_the_list_of_models(upstream: Upstream, endpoint: Endpoint) -> None:
    """The models' IDs, in the server's order."""
    upstream.script("b", say("Four."))
    upstream.script("a/x", say("Four."))
    assert await endpoint.models() == ["b", "a/x"]


@pytest.mark.parametrize(
    ("script", "check"),
    [
        pytest.param(whole([{"id": "x"}]), lambda ids: ids == ["x"], id="Together's bare list"),
        pytest.param(whole({"data": None}), lambda error: type(error) is UpstreamFailed, id="no list"),
        pytest.param(whole("hello"), lambda error: type(error) is UpstreamFailed, id="no JSON"),
        pytest.param(refuse(401), lambda error: type(error) is KeyRejected, id="refused"),
    ],
)
async def test_other_lists_of_models(
    upstream: Upstream, endpoint: Endpoint, script: Script, check: Callable[[object], bool]
) -> None:
    """A bare list is accepted; anything else is an error that names the endpoint."""
    upstream.script("/models", script)
    try:
        result: object = await endpoint.models()
    except ModelError as error:
        assert str(error).startswith("here: ")
        result = error
    assert check(result)
