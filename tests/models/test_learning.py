"""A model learns from refusals what it does not take."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from moa.errors import CallRejected
from moa.messages import Request
from moa.models import traits_of
from moa.models.endpoint import Endpoint
from moa.models.learning import MOST_LESSONS
from moa.pieces import collected
from tests.fakes.upstream import Body, Script, Upstream, data, done, finish, refuse, say, usage, words
from tests.models.endpoints import answer

pytestmark = pytest.mark.anyio

QUESTION = {"messages": [{"role": "user", "content": "How much is two and two?"}]}


def without(*fields: str) -> Callable[[Body], Script]:
    """An upstream that refuses these fields one at a time, as OpenAI does."""

    def script(body: Body) -> Script:
        refused = next((field for field in fields if field in body), None)
        message = f"Unsupported parameter: '{refused}' is not supported with this model."
        return refuse(400, message) if refused else say("Four.")

    return script


async def test_a_refused_field_is_left_out_from_then_on(upstream: Upstream, endpoint: Endpoint) -> None:
    """The call is made again without the field, a notice says so once, and later calls never have it."""
    upstream.script("m", without("temperature"))
    request = Request.of({**QUESTION, "temperature": 0.2, "top_p": 0.5})
    first, second = await answer(endpoint, request=request), await answer(endpoint, request=request)
    assert collected(first).text == collected(second).text == "Four."
    assert ["temperature" in call.body for call in upstream.requests] == [True, False, False]
    assert all(call.body["top_p"] == 0.5 for call in upstream.requests)
    assert [delta.notice for delta in [*first, *second] if delta.notice] == [
        "here/m does not take temperature: left out"
    ]


async def test_several_fields_are_found_one_after_another(upstream: Upstream, endpoint: Endpoint) -> None:
    """A server may name one field at a time; the calls are bounded, and the last refusal is the error."""
    upstream.script("m", without("temperature", "top_p", "seed"))
    fields = {"temperature": 0.2, "top_p": 0.5, "seed": 1}
    assert collected(await answer(endpoint, request=Request.of({**QUESTION, **fields}))).text == "Four."
    assert len(upstream.requests) == 4
    many = {f"field_{number}": 1 for number in range(MOST_LESSONS + 3)}
    upstream.script("hard", without(*many))
    with pytest.raises(CallRejected, match=f"field_{MOST_LESSONS}'"):
        await answer(endpoint, "hard", Request.of({**QUESTION, **many}))
    assert len(upstream.requests) == 4 + 1 + MOST_LESSONS


async def test_what_a_failed_call_seemed_to_teach_is_forgotten(upstream: Upstream, endpoint: Endpoint) -> None:
    """A server that quotes a field in a refusal of something else still gets the field in later calls."""
    upstream.script("m", refuse(400, "no: 'temperature'"), refuse(400, "no"), say("Four."))
    request = Request.of({**QUESTION, "temperature": 0.2})
    with pytest.raises(CallRejected):
        await answer(endpoint, request=request)
    await answer(endpoint, request=request)
    assert ["temperature" in call.body for call in upstream.requests] == [True, False, True]


async def test_a_refused_value_is_not_remembered(upstream: Upstream, endpoint: Endpoint) -> None:
    """A value out of range is left out of this call alone."""
    upstream.script(
        "m",
        lambda body: refuse(400, "temperature must be at most 1") if body.get("temperature", 0) > 1 else say("Four."),
    )
    for temperature in (1.5, 0.5):
        await answer(endpoint, request=Request.of({**QUESTION, "temperature": temperature}))
    assert [call.body.get("temperature") for call in upstream.requests] == [1.5, None, 0.5]


async def test_a_refusal_in_the_stream_teaches_too(upstream: Upstream, endpoint: Endpoint) -> None:
    """Some servers answer 200 and send the refusal as the first event."""
    error = {"error": {"message": "Unsupported parameter: 'temperature'", "code": 400}}
    upstream.script("m", lambda body: data(json.dumps(error)) if "temperature" in body else say("Four."))
    deltas = await answer(endpoint, request=Request.of({**QUESTION, "temperature": 0.2}))
    assert collected(deltas).text == "Four."


async def test_the_role_that_a_model_lacks(upstream: Upstream, endpoint: Endpoint) -> None:
    """A developer's message becomes the system's, and no instruction is lost."""
    refusal = refuse(422, "messages[0].role: unknown variant `developer`, expected one of `system`, `user`")
    upstream.script("m", lambda body: refusal if body["messages"][0]["role"] == "developer" else say("Four."))
    request = Request.of({"messages": [{"role": "developer", "content": "Be brief."}, *QUESTION["messages"]]})
    deltas = await answer(endpoint, request=request)
    assert upstream.requests[-1].body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert [delta.notice for delta in deltas if delta.notice] == ["here/m has no role developer"]


async def test_what_was_learned_is_the_models_profile(upstream: Upstream, endpoint: Endpoint) -> None:
    """The traits of every object that stands for the model have it."""
    upstream.script("m", without("seed"))
    await answer(endpoint, request=Request.of({**QUESTION, "seed": 1}))
    assert "seed" in traits_of(endpoint.model("m")).profile.refuses
    assert endpoint.model("m").learned.facts() == {"refuses": ["seed"]}
    assert endpoint.model("other").learned.facts() == {}


async def test_a_prompt_that_the_server_cut_without_a_word(upstream: Upstream, endpoint: Endpoint) -> None:
    """The tokens that it reports are far fewer than those of the prompt: a notice names the remedy, once it is known."""
    upstream.script("m", words("Four.") + finish() + usage(4095, 1) + done())
    upstream.script("whole", words("Four.") + finish() + usage(9000, 1) + done())
    request = Request.of("Once upon a time, there was. " * 2000)
    notices = [delta.notice for delta in await answer(endpoint, request=request) if delta.notice and delta.degrades]
    assert len(notices) == 1
    assert "here/m read 4,095 of about" in notices[0]
    assert "OLLAMA_CONTEXT_LENGTH" in notices[0]
    assert endpoint.model("m").learned.context_tokens == 4096
    assert not [delta for delta in await answer(endpoint, "whole", request) if delta.notice]


async def test_the_context_of_a_model_is_learned_from_its_refusal(upstream: Upstream, endpoint: Endpoint) -> None:
    """Its refusal of a long prompt has the code that clients act on; a max_tokens that does not fit is lowered."""
    refusal = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"
    upstream.script("m", lambda body: refuse(413, refusal) if body.get("max_tokens", 5000) >= 4096 else say("Four."))
    assert collected(await answer(endpoint, request=Request.of({**QUESTION, "max_tokens": 5000}))).text == "Four."
    assert 3000 < upstream.requests[-1].body["max_tokens"] < 4096
    with pytest.raises(CallRejected) as caught:
        await answer(endpoint, request=Request.of(QUESTION))
    assert caught.value.code == "context_length_exceeded"
    assert endpoint.model("m").learned.context_tokens == 4096
