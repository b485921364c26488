"""Asking with await: a run, its events, its answer, and sampling by keyword."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from moa import Mixture, Request, Scripted
from moa.errors import NoProposals, RequestRejected
from moa.mixture.events import AgentFinished, AgentStarted, Event, RunFinished, RunStarted
from tests.mixture.panels import panel

pytestmark = pytest.mark.anyio


def sent(mixture: Mixture) -> Request:
    """The last request that the aggregator got."""
    model: Any = mixture.aggregator.model
    request: Request = model.requests[-1]
    return request


# -- a run -------------------------------------------------------------------------------------------------------------


async def test_a_run_closes_by_itself_and_keeps_its_answer() -> None:
    """async with closes the run; run.answer is what has come so far, complete after the last event."""
    async with panel().run("Why?") as run:
        async for event in run:
            if isinstance(event, AgentFinished) and event.agent == "ann":
                assert "one" in [call.text for call in run.answer.calls]
                assert run.answer.text == ""
    assert run.answer.text == "merged"
    assert len(run.answer.proposals) == 2


async def test_leaving_a_run_early_cancels_every_call() -> None:
    """Whether by break or by an error, leaving the block closes the calls before it continues."""
    slow = Scripted("word " * 100, name="x/slow", tokens_per_second=1)
    async with Mixture([], slow).run("Why?") as run:
        async for event in run:
            if isinstance(event, AgentStarted):
                break
    assert slow.running == 0
    with pytest.raises(StopAsyncIteration):
        await anext(run)


async def test_a_run_can_be_iterated_as_it_is() -> None:
    """Without async with it is a plain async iterator, and aclose() may be called at any time."""
    run = panel().run("Why?")
    assert isinstance([event async for event in run][-1], RunFinished)
    await run.aclose()
    assert run.answer.text == "merged"
    await panel().run("Why?").aclose()


async def test_a_failed_run_does_not_raise_and_says_why() -> None:
    """run.answer.error holds the error that answer() would raise."""
    async with Mixture([[Scripted("", name="x/a")]], Scripted("x", name="x/l")).run("Why?") as run:
        async for _ in run:
            pass
    assert isinstance(run.answer.error, NoProposals)


@pytest.mark.parametrize("is_async", [False, True])
async def test_answer_calls_a_function_with_every_event(is_async: bool) -> None:
    """on_event may be sync or async; an async one is awaited before the next event."""
    seen: list[Event] = []

    async def note(event: Event) -> None:
        seen.append(event)

    answer = await panel().answer("Why?", on_event=note if is_async else seen.append)
    assert answer.text == "merged"
    assert isinstance(seen[0], RunStarted)
    assert isinstance(seen[-1], RunFinished)


async def test_stream_takes_any_question() -> None:
    """A text, messages, a body and a request all do; sampling may be given by keyword."""
    messages = [{"role": "user", "content": "Why?"}]
    for question in ("Why?", messages, {"messages": messages}, Request.of("Why?")):
        mixture = panel()
        text = "".join([delta.text async for delta in mixture.stream(question, top_k=7)])
        assert (text, sent(mixture).body["top_k"]) == ("merged", 7)


# -- sampling by keyword -----------------------------------------------------------------------------------------------


async def test_sampling_is_given_by_keyword() -> None:
    """Keywords are fields of the request, a vendor's own too; they override a body's, and None removes one."""
    mixture = panel()
    body = {"messages": [{"role": "user", "content": "Why?"}], "temperature": 1.0, "max_tokens": 5}
    await mixture.answer(body, temperature=0.2, max_tokens=None, my_vendor_field={"a": 1})
    fields = {key: value for key, value in sent(mixture).body.items() if key != "messages"}
    assert fields == {"temperature": 0.2, "my_vendor_field": {"a": 1}}
    assert await asyncio.to_thread(mixture.ask, "Why?", top_p=0.5)
    assert sent(mixture).body["top_p"] == 0.5


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("temprature", "'temprature' is no field of a request; did you mean 'temperature'?"),
        ("on_events", "'on_events' is no field of a request; did you mean 'on_event'?"),
        ("max_cost", "'max_cost' is a setting of the mixture, not a field of a request: Mixture(…, max_cost=…)"),
        ("messages", "'messages' is no keyword: pass the list of messages as the question"),
    ],
)
async def test_a_wrong_keyword_is_refused_before_any_call(keyword: str, message: str) -> None:
    """A misspelt field would be sent to every provider, and most refuse it with an error of their own."""
    mixture: Any = panel()
    with pytest.raises(TypeError) as caught:
        await mixture.answer("Why?", **{keyword: 1})
    assert message in str(caught.value)
    with pytest.raises(TypeError):
        mixture.run("Why?", **{keyword: 1})


async def test_a_malformed_question_is_refused_by_each_way_to_ask() -> None:
    """run() raises at once, before it is iterated."""
    with pytest.raises(RequestRejected):
        panel().run("")
    with pytest.raises(RequestRejected):
        panel().ask("")
    with pytest.raises(RequestRejected):
        await anext(panel().stream(""))
