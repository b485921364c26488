from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from moa import Delta, Function, Mixture, Request, Usage
from moa.errors import ConfigError, ModelError, RateLimited
from moa.messages import Cost, collected, text_of
from moa.models import traits_of
from tests.fakes.waiting import PATIENCE
from tests.models import calling
from tests.models.calling import HELLO, deltas_of

pytestmark = pytest.mark.anyio


def shout(request: Request) -> str:
    return text_of(request.messages[-1]).upper()


async def shout_later(request: Request) -> str:
    await asyncio.sleep(0)
    return shout(request)


def shout_word_by_word(request: Request) -> Iterator[str]:
    for word in shout(request).split(" "):
        yield f"{word} "


async def shout_word_by_word_later(request: Request) -> AsyncIterator[str]:
    for word in shout_word_by_word(request):
        await asyncio.sleep(0)
        yield word


class Shouting:
    async def __call__(self, request: Request) -> str:
        return shout(request)


def shout_at(who: str, request: Request) -> str:
    return shout(request)


@pytest.mark.parametrize(
    "function",
    [
        shout,
        shout_later,
        shout_word_by_word,
        shout_word_by_word_later,
        Shouting(),
        partial(shout_at, "everyone"),
        lambda request: shout_later(request),
        lambda request: shout_word_by_word_later(request),
        lambda request: Delta(text=shout(request)),
    ],
)
async def test_any_kind_of_function_is_a_model(function: Any) -> None:
    """A function may return or yield, be synchronous or asynchronous; finish reason, usage and cost are added."""
    answer = collected(await deltas_of(Function(function)))
    assert answer.text.strip() == "SAY HELLO TO EVERYONE."
    assert (answer.finish_reason, answer.usage.estimated, answer.cost) == ("stop", True, Cost(0.0))
    assert answer.usage.input_tokens == HELLO.tokens


async def test_pieces_arrive_when_the_function_yields_them() -> None:
    """A caller reads the first piece while the function still works on the second."""
    go_on = threading.Event()

    def slow(request: Request) -> Iterator[str]:
        yield "first"
        assert go_on.wait(PATIENCE)
        yield "second"

    async with aclosing(Function(slow).stream(HELLO)) as deltas:
        assert await anext(deltas) == Delta(text="first")
        go_on.set()
        assert await anext(deltas) == Delta(text="second")


async def test_a_function_may_yield_whole_deltas() -> None:
    """Reasoning, tool calls, the finish reason, usage and a cost of the function's own are passed on, and not added."""
    given = [
        Delta(reasoning="Hm."),
        Delta(text="hello", finish_reason="length"),
        Delta(usage=Usage(3, 4), cost=Cost(0.5)),
    ]
    assert await deltas_of(Function(lambda request: iter(given))) == given


@pytest.mark.parametrize("cost", [0.25, None])
async def test_the_cost_of_a_call_can_be_set(cost: float | None) -> None:
    """``cost`` is the price of each call, and None leaves it unknown."""

    def counting(request: Request) -> Iterator[str | Delta]:
        yield "hello"
        yield Delta(usage=Usage(3, 4))

    model = Function(counting, cost=cost)
    assert (await deltas_of(model))[-2:] == [Delta(usage=Usage(3, 4), cost=Cost(cost)), Delta(finish_reason="stop")]


def test_its_name() -> None:
    """The name is the function's own unless one is given; its identity is the name unless one is given."""
    assert Function(shout).name == "function/shout"
    assert Function(lambda request: "").name == "function/lambda"
    assert Function(Shouting()).name == "function/Shouting"
    assert Function(shout, name="mine/loud").name == "mine/loud"
    assert traits_of(Function(shout)).identity == "function/shout"
    assert traits_of(Function(shout, identity="shout 2")).identity == "shout 2"


async def test_a_failure_names_the_model_the_function_and_the_error() -> None:
    """An exception in a function is a ModelError; an error of this package's own keeps its kind."""

    def fails(request: Request) -> str:
        raise KeyError("documents")

    async def fails_later(request: Request) -> str:
        raise KeyError("documents")

    async def overloaded(request: Request) -> str:
        raise RateLimited("mine/inner", "slow down", retry_after=3)

    with pytest.raises(ModelError, match="mine/a: fails raised KeyError: 'documents'") as caught:
        await deltas_of(Function(fails, name="mine/a"))
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(ModelError, match="mine/a: fails_later raised KeyError"):
        await deltas_of(Function(fails_later, name="mine/a"))
    with pytest.raises(RateLimited):
        await deltas_of(Function(overloaded))


@pytest.mark.parametrize("wrong", [None, 3, {"text": "hello"}, ["hello"], b"hello"])
async def test_a_result_that_is_no_answer_is_named(wrong: Any) -> None:
    """A function that gives anything but strings and deltas fails with the type that it gave."""
    with pytest.raises(ModelError, match=f"lambda> returned {type(wrong).__name__} .*; expected strings or Deltas"):
        await deltas_of(Function(lambda request: wrong))
    with pytest.raises(ModelError, match=f"returned {type(wrong).__name__}"):
        await deltas_of(Function(lambda request: iter([wrong])))


def test_something_that_is_no_function_is_refused() -> None:
    """A string in place of a function is refused where it is written."""
    with pytest.raises(ConfigError, match="needs a function that takes a Request, not 'hello'"):
        Function("hello")  # type: ignore[arg-type]


async def test_blocking_functions_do_not_wait_for_each_other() -> None:
    """Many synchronous functions run at the same time, and the event loop keeps running."""
    many = threading.Barrier(50)

    def meet(request: Request) -> str:
        many.wait(PATIENCE)
        return "hello"

    async with asyncio.timeout(PATIENCE):
        texts = await asyncio.gather(*(calling.text_of(Function(meet)) for _ in range(50)))
    assert texts == ["hello"] * 50


async def test_a_cancelled_call_stops_a_generator_at_its_next_piece() -> None:
    """Closing the stream ends a synchronous generator, and its ``finally`` runs."""
    closed, go_on = threading.Event(), threading.Event()

    def endless(request: Request) -> Iterator[str]:
        try:
            yield "first"
            assert go_on.wait(PATIENCE)
            while True:
                yield "more"
        finally:
            closed.set()

    async with aclosing(Function(endless).stream(HELLO)) as deltas:
        await anext(deltas)
    go_on.set()
    assert await asyncio.to_thread(closed.wait, PATIENCE)


async def test_a_cancelled_call_does_not_wait_for_its_thread() -> None:
    """A timeout around a blocking function passes in time; the function's result is discarded."""
    end = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await deltas_of(Function(lambda request: str(end.wait(PATIENCE))))
    end.set()


async def test_a_cancelled_call_cancels_an_asynchronous_function() -> None:
    """An asynchronous function and an asynchronous generator are cancelled with the call."""
    cancelled = []

    async def forever(request: Request) -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append("function")
            raise
        return ""

    async def endless(request: Request) -> AsyncIterator[str]:
        try:
            while True:
                yield "more"
        finally:
            cancelled.append("generator")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await deltas_of(Function(forever))
    async with aclosing(Function(endless).stream(HELLO)) as deltas:
        await anext(deltas)
    assert cancelled == ["function", "generator"]


async def test_a_function_sees_the_callers_context() -> None:
    """Context variables (a trace, a logger's fields) reach the thread."""
    trace: ContextVar[str] = ContextVar("trace")
    trace.set("abc")
    assert await calling.text_of(Function(lambda request: trace.get())) == "abc"


async def test_functions_in_a_mixture() -> None:
    """Functions can propose, and aggregate: the references are in the request."""

    def merge(request: Request) -> str:
        return "merged" if "SAY HELLO" in text_of(request.messages[-1]) else "no references"

    answer = await Mixture([[Function(shout), Function(shout_later)]], Function(merge)).answer(HELLO)
    assert (answer.text, answer.cost, answer.degraded) == ("merged", Cost(0.0), ())


@pytest.mark.parametrize("error", [StopIteration("x"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_a_function_that_raises_anything_at_all_fails_only_its_call(error: BaseException) -> None:
    """asyncio gives some exceptions a meaning of its own; from a function they are errors like any other."""

    def broken(request: Request) -> str:
        raise error

    with pytest.raises(ModelError, match=f"broken raised {type(error).__name__}"):
        [delta async for delta in Function(broken).stream(Request.of("Why?"))]
