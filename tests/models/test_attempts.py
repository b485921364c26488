"""Every attempt of a call is reported with what it cost: known, estimated, or nothing where it reached no model."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from moa.answers import Attempt, Cost, Delta, Usage
from moa.errors import (
    CallRejected,
    KeyRejected,
    ModelError,
    RateLimited,
    StreamBroken,
    Unreachable,
    UpstreamFailed,
)
from moa.messages import Request
from moa.models.answer_store import Cache
from moa.models.cache import Cached
from moa.models.hedge import Hedged
from moa.models.limits import Limited, Limits
from moa.models.retries import Retried
from moa.models.scripted import Scripted
from moa.pieces import collected
from moa.prices import Price, Prices
from tests.fakes.virtual_time import run_in_virtual_time
from tests.models.calling import deltas_of

pytestmark = pytest.mark.anyio

NAME = "scripted/a"
QUESTION = Request.of("x" * 400)


def attempts_in(deltas: list[Delta]) -> list[Attempt]:
    return [delta.attempt for delta in deltas if delta.attempt]


FREE, ESTIMATED = Usage(), Usage(100, estimated=True)
KINDS: list[tuple[type[ModelError], Usage]] = [
    (Unreachable, FREE),
    (RateLimited, FREE),
    (UpstreamFailed, ESTIMATED),
    (StreamBroken, ESTIMATED),
]


@pytest.mark.parametrize(("kind", "usage"), KINDS)
async def test_a_retried_attempt_is_free_only_where_it_reached_no_model(kind: type[ModelError], usage: Usage) -> None:
    """Without reported usage, the prompt's tokens are estimated; the wait for the retry comes after the report."""
    model = Retried(Scripted([kind(NAME, "not now"), "hello"], name=NAME), wait_initial=0, wait_jitter=0)
    deltas = await deltas_of(model, QUESTION)
    cost = None if usage.estimated else Cost()
    assert attempts_in(deltas) == [Attempt(f"{NAME}: not now", usage, cost)]
    assert collected(deltas).usage.input_tokens == usage.input_tokens + 100


@pytest.mark.parametrize("kind", [CallRejected, KeyRejected, RateLimited, Unreachable])
def test_four_kinds_of_failure_are_never_billed(kind: type[ModelError]) -> None:
    """Nothing reached a model."""
    assert not kind(NAME, "no").billable


class Reporting:
    """Reports its usage, and fails the first time."""

    name = NAME

    def __init__(self) -> None:
        self.calls = 0

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.calls += 1
        if self.calls == 1:
            yield Delta(usage=Usage(7, 3), cost=Cost(0.5))
            raise StreamBroken(NAME, "gone")
        yield Delta("hello", finish_reason="stop", usage=Usage(7, 2))


async def test_a_failed_attempt_costs_what_its_server_reports() -> None:
    """The reported usage and cost of a failed attempt are added to those of the answer."""
    deltas = await deltas_of(Retried(Reporting(), wait_initial=0, wait_jitter=0), QUESTION)
    assert attempts_in(deltas) == [Attempt(f"{NAME}: gone", Usage(7, 3), Cost(0.5))]
    assert Prices({"*": Price(0, 1e6)}, free=frozenset()).price_of(NAME, deltas) == Cost(2.5)


async def test_a_cached_answer_holds_no_attempts(tmp_path: Path) -> None:
    """What an answer took to get is paid for once."""
    with Cache(tmp_path / "answers.sqlite") as cache:
        model = Cached(Retried(Reporting(), wait_initial=0, wait_jitter=0), cache)
        assert attempts_in(await deltas_of(model, QUESTION))
        assert not attempts_in(await deltas_of(model, QUESTION))


def test_the_slower_of_two_hedged_calls_is_estimated() -> None:
    """Its prompt was sent, and nobody reports what that cost."""
    slow = Scripted([Scripted("one", first_token=9), Scripted("two", first_token=1)], name=NAME, usage=Usage(7, 2))
    deltas = run_in_virtual_time(deltas_of(Hedged(slow, after=1), QUESTION))
    assert attempts_in(deltas) == [Attempt("the other one of two calls began first", Usage(100, estimated=True))]
    assert collected(deltas).text == "two"


def test_a_hedged_call_that_is_refused_is_free() -> None:
    """Retries inside a hedge are reported, too."""
    refused = Scripted(
        [Scripted("one", first_token=2), RateLimited(NAME, "busy"), RateLimited(NAME, "busy")], name=NAME
    )
    model = Hedged(Retried(refused, attempts=2, wait_initial=0, wait_jitter=0), after=1)
    deltas = run_in_virtual_time(deltas_of(model, QUESTION))
    assert [attempt.usage for attempt in attempts_in(deltas)] == [FREE, FREE]
    assert collected(deltas).text == "one"


def test_a_hedged_call_that_fails_when_it_is_given_up_leaves_no_unretrieved_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its error is read when the call is closed."""

    class Stubborn:
        name = NAME
        calls = 0

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            self.calls += 1
            if self.calls == 2:
                await asyncio.sleep(1)
                yield Delta("two", finish_reason="stop")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise UpstreamFailed(NAME, "cut off") from None

    with caplog.at_level(logging.ERROR, "asyncio"):
        deltas = run_in_virtual_time(deltas_of(Hedged(Stubborn(), after=1), QUESTION))
        assert collected(deltas).text == "two"
        assert [attempt.reason for attempt in attempts_in(deltas)] == [f"{NAME}: cut off"]
        gc.collect()
    assert not caplog.records


def test_a_call_that_waits_for_its_turn_is_not_in_flight() -> None:
    """Whoever abandons it then has paid for no prompt, also where retries are around the limit."""

    async def waiting() -> list[int | None]:
        model = Retried(Limited(Scripted("hello", name=NAME, first_token=9), Limits(1)))
        first = asyncio.create_task(deltas_of(model, QUESTION))
        await asyncio.sleep(1)
        stream = model.stream(QUESTION)
        reported = [(await anext(stream)).in_flight]
        await first
        return [*reported, (await anext(stream)).in_flight]

    assert run_in_virtual_time(waiting()) == [0, 1]
