"""Closing a run: it ends soon whatever its models do, calls nothing more, and leaves no exception unread."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from moa import Delta, Mixture, Request, Scripted
from moa.answers import Usage
from moa.closing import cancelled
from moa.events import AgentFinished
from moa.models.hedge import Hedged
from moa.schedules import Quorum
from tests.fakes.virtual_time import run_in_virtual_time
from tests.fakes.waiting import holds
from tests.mixture.panels import model


class Stubborn:
    """Swallows every cancellation until it is released; then its stream ends, with a whole answer or without one."""

    def __init__(self, name: str = "mine/stubborn", *, answers: bool = True) -> None:
        self.name, self.answers = name, answers
        self.released = False
        self.calls = 0
        self.cancelled = asyncio.Event()

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.calls += 1
        while not self.released:
            try:
                await asyncio.sleep(0.005 if self.cancelled.is_set() else 60)
            except asyncio.CancelledError:
                self.cancelled.set()
                if not self.answers:
                    return
        yield Delta(text="late", finish_reason="stop")


@pytest.fixture
async def unread() -> AsyncIterator[list[dict[str, Any]]]:
    """What the event loop reports of exceptions that nobody read."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    yield reports
    gc.collect()
    await asyncio.sleep(0)
    assert reports == []


@pytest.mark.parametrize(
    "mixture",
    [
        lambda stubborn: Mixture([[stubborn]], Scripted("x", name="x/last")),
        lambda stubborn: Mixture([[model("one")]], stubborn),
        lambda stubborn: Mixture([[stubborn]], Scripted("x", name="x/last"), schedule=Quorum(1, hedge=0.001)),
        lambda stubborn: Mixture([[Mixture([[stubborn]], model("x"))]], Scripted("x", name="x/last")),
    ],
    ids=["proposer", "aggregator", "hedged", "nested"],
)
def test_closing_does_not_wait_for_a_model_that_ignores_it(mixture: Callable[[Stubborn], Mixture]) -> None:
    """A run ends within a second of being closed, although a model swallows its cancellation."""

    async def seconds_to_close() -> float:
        loop, stubborn, reports = asyncio.get_running_loop(), Stubborn(), list[dict[str, Any]]()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        reading = asyncio.create_task(_read(mixture(stubborn).run("Why?")))
        await holds(lambda: stubborn.calls)
        started = loop.time()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        took = loop.time() - started
        stubborn.released = True
        await holds(lambda: len(asyncio.all_tasks()) == 1)
        del reading
        gc.collect()
        assert reports == []
        return took

    assert run_in_virtual_time(seconds_to_close()) < 0.8


async def _read(events: AsyncGenerator[Any, None]) -> None:
    async for _ in events:
        pass


def test_a_stubborn_loser_does_not_hold_up_the_answer() -> None:
    """A proposer that was dropped cannot delay the end of the run."""

    async def seconds_to_answer() -> float:
        stubborn = Stubborn()
        mixture = Mixture([[model("one"), stubborn]], model("fine", "x/last"), schedule=Quorum(1, grace=0.01))
        assert (await mixture.answer("Why?")).text == "fine"
        took = asyncio.get_running_loop().time()
        stubborn.released = True
        await holds(lambda: len(asyncio.all_tasks()) == 1)
        return took

    assert run_in_virtual_time(seconds_to_answer()) < 0.8


@pytest.mark.anyio
async def test_nothing_is_called_after_a_cancellation_that_a_model_swallowed() -> None:
    """An aggregator that answers its cancellation with an empty stream has no fallback called in its place."""
    stubborn, fallback = Stubborn(answers=False), model("paid for", "x/fallback")
    reading = asyncio.create_task(_read(Mixture([[model("one")]], stubborn, fallbacks=[fallback]).run("Why?")))
    await holds(lambda: stubborn.calls)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (stubborn.cancelled.is_set(), fallback.requests) == (True, [])


@pytest.mark.anyio
async def test_an_exception_in_a_cancelled_task_is_read(unread: list[dict[str, Any]]) -> None:
    """A task that fails while it is cancelled, or had failed before, is not reported by the event loop."""

    async def fails(when: asyncio.Event) -> None:
        try:
            await when.wait()
        finally:
            raise ValueError("too late")

    never, at_once = asyncio.Event(), asyncio.Event()
    at_once.set()
    tasks = [asyncio.create_task(fails(never)), asyncio.create_task(fails(at_once))]
    await asyncio.sleep(0)
    await cancelled(*tasks)
    del tasks


@pytest.mark.anyio
async def test_a_hedged_call_that_fails_as_it_is_given_up_is_not_reported(unread: list[dict[str, Any]]) -> None:
    """Of two hedged calls the loser may fail in the very moment in which the winner begins."""

    class Racing:
        name = "mine/racing"

        def __init__(self) -> None:
            self.calls = 0

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            self.calls += 1
            if self.calls == 1:
                try:
                    await asyncio.sleep(60)
                finally:
                    raise ValueError("it failed while it was given up")
            yield Delta(text="won", finish_reason="stop")

    deltas = [delta async for delta in Hedged(Racing(), 0.001).stream(Request.of("Why?"))]
    assert "".join(delta.text for delta in deltas) == "won"


@pytest.mark.anyio
async def test_what_nobody_read_of_a_closed_run_counts() -> None:
    """A reader that falls behind and leaves loses no call that has ended, and none that is in flight."""
    ended, stubborn = model("paid for", "x/one", usage=Usage(50, 7)), Stubborn()
    run = Mixture([[ended, stubborn]], model("x")).run("Why?")
    await anext(run)
    await holds(lambda: stubborn.calls)
    for _ in range(20):
        await asyncio.sleep(0)
    stubborn.released = True
    await run.aclose()
    assert [(call.agent, call.text) for call in run.answer.calls] == [("one", "paid for"), ("stubborn", "")]
    assert run.answer.usage == Usage(50, 7)
    assert run.estimated_answer.usage.input_tokens > 50
    assert any(isinstance(event, AgentFinished) for event in run.unread)
