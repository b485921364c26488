"""The responses of Chat Completions servers, as they are in the wild, become streams of deltas."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moa.errors import (
    CallRejected,
    ModelError,
    RateLimited,
    StreamBroken,
    UpstreamFailed,
)
from moa.messages import Cost, Delta, Usage, collected
from moa.models import Model
from moa.models.endpoint import Endpoint, Timeouts
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
    hang,
    head,
    raw,
    say,
    think,
    thoughts,
    usage,
    whole,
    words,
)
from tests.models.endpoints import QUESTION, answer, failure, impatient, soon

pytestmark = pytest.mark.anyio


# Content


async def test_an_answer_streams(upstream: Upstream, endpoint: Endpoint) -> None:
    """Each word is a delta; the finish reason and then the usage come last."""
    upstream.script("m", say("It is four."))
    assert await answer(endpoint) == [
        Delta("It"),
        Delta(" is"),
        Delta(" four."),
        Delta(finish_reason="stop"),
        Delta(usage=Usage(10, 5)),
    ]


async def test_a_token_is_not_held_back(upstream: Upstream, endpoint: Endpoint) -> None:
    """The caller reads the first word while the server still works on the second."""
    upstream.script("m", words("Four") + hang())
    stream = endpoint.model("m").stream(QUESTION)
    assert await anext(stream) == Delta("Four")
    await stream.aclose()


async def test_an_endpoint_model_is_a_model(endpoint: Endpoint) -> None:
    """It has the shape of every model, its name as users write it, and its parts for the price list."""
    model = endpoint.model("meta/llama-3")
    assert isinstance(model, Model)
    assert (model.name, model.traits.provider, model.traits.model_id) == ("here/meta/llama-3", "here", "meta/llama-3")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_is_kept_apart(upstream: Upstream, endpoint: Endpoint, name: str) -> None:
    """Reasoning, under either of its field names, is not part of the text."""
    upstream.script("m", thoughts("Two twos", name) + words("Four.") + finish() + done())
    result = collected(await answer(endpoint))
    assert (result.reasoning, result.text) == ("Two twos", "Four.")


async def test_reasoning_alone_is_an_answer_without_text(upstream: Upstream, endpoint: Endpoint) -> None:
    """A model that streams reasoning and no text gives an empty text, not an error."""
    upstream.script("m", think("Hm."))
    result = collected(await answer(endpoint))
    assert (result.text, result.reasoning, result.finish_reason) == ("", "Hm.", "stop")


async def test_content_in_parts_is_text_and_reasoning(upstream: Upstream, endpoint: Endpoint) -> None:
    """Mistral's lists of text and thinking parts are read like plain strings."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    upstream.script("m", chunk({"content": [thinking, {"type": "text", "text": "Four."}]}) + finish() + done())
    result = collected(await answer(endpoint))
    assert (result.text, result.reasoning) == ("Four.", "Hm.")


async def test_a_refusal_and_an_image_in_parts_are_fields_of_the_message(
    upstream: Upstream, endpoint: Endpoint
) -> None:
    """Parts are texts, or objects of a kind; an image is passed on as OpenRouter sends it.

    https://openrouter.ai/docs/features/multimodal/image-generation
    """
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    parts = ["Fo", {"text": "ur"}, {"type": "output_text", "text": "."}, {"type": "refusal", "refusal": "No."}, image]
    upstream.script("m", chunk({"content": parts}) + finish() + done())
    deltas = await answer(endpoint)
    assert collected(deltas).text == "Four."
    assert next(delta.extra for delta in deltas if delta.extra) == {"refusal": "No.", "images": [image]}


@pytest.mark.parametrize("delta", [{}, None])
async def test_a_message_behind_its_deltas_adds_nothing(upstream: Upstream, endpoint: Endpoint, delta: object) -> None:
    """Some servers end a stream with the whole message once more, as MiniMax does."""
    last = {
        "index": 0,
        "delta": delta,
        "message": {"role": "assistant", "content": "It is four."},
        "finish_reason": "stop",
    }
    upstream.script(
        "m", words("It is four.") + data(json.dumps({"object": "chat.completion", "choices": [last]})) + done()
    )
    result = collected(await answer(endpoint))
    assert (result.text, result.finish_reason) == ("It is four.", "stop")


@pytest.mark.parametrize(("last", "whole_call"), [('"x"}', True), ('"x', False)])
async def test_half_a_function_call_is_no_answer(
    upstream: Upstream, endpoint: Endpoint, last: str, whole_call: bool
) -> None:
    """A legacy ``function_call`` in pieces ends with that reason, or in the middle of its arguments."""
    pieces = chunk({"function_call": {"name": "f", "arguments": '{"q": '}}) + chunk(
        {"function_call": {"arguments": last}}
    )
    upstream.script("m", pieces + finish("stop") + done())
    if whole_call:
        assert collected(await answer(endpoint)).finish_reason == "function_call"
    else:
        assert isinstance((await failure(endpoint))[1], StreamBroken)


async def test_an_empty_function_call_is_none(upstream: Upstream, endpoint: Endpoint) -> None:
    """Some servers send its fields, empty, with every chunk."""
    upstream.script(
        "m", chunk({"content": "Four.", "function_call": {"name": "", "arguments": ""}}) + finish() + done()
    )
    deltas = await answer(endpoint)
    assert [delta.extra for delta in deltas] == [None] * len(deltas)
    assert collected(deltas).finish_reason == "stop"


async def test_an_empty_answer_is_an_answer(upstream: Upstream, endpoint: Endpoint) -> None:
    """An answer without words and with a finish reason is complete, with its usage."""
    upstream.script("m", say(""))
    assert await answer(endpoint) == [Delta(finish_reason="stop"), Delta(usage=Usage(10, 5))]


async def test_a_tool_call_streams_in_pieces(upstream: Upstream, endpoint: Endpoint) -> None:
    """Pieces of a tool call join to the call."""
    upstream.script("m", call_tool("add", {"a": 2, "b": 2}))
    result = collected(await answer(endpoint))
    assert result.finish_reason == "tool_calls"
    assert result.tool_calls == (
        {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}},
    )


async def test_tool_calls_without_an_index_stay_apart(upstream: Upstream, endpoint: Endpoint) -> None:
    """Whole calls that a server sends without an index are not joined to one."""
    calls = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("one", "two")]
    upstream.script("m", chunk({"tool_calls": calls}) + finish("tool_calls") + done())
    assert [call["id"] for call in collected(await answer(endpoint)).tool_calls] == ["one", "two"]


async def test_arguments_that_are_an_object_become_json(upstream: Upstream, endpoint: Endpoint) -> None:
    """Some servers send the object itself; clients expect its JSON text."""
    call = {"index": 0, "id": "1", "function": {"name": "add", "arguments": {"a": 2}}}
    upstream.script("m", chunk({"tool_calls": [call]}) + finish("tool_calls") + done())
    assert collected(await answer(endpoint)).tool_calls[0]["function"] == {"name": "add", "arguments": '{"a": 2}'}


async def test_other_fields_pass_through(upstream: Upstream, endpoint: Endpoint) -> None:
    """Fields that this project does not read (logprobs, refusal) are in ``extra`` unchanged; empty fields are not."""
    logprobs = {"content": [{"token": "I", "logprob": -0.1}]}
    upstream.script(
        "m",
        chunk({"content": "I", "refusal": "no", "audio": None, "annotations": []}, logprobs=logprobs)
        + finish()
        + done(),
    )
    assert (await answer(endpoint))[0] == Delta("I", extra={"logprobs": logprobs, "refusal": "no"})


async def test_only_the_first_choice_is_read(upstream: Upstream, endpoint: Endpoint) -> None:
    """A second choice, which was not requested, does not mix into the answer."""
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
async def test_chunks_without_content_are_skipped(upstream: Upstream, endpoint: Endpoint, odd: Script) -> None:
    """Chunks without content are skipped wherever they appear."""
    upstream.script("m", odd + words("Four.") + odd + finish() + odd + done())
    deltas = await answer(endpoint)
    assert [*deltas[:2], *deltas[3:]] == [Delta("Four."), Delta(finish_reason="stop")]


async def test_packets_may_be_cut_anywhere(upstream: Upstream, endpoint: Endpoint) -> None:
    """Characters cut between packets and lines that end in CR LF are read correctly."""
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
    """A server that does not stream sends one body, and that is the answer."""
    message = {"role": "assistant", "content": "Four.", "tool_calls": None}
    counts = {"prompt_tokens": 3, "completion_tokens": 1}
    upstream.script(
        "m", whole({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": counts})
    )
    assert await answer(endpoint) == [Delta("Four.", finish_reason="stop"), Delta(usage=Usage(3, 1))]


# Usage


async def test_usage_is_read_completely(upstream: Upstream, endpoint: Endpoint) -> None:
    """Cached and reasoning tokens and OpenRouter's cost are read."""
    counts: dict[str, Any] = {"prompt_tokens_details": {"cached_tokens": 7}, "cost": 0.25}
    counts |= {"completion_tokens_details": {"reasoning_tokens": 4}}
    upstream.script("m", words("Four.") + finish() + usage(10, 5, **counts) + done())
    assert (await answer(endpoint))[-1] == Delta(usage=Usage(10, 5, 7, 4), cost=Cost(0.25))


async def test_deepseek_reports_cached_tokens_in_its_own_field(upstream: Upstream, endpoint: Endpoint) -> None:
    """``prompt_cache_hit_tokens`` are cached tokens."""
    upstream.script("m", words("Four.") + finish() + usage(10, 5, prompt_cache_hit_tokens=7) + done())
    assert collected(await answer(endpoint)).usage == Usage(10, 5, 7)


async def test_missing_usage_is_estimated(upstream: Upstream, endpoint: Endpoint) -> None:
    """Without a report, usage is characters / 4 of the prompt and the output, marked estimated."""
    upstream.script("m", say("It is four.", tokens=None))
    assert (await answer(endpoint))[-1] == Delta(usage=Usage(6, 3, estimated=True))


async def test_usage_in_every_chunk_is_given_once(upstream: Upstream, endpoint: Endpoint) -> None:
    """Of running counts only the last is the usage."""
    upstream.script("m", words("It") + usage(10, 1) + words(" is") + usage(10, 2) + finish() + usage(10, 3) + done())
    assert [delta.usage for delta in await answer(endpoint) if delta.usage] == [Usage(10, 3)]


# Endings


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(finish() + done(), id="done"),
        pytest.param(done(), id="done without a finish reason"),
        pytest.param(finish(), id="no done"),
        pytest.param(chunk({"content": ""}, "stop"), id="finish reason beside empty content"),
        pytest.param(finish() + drop(), id="dropped after the finish reason"),
        pytest.param(finish() + raw(b'data: {"cho') + drop(), id="dropped in the chunk after the finish reason"),
        pytest.param(finish() + raw(b'data: {"cho'), id="cut in the chunk after the finish reason"),
        pytest.param(raw(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}'), id="no last newline"),
    ],
)
async def test_a_finish_reason_completes_an_answer(upstream: Upstream, endpoint: Endpoint, ending: Script) -> None:
    """After the finish reason, nothing that follows can break the answer."""
    upstream.script("m", words("Four.") + ending)
    result = collected(await answer(endpoint))
    assert (result.text, result.finish_reason, result.usage) == ("Four.", "stop", Usage(6, 2, estimated=True))


async def test_a_server_that_is_silent_after_the_finish_reason_is_left(upstream: Upstream) -> None:
    """After the finish reason, a silent server gets a short time for its usage."""
    upstream.script("m", words("Four.") + finish() + hang())
    async with impatient(upstream, stall=0.2) as endpoint:
        assert collected(await answer(endpoint)).text == "Four."
    await soon(upstream.requests[0].disconnected)


async def test_a_server_that_is_silent_after_the_finish_reason_is_left_without_a_stall_limit(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a limit between tokens, an answer is complete even when its server never closes the connection."""
    monkeypatch.setattr("moa.models.endpoint._AFTER_FINISH", 0.05)
    upstream.script("m", words("Four.") + finish() + hang())
    async with Endpoint("here", upstream.base_url, timeouts=Timeouts(stall=None)) as endpoint:
        result = collected(await answer(endpoint))
    assert (result.text, result.finish_reason, result.usage.estimated) == ("Four.", "stop", True)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        pytest.param(Script(), "ended without a finish reason", id="no finish reason"),
        pytest.param(drop(), "connection was lost", id="dropped"),
        pytest.param(error_event("Out of memory"), "broke off: Out of memory", id="an error event"),
        pytest.param(error_event("Slow down", code=429), "broke off: Slow down", id="429 after words"),
        pytest.param(raw(b"event: error\ndata: Out of memory\n\n"), "broke off: Out of memory", id="a named event"),
        pytest.param(data('{"object": "error", "message": "Out"}'), "broke off: Out", id="an error object"),
        pytest.param(chunk({}, "error", error={"message": "Bang"}), "broke off: Bang", id="an error in the choice"),
        pytest.param(data('{"choices": ['), "not part of an answer", id="broken JSON"),
        pytest.param(data('{"choices": 7}'), "not part of an answer", id="another API's JSON"),
        pytest.param(chunk({"content": 7}), "not part of an answer", id="content that is a number"),
        pytest.param(
            chunk({"tool_calls": [{"index": "__proto__"}]}),
            "not part of an answer",
            id="a tool call with an index that is no number",
        ),
        pytest.param(
            chunk({"tool_calls": [{"index": 0, "function": {"name": 7}}]}),
            "not part of an answer",
            id="a tool call with a name that is a number",
        ),
        pytest.param(data("[" * 100_000), "not part of an answer", id="JSON nested too deep"),
    ],
)
async def test_an_answer_that_breaks_off_is_an_error(
    upstream: Upstream, endpoint: Endpoint, ending: Script, reason: str
) -> None:
    """A broken answer is an error, whatever it held; its tokens are counted, since they are paid for."""
    upstream.script("m", words("It is fo") + ending)
    deltas, error = await failure(endpoint)
    assert type(error) is StreamBroken
    assert reason in str(error)
    assert deltas[-1] == Delta(usage=Usage(6, 2, estimated=True))
    assert collected(deltas).text == "It is fo"


async def test_an_empty_stream_is_broken_and_free(upstream: Upstream, endpoint: Endpoint) -> None:
    """A stream that ends before its first token is an error without a bill."""
    upstream.script("m", head())
    deltas, error = await failure(endpoint)
    assert (deltas, type(error)) == ([], StreamBroken)


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
async def test_an_error_with_status_200_is_read_by_its_code(
    upstream: Upstream, endpoint: Endpoint, event: Script, kind: type[ModelError]
) -> None:
    """An error with status 200, before the first token, is the error of its code."""
    upstream.script("m", event)
    deltas, error = await failure(endpoint)
    assert (deltas, type(error)) == ([], kind)
