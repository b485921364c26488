from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from moa.errors import (
    CallRejected,
    KeyRejected,
    ModelError,
    RateLimited,
    StreamBroken,
    TimedOut,
    Unreachable,
    UpstreamFailed,
)
from moa.messages import Delta, Request
from moa.models import Model
from moa.models.limits import Limited, Limits
from moa.models.retries import Retried
from moa.models.scripted import Scripted
from tests.fakes.virtual_time import run_in_virtual_time
from tests.models.calling import HELLO, deltas_of, text_of

pytestmark = pytest.mark.anyio

NAME = "scripted/a"


def impatient(model: Model) -> Retried:
    """Retries without a wait."""
    return Retried(model, wait_initial=0, wait_jitter=0)


@pytest.mark.parametrize("kind", [Unreachable, RateLimited, UpstreamFailed, StreamBroken])
async def test_retries_failures_that_may_pass(kind: type[ModelError]) -> None:
    """A call that fails before its first delta, for a reason that may pass, is retried."""
    model = Scripted([kind(NAME, "not now"), kind(NAME, "not now"), "hello"], name=NAME)
    assert await text_of(impatient(model)) == "hello"
    assert model.requests == [HELLO] * 3


async def test_gives_up_after_the_last_attempt_with_its_error() -> None:
    """When every attempt fails, the last error is raised."""
    model = Scripted([UpstreamFailed(NAME, f"failure {n}") for n in (1, 2, 3)], name=NAME)
    with pytest.raises(UpstreamFailed, match="failure 3"):
        await deltas_of(impatient(model))


@pytest.mark.parametrize(
    "error",
    [
        KeyRejected(NAME, "no", status=401),
        CallRejected(NAME, "no", status=404),
        TimedOut(NAME, "no token for 600 s"),
    ],
)
async def test_does_not_retry_permanent_failures(error: ModelError) -> None:
    """A rejected key and a rejected call are not retried, nor is a call that was silent for too long: it may be billed."""
    model = Scripted([error, "hello"], name=NAME)
    with pytest.raises(type(error)):
        await deltas_of(Retried(model))
    assert len(model.requests) == 1


@pytest.mark.parametrize("reasoning", ["", "Thinking."])
async def test_does_not_retry_after_the_first_delta(reasoning: str) -> None:
    """A stream that breaks after its first delta, text or reasoning, is not retried: the reader has that delta already."""
    model = Scripted("hello there", name=NAME, reasoning=reasoning, fail_after=1)
    with pytest.raises(StreamBroken):
        await deltas_of(Retried(model))
    assert len(model.requests) == 1


async def test_retries_after_an_empty_delta() -> None:
    """A server that opens its stream with an empty chunk and then fails is called again."""

    class OpensEmpty:
        name = NAME
        calls = 0

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            self.calls += 1
            yield Delta()
            if self.calls == 1:
                raise UpstreamFailed(NAME, "overloaded")
            yield Delta(text="hello")

    assert await text_of(impatient(OpensEmpty())) == "hello"


def test_waits_as_long_as_the_server_asks() -> None:
    """``Retry-After`` replaces the usual wait, and the jitter only adds to it."""

    async def finished_at() -> float:
        model = Scripted([RateLimited(NAME, "slow down", retry_after=30), "hello"], name=NAME)
        await deltas_of(Retried(model, wait_max=5, wait_jitter=2))
        return asyncio.get_running_loop().time()

    assert 30 <= run_in_virtual_time(finished_at()) <= 32


async def test_gives_up_when_the_server_asks_for_too_long_a_wait() -> None:
    """A ``Retry-After`` beyond the limit is not waited for; the error still holds it."""
    model = Scripted([RateLimited(NAME, "come back tomorrow", retry_after=86_400), "hello"], name=NAME)
    with pytest.raises(RateLimited) as caught:
        await deltas_of(Retried(model))
    assert caught.value.retry_after == 86_400
    assert len(model.requests) == 1


def test_waits_double_up_to_a_maximum() -> None:
    """Without ``Retry-After``, each wait is twice the one before, up to ``wait_max``."""

    async def finished_at() -> float:
        model = Scripted([*[Unreachable(NAME, "no answer")] * 4, "hello"], name=NAME)
        await deltas_of(Retried(model, attempts=5, wait_initial=1, wait_max=3, wait_jitter=0))
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(finished_at()) == 1 + 2 + 3 + 3


def test_starts_no_attempt_after_the_timeout() -> None:
    """``timeout`` limits when another attempt may start, not how long an attempt may take."""

    async def attempts() -> int:
        model = Scripted(Unreachable(NAME, "no answer"), name=NAME, first_token=10)
        with pytest.raises(Unreachable):
            await deltas_of(Retried(model, attempts=99, timeout=0.000_001))
        return len(model.requests)

    assert run_in_virtual_time(attempts()) == 1


async def test_cancellation_is_not_retried() -> None:
    """A call that is cancelled while it waits for its first delta stops at once and is not retried."""
    model = Scripted("hello", name=NAME, first_token=60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await deltas_of(Retried(model))
    assert (len(model.requests), model.cancelled, model.running) == (1, 1, 0)


async def test_closing_early_closes_the_call_inside() -> None:
    """Closing the stream of a wrapped model closes the call inside."""
    model = Scripted("hello there", name=NAME)
    async with aclosing(Limited(Retried(model), Limits(1)).stream(HELLO)) as deltas:
        waiting = [await anext(deltas), await anext(deltas)]
        assert [delta.in_flight for delta in waiting] == [0, 1]
        assert await anext(deltas) == Delta(text="hello ")
    assert (model.cancelled, model.running) == (1, 0)
