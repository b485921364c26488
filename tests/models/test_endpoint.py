"""A Chat Completions server, as it is met in the wild, becomes a stream of deltas or an error that says what happened."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import pytest

from moa.errors import (
    CallRejected,
    ConfigError,
    KeyMissing,
    KeyRejected,
    ModelError,
    RateLimited,
    StreamBroken,
    TimedOut,
    Unreachable,
    UpstreamFailed,
)
from moa.messages import Cost, Delta, Request, Usage, collected
from moa.models import Model
from moa.models.endpoint import Endpoint, Timeouts
from moa.models.providers import PROVIDERS, ollama_url
from tests.fakes.upstream import (
    Script,
    Upstream,
    call_tool,
    chunk,
    comment,
    data,
    done,
    drop,
    error_event,
    finish,
    garbage,
    hang,
    head,
    pause,
    raw,
    refuse,
    say,
    sequence,
    think,
    thoughts,
    usage,
    whole,
    without_stream_options,
    words,
)

pytestmark = pytest.mark.anyio

KEY = "sk-0123456789abcdef"
QUESTION = Request.of("How much is two and two?")


@pytest.fixture
async def endpoint(upstream: Upstream) -> AsyncIterator[Endpoint]:
    async with Endpoint("here", upstream.base_url, api_key=KEY) as open_endpoint:
        yield open_endpoint


async def answer(endpoint: Endpoint, model: str = "m", request: Request = QUESTION) -> list[Delta]:
    return [delta async for delta in endpoint.model(model).stream(request)]


async def failure(endpoint: Endpoint, model: str = "m") -> tuple[list[Delta], ModelError]:
    """What was said before the call failed, and the error."""
    said: list[Delta] = []
    with pytest.raises(ModelError) as caught:
        async for delta in endpoint.model(model).stream(QUESTION):
            said.append(delta)  # noqa: PERF401 - what was said before the error must survive it
    assert "\n" not in str(caught.value)
    return said, caught.value


def impatient(upstream: Upstream, **seconds: float) -> Endpoint:
    return Endpoint("here", upstream.base_url, timeouts=Timeouts(**seconds))


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(2):
        await event.wait()


# What is said


async def test_an_answer_comes_as_it_is_said(upstream: Upstream, endpoint: Endpoint) -> None:
    """Each word is a delta; the finish reason and then the usage come last."""
    upstream.script("m", say("It is four."))
    assert await answer(endpoint) == [
        Delta("It"),
        Delta(" is"),
        Delta(" four."),
        Delta(finish_reason="stop"),
        Delta(usage=Usage(10, 5)),
    ]


async def test_a_token_is_given_before_the_next_is_there(upstream: Upstream, endpoint: Endpoint) -> None:
    """Nothing is held back: the first word is read while the server still thinks about the second."""
    upstream.script("m", words("Four") + hang())
    stream = endpoint.model("m").stream(QUESTION)
    assert await anext(stream) == Delta("Four")
    await stream.aclose()


async def test_an_endpoint_model_is_a_model(endpoint: Endpoint) -> None:
    """It has the shape every model has, its name as users write it, and its parts for the price list."""
    model = endpoint.model("meta/llama-3")
    assert isinstance(model, Model)
    assert (model.name, model.provider, model.model_id) == ("here/meta/llama-3", "here", "meta/llama-3")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_is_kept_apart(upstream: Upstream, endpoint: Endpoint, name: str) -> None:
    """Thinking is reasoning under either of its field names, and no part of the text."""
    upstream.script("m", thoughts("Two twos", name) + words("Four.") + finish() + done())
    told = collected(await answer(endpoint))
    assert (told.reasoning, told.text) == ("Two twos", "Four.")


async def test_reasoning_alone_is_an_answer_without_text(upstream: Upstream, endpoint: Endpoint) -> None:
    """A model that thinks and then says nothing has an empty text, not an error."""
    upstream.script("m", think("Hm."))
    told = collected(await answer(endpoint))
    assert (told.text, told.reasoning, told.finish_reason) == ("", "Hm.", "stop")


async def test_content_in_parts_is_text_and_reasoning(upstream: Upstream, endpoint: Endpoint) -> None:
    """Mistral's lists of text and thinking parts are read like plain strings."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    upstream.script("m", chunk({"content": [thinking, {"type": "text", "text": "Four."}]}) + finish() + done())
    told = collected(await answer(endpoint))
    assert (told.text, told.reasoning) == ("Four.", "Hm.")


async def test_an_empty_answer_is_an_answer(upstream: Upstream, endpoint: Endpoint) -> None:
    """An answer of no words that ends properly is finished, with its usage."""
    upstream.script("m", say(""))
    assert await answer(endpoint) == [Delta(finish_reason="stop"), Delta(usage=Usage(10, 5))]


async def test_a_tool_call_comes_in_pieces(upstream: Upstream, endpoint: Endpoint) -> None:
    """Pieces of a tool call pass as they came and join to the call."""
    upstream.script("m", call_tool("add", {"a": 2, "b": 2}))
    told = collected(await answer(endpoint))
    assert told.finish_reason == "tool_calls"
    assert told.tool_calls == (
        {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}},
    )


async def test_tool_calls_without_an_index_stay_apart(upstream: Upstream, endpoint: Endpoint) -> None:
    """Whole calls that a server sends without numbers are not joined to one."""
    calls = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("one", "two")]
    upstream.script("m", chunk({"tool_calls": calls}) + finish("tool_calls") + done())
    assert [call["id"] for call in collected(await answer(endpoint)).tool_calls] == ["one", "two"]


async def test_arguments_that_come_as_an_object_become_their_text(upstream: Upstream, endpoint: Endpoint) -> None:
    """Some servers send the object itself; clients expect the text of it."""
    call = {"index": 0, "id": "1", "function": {"name": "add", "arguments": {"a": 2}}}
    upstream.script("m", chunk({"tool_calls": [call]}) + finish("tool_calls") + done())
    assert collected(await answer(endpoint)).tool_calls[0]["function"] == {"name": "add", "arguments": '{"a": 2}'}


async def test_other_fields_pass_through(upstream: Upstream, endpoint: Endpoint) -> None:
    """What is not read here (logprobs, refusal) is in ``extra`` as it came; empty fields are not."""
    logprobs = {"content": [{"token": "I", "logprob": -0.1}]}
    upstream.script(
        "m",
        chunk({"content": "I", "refusal": "no", "audio": None, "annotations": []}, logprobs=logprobs)
        + finish()
        + done(),
    )
    assert (await answer(endpoint))[0] == Delta("I", extra={"logprobs": logprobs, "refusal": "no"})


async def test_only_the_first_choice_is_read(upstream: Upstream, endpoint: Endpoint) -> None:
    """A second choice, which was not asked for, does not mix into the answer."""
    second = {"index": 1, "delta": {"content": "Five."}, "finish_reason": "stop"}
    upstream.script("m", words("Four.") + data(json.dumps({"choices": [second]})) + finish() + done())
    assert collected(await answer(endpoint)).text == "Four."


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(data('{"choices": []}'), id="no choice"),
        pytest.param(data('{"id": "x"}'), id="no choices"),
        pytest.param(data('{"choices": null, "usage": null, "error": null}'), id="nulls"),
        pytest.param(chunk(None), id="a null delta"),
        pytest.param(chunk({"content": None}), id="null content"),
        pytest.param(data('{"choices": [{"finish_reason": ""}]}'), id="an empty finish reason and no delta"),
        pytest.param(data(""), id="an empty event"),
        pytest.param(comment("OPENROUTER PROCESSING"), id="a comment"),
        pytest.param(raw(b"event: ping\ndata: {}\n\n"), id="another event"),
    ],
)
async def test_odd_chunks_are_passed_over(upstream: Upstream, endpoint: Endpoint, odd: Script) -> None:
    """Chunks that say nothing are passed over wherever they come."""
    upstream.script("m", odd + words("Four.") + odd + finish() + odd + done())
    deltas = await answer(endpoint)
    assert [*deltas[:2], *deltas[3:]] == [Delta("Four."), Delta(finish_reason="stop")]


async def test_bytes_arrive_in_any_way(upstream: Upstream, endpoint: Endpoint) -> None:
    """Characters cut between packets and lines that end in CR LF are read as if they had come in order."""
    stream = json.dumps({"choices": [{"index": 0, "delta": {"content": "é🎈"}}]}, ensure_ascii=False)
    sent = f"data: {stream}\r\n\r\n".encode()
    cut = sent.index("é".encode()) + 1
    upstream.script("m", raw(sent[:cut], sent[cut : cut + 2], sent[cut + 2 :]) + finish() + done())
    assert collected(await answer(endpoint)).text == "é🎈"


async def test_a_megabyte_in_one_line(upstream: Upstream, endpoint: Endpoint) -> None:
    """There is no limit on the length of a chunk."""
    upstream.script("m", chunk({"content": "x" * 1_000_000}) + finish() + done())
    assert len(collected(await answer(endpoint)).text) == 1_000_000


async def test_an_answer_that_is_not_streamed(upstream: Upstream, endpoint: Endpoint) -> None:
    """A server that cannot stream answers in one piece, and that is the answer."""
    message = {"role": "assistant", "content": "Four.", "tool_calls": None}
    counts = {"prompt_tokens": 3, "completion_tokens": 1}
    upstream.script(
        "m", whole({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": counts})
    )
    assert await answer(endpoint) == [Delta("Four.", finish_reason="stop"), Delta(usage=Usage(3, 1))]


# What it came to


async def test_usage_is_read_in_full(upstream: Upstream, endpoint: Endpoint) -> None:
    """Cached and reasoning tokens and OpenRouter's cost are read."""
    counts: dict[str, Any] = {"prompt_tokens_details": {"cached_tokens": 7}, "cost": 0.25}
    counts |= {"completion_tokens_details": {"reasoning_tokens": 4}}
    upstream.script("m", words("Four.") + finish() + usage(10, 5, **counts) + done())
    assert (await answer(endpoint))[-1] == Delta(usage=Usage(10, 5, 7, 4), cost=Cost(0.25))


async def test_deepseek_counts_cached_tokens_its_own_way(upstream: Upstream, endpoint: Endpoint) -> None:
    """``prompt_cache_hit_tokens`` are cached tokens."""
    upstream.script("m", words("Four.") + finish() + usage(10, 5, prompt_cache_hit_tokens=7) + done())
    assert collected(await answer(endpoint)).usage == Usage(10, 5, 7)


async def test_usage_that_is_not_reported_is_estimated(upstream: Upstream, endpoint: Endpoint) -> None:
    """Without a report, usage is characters / 4 of what was asked and said, and marked as such."""
    upstream.script("m", say("It is four.", tokens=None))
    assert (await answer(endpoint))[-1] == Delta(usage=Usage(6, 3, estimated=True))


async def test_usage_in_every_chunk_is_given_once(upstream: Upstream, endpoint: Endpoint) -> None:
    """Of running counts only the last is the usage."""
    upstream.script("m", words("It") + usage(10, 1) + words(" is") + usage(10, 2) + finish() + usage(10, 3) + done())
    assert [delta.usage for delta in await answer(endpoint) if delta.usage] == [Usage(10, 3)]


# How it ends


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(finish() + done(), id="done"),
        pytest.param(finish(), id="no done"),
        pytest.param(chunk({"content": ""}, "stop"), id="finish reason beside empty content"),
        pytest.param(finish() + drop(), id="dropped after the finish reason"),
        pytest.param(finish() + raw(b'data: {"cho') + drop(), id="dropped in the chunk after the finish reason"),
        pytest.param(finish() + raw(b'data: {"cho'), id="cut in the chunk after the finish reason"),
        pytest.param(raw(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}'), id="no last newline"),
    ],
)
async def test_a_finish_reason_makes_an_answer_whole(upstream: Upstream, endpoint: Endpoint, ending: Script) -> None:
    """Once the server has said why it stops, nothing that follows can spoil the answer."""
    upstream.script("m", words("Four.") + ending)
    told = collected(await answer(endpoint))
    assert (told.text, told.finish_reason, told.usage) == ("Four.", "stop", Usage(6, 2, estimated=True))


async def test_a_server_that_stays_silent_after_the_end_is_not_waited_for(upstream: Upstream) -> None:
    """After the finish reason a silent server is given a short while for its usage, then left."""
    upstream.script("m", words("Four.") + finish() + hang())
    async with impatient(upstream, stall=0.05) as endpoint:
        assert collected(await answer(endpoint)).text == "Four."
    await soon(upstream.requests[0].disconnected)


async def test_usage_is_not_waited_for_without_end_where_stalls_are_allowed(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a limit between tokens, an answer is still complete when its server never closes the connection."""
    monkeypatch.setattr("moa.models.endpoint._AFTER_FINISH", 0.05)
    upstream.script("m", words("Four.") + finish() + hang())
    async with Endpoint("here", upstream.base_url, timeouts=Timeouts(stall=None)) as endpoint:
        told = collected(await answer(endpoint))
    assert (told.text, told.finish_reason, told.usage.estimated) == ("Four.", "stop", True)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        pytest.param(done(), "ended without a finish reason", id="done, no finish reason"),
        pytest.param(Script(), "ended without a finish reason", id="no finish reason"),
        pytest.param(drop(), "connection was lost", id="dropped"),
        pytest.param(error_event("Out of memory"), "broke off: Out of memory", id="an error event"),
        pytest.param(error_event("Slow down", code=429), "broke off: Slow down", id="429 after words"),
        pytest.param(raw(b"event: error\ndata: Out of memory\n\n"), "broke off: Out of memory", id="a named event"),
        pytest.param(data('{"object": "error", "message": "Out"}'), "broke off: Out", id="an error object"),
        pytest.param(chunk({}, "error", error={"message": "Bang"}), "broke off: Bang", id="an error in the choice"),
        pytest.param(data('{"choices": ['), "not part of an answer", id="JSON that is none"),
        pytest.param(data('{"choices": 7}'), "not part of an answer", id="another API's JSON"),
        pytest.param(chunk({"content": 7}), "not part of an answer", id="content that is a number"),
        pytest.param(
            chunk({"tool_calls": [{"index": "__proto__"}]}), "not part of an answer", id="a call without a place"
        ),
        pytest.param(
            chunk({"tool_calls": [{"index": 0, "function": {"name": 7}}]}),
            "not part of an answer",
            id="a call of a number",
        ),
        pytest.param(data('{"usage": {"prompt_tokens": Infinity}}'), "not part of an answer", id="tokens without end"),
        pytest.param(data("[" * 100_000), "not part of an answer", id="JSON without a bottom"),
    ],
)
async def test_an_answer_that_breaks_off_is_an_error(
    upstream: Upstream, endpoint: Endpoint, ending: Script, reason: str
) -> None:
    """What breaks off is no answer, whatever it had said; what it had said is counted, since it is paid for."""
    upstream.script("m", words("It is fo") + ending)
    said, error = await failure(endpoint)
    assert type(error) is StreamBroken
    assert reason in str(error)
    assert said[-1] == Delta(usage=Usage(6, 2, estimated=True))
    assert collected(said).text == "It is fo"


async def test_a_stream_of_nothing_is_broken_and_free(upstream: Upstream, endpoint: Endpoint) -> None:
    """An answer that ends before it began is an error without a bill."""
    upstream.script("m", head())
    said, error = await failure(endpoint)
    assert (said, type(error)) == ([], StreamBroken)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        pytest.param(error_event("Slow down", code=429), RateLimited, id="429"),
        pytest.param(error_event("Slow down", code="429"), RateLimited, id="429 as text"),
        pytest.param(error_event("Slow down", type="rate_limit_error"), RateLimited, id="by its type"),
        pytest.param(error_event("Too long", code=400), CallRejected, id="400"),
        pytest.param(error_event("Upstream died", code=502), UpstreamFailed, id="502"),
        pytest.param(error_event("Bang"), StreamBroken, id="no code"),
        pytest.param(whole({"error": {"message": "Slow down", "code": 429}}), RateLimited, id="not streamed"),
    ],
)
async def test_an_error_instead_of_an_answer_is_what_its_code_says(
    upstream: Upstream, endpoint: Endpoint, event: Script, kind: type[ModelError]
) -> None:
    """An error under status 200, before a word was said, is the error that its code would have been as a status."""
    upstream.script("m", event)
    said, error = await failure(endpoint)
    assert (said, type(error)) == ([], kind)


# Silence


@pytest.mark.parametrize("silence", [hang(), head() + hang(), chunk({"role": "assistant", "content": ""}) + hang()])
async def test_no_first_token_in_time(upstream: Upstream, silence: Script) -> None:
    """Without a token in time the call is given up, before the head of the answer or after."""
    upstream.script("m", silence)
    async with impatient(upstream, first_token=0.05) as endpoint:
        said, error = await failure(endpoint)
    assert (said, type(error), str(error)) == ([], TimedOut, "here/m: no token for 0.05 s")
    await soon(upstream.requests[0].disconnected)


async def test_comments_are_silence(upstream: Upstream) -> None:
    """Comments keep the connection open, but the clock of the first token runs on."""
    upstream.script("m", sequence([comment("OPENROUTER PROCESSING") + pause(0.02)] * 100) + say("Four."))
    async with impatient(upstream, first_token=0.1) as endpoint:
        _, error = await failure(endpoint)
    assert type(error) is TimedOut


async def test_a_stall_between_tokens(upstream: Upstream) -> None:
    """A stream that falls silent is given up, and what it had said is counted."""
    upstream.script("m", words("It is") + hang())
    async with impatient(upstream, stall=0.05) as endpoint:
        said, error = await failure(endpoint)
    assert (type(error), error.retryable) == (TimedOut, True)
    assert said[-1].usage == Usage(6, 2, estimated=True)
    await soon(upstream.requests[0].disconnected)


async def test_a_slow_answer_is_not_late(upstream: Upstream) -> None:
    """An answer may take longer than any limit, as long as it is never silent for that long."""
    upstream.script("m", say("one two three four five six seven", pace=0.03))
    async with impatient(upstream, first_token=0.1, stall=0.1) as endpoint:
        assert collected(await answer(endpoint)).finish_reason == "stop"


async def test_a_slow_reader_is_no_stall(upstream: Upstream) -> None:
    """The time a reader takes over a token is not the server's silence."""
    upstream.script("m", say("one two three", pace=0.01))
    async with impatient(upstream, stall=0.05) as endpoint:
        stream = endpoint.model("m").stream(QUESTION)
        await anext(stream)
        await asyncio.sleep(0.1)
        assert collected([delta async for delta in stream]).finish_reason == "stop"


async def test_no_limit(upstream: Upstream) -> None:
    """None means to wait."""
    upstream.script("m", pause(0.02) + say("Four."))
    endpoint = Endpoint("here", upstream.base_url, timeouts=Timeouts(connect=None, first_token=None, stall=None))
    async with endpoint:
        assert collected(await answer(endpoint)).text == "Four."


# Refusals


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (307, CallRejected),
        (400, CallRejected),
        (401, KeyRejected),
        (402, CallRejected),
        (403, KeyRejected),
        (404, CallRejected),
        (408, TimedOut),
        (422, CallRejected),
        (425, UpstreamFailed),
        (429, RateLimited),
        (500, UpstreamFailed),
        (529, UpstreamFailed),
    ],
)
async def test_a_status_is_an_error_of_its_kind(
    upstream: Upstream, endpoint: Endpoint, status: int, kind: type[ModelError]
) -> None:
    """Each status has its kind of error, which holds it, and nothing was said or asked twice."""
    upstream.script("m", refuse(status))
    said, error = await failure(endpoint)
    assert (said, type(error), error.status, len(upstream.requests)) == ([], kind, status, 1)


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {}, None),
        (429, {"Retry-After": "2"}, 2),
        (429, {"Retry-After": "0.5"}, 0.5),
        (429, {"Retry-After": "60", "retry-after-ms": "250"}, 0.25),
        (429, {"Retry-After": formatdate(time.time() - 100, usegmt=True)}, 0),
        (429, {"Retry-After": "soon"}, None),
        (429, {"Retry-After": "nan"}, None),
        (503, {"Retry-After": "3"}, 3),
    ],
)
async def test_how_long_to_wait(
    upstream: Upstream, endpoint: Endpoint, status: int, headers: dict[str, str], wait: float | None
) -> None:
    """Seconds, milliseconds and dates in a refusal become seconds; what cannot be read is None."""
    upstream.script("m", refuse(status, headers=headers))
    _, error = await failure(endpoint)
    assert error.retry_after == wait


async def test_a_date_to_wait_for(upstream: Upstream, endpoint: Endpoint) -> None:
    """A date in the future becomes the seconds until then."""
    upstream.script("m", refuse(429, retry_after=formatdate(time.time() + 100, usegmt=True)))
    _, error = await failure(endpoint)
    assert error.retry_after == pytest.approx(100, abs=5)


async def test_a_server_that_relents(upstream: Upstream, endpoint: Endpoint) -> None:
    """A refused call leaves nothing behind: the next one is answered."""
    upstream.script("m", refuse(429), refuse(429), say("Four."))
    for _ in range(2):
        await failure(endpoint)
    assert collected(await answer(endpoint)).text == "Four."


@pytest.mark.parametrize(
    ("body", "words_shown"),
    [
        pytest.param({"error": {"message": "No  such\nmodel"}}, "No such model", id="OpenAI"),
        pytest.param({"error": "No such model"}, "No such model", id="Ollama"),
        pytest.param({"message": "No such model"}, "No such model", id="Mistral"),
        pytest.param({"detail": [{"loc": ["body"], "msg": "No such model"}]}, "No such model", id="FastAPI"),
        pytest.param([{"error": {"message": "No such model"}}], "No such model", id="Gemini"),
        pytest.param("No such model", "No such model", id="plain text"),
        pytest.param("<html>No such model</html>", "", id="a web page"),
        pytest.param({"error": {"message": "x" * 5000}}, "x" * 300 + "…", id="a long tale"),
        pytest.param({}, "", id="nothing"),
    ],
)
async def test_an_error_says_what_the_server_said(
    upstream: Upstream, endpoint: Endpoint, body: object, words_shown: str
) -> None:
    """The server's own words, whatever they are wrapped in, stand in one short line; a web page does not."""
    upstream.script("m", whole(body, status=404))
    _, error = await failure(endpoint)
    assert str(error) == "here/m: 404 Not Found" + (f": {words_shown}" if words_shown else "")


async def test_no_key_is_a_likely_cause(upstream: Upstream) -> None:
    """A 401 to a call without a key says that there was none."""
    upstream.script("m", refuse(401, "Unauthorized"))
    async with Endpoint("here", upstream.base_url) as endpoint:
        _, error = await failure(endpoint)
    assert str(error) == "here/m: 401 Unauthorized: Unauthorized (no key was sent)"


@pytest.mark.parametrize(
    "script", [refuse(401, f"Bad key {KEY}."), error_event(f"Bad key {KEY}."), whole(KEY, status=500)]
)
async def test_a_key_that_the_server_quotes_is_not_shown(
    upstream: Upstream, endpoint: Endpoint, script: Script
) -> None:
    """The key is in no error and no ``repr``, not even when the server quotes it."""
    upstream.script("m", script)
    _, error = await failure(endpoint)
    shown = f"{error} {error!r} {error.__cause__!r} {endpoint!r} {endpoint.model('m')!r}"
    assert KEY not in shown
    assert "[key]" in str(error)


async def test_a_secret_header_is_not_shown(upstream: Upstream) -> None:
    """A key given as a header of another name is kept as close."""
    upstream.script("m", refuse(401, f"Bad key {KEY}."))
    async with Endpoint("here", upstream.base_url, headers={"x-api-key": KEY}) as endpoint:
        _, error = await failure(endpoint)
    assert upstream.requests[0].headers["x-api-key"] == KEY
    assert KEY not in str(error)


async def test_a_redirect_is_not_followed(upstream: Upstream, endpoint: Endpoint) -> None:
    """The key does not go where a server points."""
    upstream.script("m", refuse(307, headers={"Location": f"{upstream.base_url}/models"}))
    _, error = await failure(endpoint)
    assert "redirects" in str(error)
    assert len(upstream.requests) == 1


async def test_a_web_page_is_no_answer(upstream: Upstream, endpoint: Endpoint) -> None:
    """A page under status 200 means that the base URL is wrong, and the error says so."""
    upstream.script("m", whole("<html>Welcome!</html>"))
    _, error = await failure(endpoint)
    assert (type(error), "a web page answers" in str(error)) == (UpstreamFailed, True)


# No connection


async def test_nothing_listens() -> None:
    """A port where nothing listens is unreachable, and the error asks what one should check."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with Endpoint("here", f"http://127.0.0.1:{port}/v1") as endpoint:
        _, error = await failure(endpoint)
    assert type(error) is Unreachable
    assert str(error) == f"here/m: nothing answers at http://127.0.0.1:{port}/v1: is the server running?"


async def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that cannot be looked up is unreachable, in plain words."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with Endpoint("here", "https://nowhere.invalid/v1") as endpoint:
        _, error = await failure(endpoint)
    assert type(error) is Unreachable
    assert "no host is called nowhere.invalid" in str(error)


async def test_a_connection_that_is_not_made_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not answer at all is unreachable after the connect limit."""

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
    async with Endpoint("here", "http://127.0.0.1:1/v1", timeouts=Timeouts(connect=0.05)) as endpoint:
        _, error = await failure(endpoint)
    assert type(error) is Unreachable
    assert str(error) == "here/m: no connection to http://127.0.0.1:1/v1 within 0.05 s"


@pytest.mark.parametrize("script", [drop(), garbage()])
async def test_a_server_that_is_none(upstream: Upstream, endpoint: Endpoint, script: Script) -> None:
    """A connection that is cut before an answer, or answered in another protocol, is the server's failure."""
    upstream.script("m", script)
    _, error = await failure(endpoint)
    assert (type(error), error.retryable) == (UpstreamFailed, True)


async def test_tls_to_a_server_without_it(upstream: Upstream) -> None:
    """A server that does not speak TLS is unreachable by https."""
    async with Endpoint("here", upstream.base_url.replace("http:", "https:")) as endpoint:
        _, error = await failure(endpoint)
    assert (type(error), "no secure connection" in str(error)) == (Unreachable, True)


async def test_a_proxy_is_not_asked_for_this_machine(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment does not stand between us and a server on this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    upstream.script("m", say("Four."))
    async with Endpoint("here", upstream.base_url) as endpoint:
        assert collected(await answer(endpoint)).text == "Four."


async def test_a_proxy_is_asked_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is used, and named as the cause when it does not answer."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with Endpoint("here", "http://api.example.com/v1") as endpoint:
        _, error = await failure(endpoint)
    assert (type(error), "the proxy in front of" in str(error)) == (Unreachable, True)


@pytest.mark.parametrize(
    "base_url", ["", "localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port", "http://me:word@host/v1"]
)
async def test_a_base_url_that_is_none(base_url: str) -> None:
    """What is no HTTP URL, or holds a password, is refused at once."""
    with pytest.raises(ConfigError, match="the base URL of here must be"):
        Endpoint("here", base_url)


# What is asked


async def test_the_body_goes_out_whole(upstream: Upstream, endpoint: Endpoint) -> None:
    """Every field goes out as it came, but for those that say who answers and how; the request stays as it was."""
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


async def test_the_key_and_headers_go_out(upstream: Upstream) -> None:
    """The key is a bearer token; a query of the base URL stays on every call."""
    upstream.script("m", say("Four."))
    async with Endpoint("here", f"{upstream.base_url}/?v=1", api_key=f"{KEY}\n", headers={"X-Title": "t"}) as endpoint:
        await answer(endpoint)
        assert endpoint.base_url == f"{upstream.base_url}/"
    call = upstream.requests[0]
    assert (call.headers["Authorization"], call.headers["X-Title"]) == (f"Bearer {KEY}", "t")
    assert call.path == "/v1/chat/completions?v=1"


async def test_fields_are_renamed(upstream: Upstream) -> None:
    """A field goes out under the server's name for it; where the caller used that name too, the caller's stays."""
    upstream.script("m", say("Four."))
    async with Endpoint(
        "here", upstream.base_url, rename={"seed": "random_seed", "max_completion_tokens": "max_tokens"}
    ) as e:
        await answer(e, request=QUESTION.replaced(seed=7, max_completion_tokens=1, max_tokens=2))
    body = upstream.requests[0].body
    assert (body["random_seed"], body["max_tokens"]) == (7, 2)
    assert not {"seed", "max_completion_tokens"} & set(body)


async def test_a_prompt_of_megabytes(upstream: Upstream, endpoint: Endpoint) -> None:
    """A prompt longer than a megabyte goes out whole and without a warning."""
    upstream.script("m", lambda body: say(str(len(body["messages"][0]["content"]))))
    assert collected(await answer(endpoint, request=Request.of("x" * 3_000_000))).text == "3000000"


async def test_a_server_that_does_not_know_stream_options(upstream: Upstream, endpoint: Endpoint) -> None:
    """It is asked again without them, once; later calls leave them out from the start."""
    upstream.script("m", without_stream_options(say("Four.")))
    for _ in range(2):
        assert (await answer(endpoint))[-1].usage == Usage(6, 2, estimated=True)
    assert ["stream_options" in call.body for call in upstream.requests] == [True, False, False]


async def test_a_server_that_quotes_the_request_is_still_asked_for_usage(
    upstream: Upstream, endpoint: Endpoint
) -> None:
    """A refusal that only mentions ``stream_options`` does not end the usage reports of later calls."""
    quoting = refuse(422, 'bad field in {"stream_options": {"include_usage": true}}')
    upstream.script("m", quoting, quoting, say("Four."))
    assert type((await failure(endpoint))[1]) is CallRejected
    assert (await answer(endpoint))[-1].usage == Usage(10, 5)


# Connections


async def test_closing_the_stream_ends_the_call(upstream: Upstream, endpoint: Endpoint) -> None:
    """Who closes the stream ends the server's work at once."""
    upstream.script("m", words("It is") + hang())
    stream = endpoint.model("m").stream(QUESTION)
    await anext(stream)
    assert upstream.open_calls == 1
    await stream.aclose()
    await soon(upstream.requests[0].disconnected)
    assert upstream.open_calls == 0


@pytest.mark.parametrize("script", [hang(), head() + hang(), words("It is") + hang()])
async def test_cancelling_the_reader_ends_the_call(upstream: Upstream, endpoint: Endpoint, script: Script) -> None:
    """A reader's task that is cancelled takes the call with it, wherever it is."""
    upstream.script("m", script)
    task = asyncio.create_task(answer(endpoint))
    await upstream.received(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await soon(upstream.requests[0].disconnected)


async def test_connections_are_used_again(upstream: Upstream, endpoint: Endpoint) -> None:
    """Calls one after another share a connection; a refused one does not cost it either."""
    upstream.script("m", say("Four.") + pause(0.01), refuse(429), say("Four."))
    await answer(endpoint)
    await failure(endpoint)
    await answer(endpoint)
    ports = {call.peer for call in upstream.requests}
    assert len(ports) == 1


async def test_no_hidden_limit_on_calls_at_once(upstream: Upstream, endpoint: Endpoint) -> None:
    """More than a hundred calls are open at once; how many there may be is for others to say."""
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
    """Closing is tidying up, not an end: a later call opens a new session. Closing twice is fine."""
    upstream.script("m", say("Four."))
    endpoint = Endpoint("here", upstream.base_url)
    for _ in range(2):
        await answer(endpoint)
        await endpoint.aclose()
        await endpoint.aclose()


async def test_a_loop_closes_what_nobody_closed(upstream: Upstream) -> None:
    """An endpoint that nobody closes works in one ``asyncio.run`` after another and leaves nothing open."""
    upstream.script("m", say("Four."))

    def two_runs() -> list[str]:
        endpoint = Endpoint("here", upstream.base_url)
        return [collected(asyncio.run(answer(endpoint))).text for _ in range(2)]

    assert await asyncio.to_thread(two_runs) == ["Four.", "Four."]
    gc.collect()  # an unclosed session would warn here, and warnings are errors


# The list of models


async def test_the_models_on_offer(upstream: Upstream, endpoint: Endpoint) -> None:
    """Their ids, in the server's order."""
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
    """A bare list is a list too; anything else is an error that names the endpoint."""
    upstream.script("/models", script)
    try:
        result: object = await endpoint.models()
    except ModelError as error:
        assert str(error).startswith("here: ")
        result = error
    assert check(result)


# The servers known by name


@pytest.mark.parametrize("name", PROVIDERS)
async def test_every_known_server_makes_an_endpoint(name: str) -> None:
    """The facts about each known server are of use as they stand; those elsewhere are met over TLS only."""
    provider = PROVIDERS[name]
    assert Endpoint(name, provider.url({}), rename=provider.renames).base_url == provider.base_url
    assert provider.base_url.startswith("http://127.0.0.1:" if provider.local else "https://")


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_key_comes_from_the_customary_variable(name: str) -> None:
    """A key that is set is used; without one only a server on this machine may be asked."""
    provider = PROVIDERS[name]
    assert provider.key_variable is not None
    assert provider.key({provider.key_variable: f" {KEY}\n"}) == KEY
    if provider.local:
        assert provider.key({}) is None
    else:
        with pytest.raises(KeyMissing, match=provider.key_variable):
            provider.key({provider.key_variable: ""})


async def test_openai_may_be_elsewhere() -> None:
    """``OPENAI_BASE_URL`` is honoured, and a server on this machine needs no key under that name either."""
    environ = {"OPENAI_BASE_URL": "http://localhost:9/v1"}
    assert PROVIDERS["openai"].url(environ) == "http://localhost:9/v1"
    assert PROVIDERS["openai"].key(environ) is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("[::]:5000", "http://[::1]:5000/v1"),
        (":5000", "http://127.0.0.1:5000/v1"),
        ("box", "http://box:11434/v1"),
        ("http://box", "http://box:80/v1"),
        ("https://box/ollama/", "https://box:443/ollama/v1"),
    ],
)
async def test_ollama_may_be_elsewhere(host: str, url: str) -> None:
    """``OLLAMA_HOST`` is read as Ollama reads it; where it says every address, this machine is called."""
    assert ollama_url(host) == PROVIDERS["ollama"].url({"OLLAMA_HOST": host}) == url
