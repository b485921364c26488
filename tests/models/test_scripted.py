from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.errors import CallRejected, RateLimited, StreamBroken
from moa.messages import Delta, Request, Usage, collected, pieces_of, text_of
from moa.models import Model
from moa.models.scripted import Scripted
from tests.fakes.virtual_time import run_in_virtual_time
from tests.models.calling import HELLO, deltas_of

pytestmark = pytest.mark.anyio


async def test_streams_text_then_finish_reason_then_usage() -> None:
    """A plain script streams its words; the last two deltas hold the finish reason and an estimated usage."""
    assert await deltas_of(Scripted("hello there")) == [
        Delta(text="hello "),
        Delta(text="there"),
        Delta(finish_reason="stop"),
        Delta(usage=Usage(input_tokens=6, output_tokens=3, estimated=True)),
    ]


def test_is_a_model() -> None:
    """A scripted model has the shape of every model."""
    assert isinstance(Scripted("hello"), Model)
    assert Scripted("hello", name="scripted/a").name == "scripted/a"


@given(st.text())
def test_pieces_concatenate_to_the_text(text: str) -> None:
    """For every text, its pieces joined are the text, and no piece is empty."""
    pieces = pieces_of(text)
    assert "".join(pieces) == text
    assert all(pieces)


async def test_a_script_may_be_a_function() -> None:
    """A script can be a function of the request: here, an echo."""
    echo = Scripted(lambda request: text_of(request.messages[-1]))
    assert collected(await deltas_of(echo)).text == "Say hello to everyone."


async def test_a_function_may_raise_or_return_another_script() -> None:
    """A function may return another scripted model, with its own ending; an error that it raises is raised."""

    def script(request: Request) -> Scripted:
        if "hello" in text_of(request.messages[-1]):
            return Scripted("hi", finish_reason="length")
        raise CallRejected("scripted/model", "say hello first")

    model = Scripted(script)
    assert collected(await deltas_of(model)).finish_reason == "length"
    with pytest.raises(CallRejected, match="say hello first"):
        await deltas_of(model, Request.of("Bye."))


async def test_a_list_has_one_answer_per_call() -> None:
    """A list is used answer by answer, errors among them; a call beyond its end is refused."""
    model = Scripted([RateLimited("scripted/model", "slow down"), "first", lambda _: "second"])
    with pytest.raises(RateLimited):
        await deltas_of(model)
    assert [collected(await deltas_of(model)).text for _ in range(2)] == ["first", "second"]
    with pytest.raises(CallRejected, match="ends after 3 answers"):
        await deltas_of(model)
    assert model.requests == [HELLO] * 4


async def test_fails_after_so_many_pieces() -> None:
    """After ``fail_after`` pieces the stream breaks, without a finish reason."""
    received = []
    with pytest.raises(StreamBroken):
        async for delta in Scripted("one two three", fail_after=2).stream(HELLO):
            received.append(delta)  # noqa: PERF401 - the deltas before the failure are the point
    assert received == [Delta(text="one "), Delta(text="two ")]


@pytest.mark.parametrize("fail_after", [None, 0, 1, 99])
async def test_an_error_is_always_raised(fail_after: int | None) -> None:
    """An error comes before the first piece by default, and at the latest in place of the finish reason."""
    model = Scripted("hello", error=RateLimited("scripted/model", "slow down", retry_after=3), fail_after=fail_after)
    with pytest.raises(RateLimited) as caught:
        await deltas_of(model)
    assert caught.value.retry_after == 3


async def test_streams_reasoning_text_and_tool_calls() -> None:
    """Reasoning comes before the text, tool calls after it, in pieces that join to the whole."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    deltas = await deltas_of(Scripted("Let me look.", reasoning="They ask about Paris.", tool_calls=[call]))
    answer = collected(deltas)
    assert (answer.reasoning, answer.text, answer.tool_calls) == ("They ask about Paris.", "Let me look.", (call,))
    assert answer.finish_reason == "tool_calls"
    assert answer.usage == Usage(input_tokens=6, output_tokens=14, reasoning_tokens=6, estimated=True)
    assert sum(bool(delta.tool_calls) for delta in deltas) > 2


async def test_reports_the_given_usage() -> None:
    """A given usage is reported as it is, not marked estimated."""
    usage = Usage(input_tokens=10, output_tokens=20)
    assert collected(await deltas_of(Scripted("hello", usage=usage))).usage == usage


def test_keeps_the_given_pace() -> None:
    """The first piece comes after ``first_token`` seconds, and the others at ``tokens_per_second``."""

    async def times() -> list[float]:
        loop = asyncio.get_running_loop()
        model = Scripted("one two three", first_token=2.0, tokens_per_second=4)
        return [loop.time() async for delta in model.stream(HELLO) if delta.text]

    assert run_in_virtual_time(times()) == [2.0, 2.25, 2.5]


def test_a_slow_reader_does_not_slow_it_down() -> None:
    """Each piece is due at its own time: a slow reader finds the next ones waiting."""

    async def whole() -> float:
        async for _ in Scripted("one two three four", tokens_per_second=1).stream(HELLO):
            await asyncio.sleep(0.5)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(whole()) == pytest.approx(3 + 3 * 0.5)


async def test_concurrent_calls_interleave_without_a_pace() -> None:
    """Even without any wait, two models stream in turns, not one after the other."""
    order: list[str] = []

    async def listen(name: str) -> None:
        async for _ in Scripted("one two three").stream(HELLO):
            order.append(name)  # noqa: PERF401 - an async comprehension would add them at the end, all at once

    await asyncio.gather(listen("a"), listen("b"))
    assert order[:6] == ["a", "b"] * 3


async def test_counts_cancelled_calls() -> None:
    """A call that is closed early or cancelled is counted; one that is read to its end is not."""
    model = Scripted("one two three", tokens_per_second=0.001)
    async with aclosing(model.stream(HELLO)) as deltas:
        await anext(deltas)
        assert (model.running, model.cancelled) == (1, 0)
    assert (model.running, model.cancelled) == (0, 1)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await deltas_of(model)
    assert (model.running, model.cancelled) == (0, 2)

    quick = Scripted("one")
    async with aclosing(quick.stream(HELLO)) as deltas:
        async for delta in deltas:
            if delta.finish_reason:
                break
    assert (quick.running, quick.cancelled) == (0, 0)
