from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

import pytest

from moa.errors import RateLimited, UpstreamFailed
from moa.messages import Request, Usage
from moa.models.limits import Limited, Limits
from moa.models.scripted import Scripted
from tests.fakes.virtual_time import run_in_virtual_time
from tests.fakes.waiting import PATIENCE
from tests.models.calling import HELLO, deltas_of, text_of

pytestmark = pytest.mark.anyio

NAME = "scripted/a"


def test_calls_beyond_max_concurrency_wait_in_order() -> None:
    """Calls beyond ``max_concurrency`` wait for a slot, and get it in the order in which they came."""

    async def run() -> tuple[int, list[str], float]:
        model = Scripted("hello", name=NAME, first_token=1)
        limits = Limits(max_concurrency=2)
        most = 0

        async def ask(question: str) -> None:
            nonlocal most
            async for _ in Limited(model, limits).stream(Request.of(question)):
                most = max(most, model.running)

        await asyncio.gather(*(ask(str(n)) for n in range(6)))
        return most, [r.body["messages"][0]["content"] for r in model.requests], asyncio.get_running_loop().time()

    assert run_in_virtual_time(run()) == (2, ["0", "1", "2", "3", "4", "5"], 3.0)


async def test_a_slot_is_released_however_the_call_ends() -> None:
    """Closing early, failing and being cancelled all release the slot."""
    limits = Limits(max_concurrency=1)
    async with aclosing(Limited(Scripted("hello there"), limits).stream(HELLO)) as deltas:
        await anext(deltas)
    with pytest.raises(UpstreamFailed):
        await deltas_of(Limited(Scripted(UpstreamFailed(NAME, "overloaded")), limits))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await deltas_of(Limited(Scripted("hello", first_token=60), limits))
    async with asyncio.timeout(PATIENCE):
        assert await text_of(Limited(Scripted("hello"), limits)) == "hello"


async def started_at(limits: Limits, requests: list[Request], used: int | None = None) -> list[float]:
    """When each request, made at once, reached a model that reports so many tokens (None: what was charged)."""
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def answer(request: Request) -> Scripted:
        times.append(loop.time())
        charged = 6 + int(request.body.get("max_tokens", 500))
        return Scripted("hello", usage=Usage(output_tokens=charged if used is None else used))

    model = Limited(Scripted(answer, name=NAME), limits)
    await asyncio.gather(*(deltas_of(model, request) for request in requests))
    return times


def test_requests_per_minute() -> None:
    """A minute's worth of calls starts at once; the others start as the minute passes."""
    times = run_in_virtual_time(started_at(Limits(requests_per_minute=4), [HELLO] * 7))
    assert times == pytest.approx([0, 0, 0, 0, 15, 30, 45])


@pytest.mark.parametrize(("used", "second_start"), [(600, 60), (60, 6), (1200, 120)])
def test_tokens_per_minute_are_corrected_by_the_usage(used: int, second_start: float) -> None:
    """A call is charged an estimate of its tokens, corrected by its reported usage in either direction."""
    request = HELLO.replaced(max_tokens=594)  # 6 tokens of input make 600

    async def one_after_the_other() -> list[float]:
        limits = Limits(tokens_per_minute=600)
        return await started_at(limits, [request], used) + await started_at(limits, [request], used)

    assert run_in_virtual_time(one_after_the_other()) == pytest.approx([0, second_start])


def test_a_request_larger_than_the_bucket_waits_for_an_empty_bucket() -> None:
    """A call that needs more than a minute's tokens starts in its turn, and later calls wait for its excess to drain."""
    small, large = HELLO.replaced(max_tokens=94), HELLO.replaced(max_tokens=1_994)  # 100 and 2,000 tokens
    times = run_in_virtual_time(started_at(Limits(tokens_per_minute=1_000), [small, large, small]))
    assert times == pytest.approx([0, 6, 6 + (2_000 + 100 - 1_000) * 60 / 1_000])


def test_limits_outlive_an_event_loop() -> None:
    """One object works in one event loop after another, with waiting calls in each."""
    limits = Limits(max_concurrency=1, requests_per_minute=2, tokens_per_minute=100_000)
    for _ in range(3):
        assert run_in_virtual_time(started_at(limits, [HELLO] * 3)) == pytest.approx([0, 0, 30])


def test_limits_must_be_above_zero() -> None:
    """A limit of 0 is refused."""
    with pytest.raises(ValueError, match="above 0"):
        Limits(max_concurrency=0)


@pytest.mark.parametrize("wait", [3, 0.5])
def test_a_rate_limited_call_holds_back_the_others(wait: float) -> None:
    """Calls to any model of the endpoint wait until the time that the server gave; nothing else delays them."""

    async def run() -> list[float]:
        loop = asyncio.get_running_loop()
        limits = Limits()
        with pytest.raises(RateLimited):
            await deltas_of(Limited(Scripted(RateLimited("x/a", "slow", retry_after=wait), name="x/a"), limits))
        times = []

        async def ask(name: str) -> None:
            await deltas_of(Limited(Scripted("hello", name=name), limits))
            times.append(loop.time())

        await asyncio.gather(*(ask(f"x/{n}") for n in range(3)))
        await ask("x/late")
        return times

    assert run_in_virtual_time(run()) == [wait] * 4


def test_a_long_wait_holds_nothing_back() -> None:
    """With a wait beyond a minute each call is made, so that its fallback answers; so it is with a quota that is used up."""

    async def run() -> float:
        limits = Limits()
        used_up = RateLimited("x/a", "quota", retry_after=30)
        used_up.retryable = False
        for error in (RateLimited("x/a", "slow", retry_after=3600), used_up, RateLimited("x/a", "slow")):
            with pytest.raises(RateLimited):
                await deltas_of(Limited(Scripted(error, name="x/a"), limits))
        await deltas_of(Limited(Scripted("hello"), limits))
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(run()) == 0


def test_a_held_call_can_be_cancelled() -> None:
    """A call that is held back ends at once when it is cancelled, and gives its slot back."""

    async def run() -> float:
        limits = Limits(max_concurrency=1)
        with pytest.raises(RateLimited):
            await deltas_of(Limited(Scripted(RateLimited("x/a", "slow", retry_after=50), name="x/a"), limits))
        held = asyncio.create_task(deltas_of(Limited(Scripted("hello"), limits)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await held
        assert asyncio.get_running_loop().time() == 2
        await deltas_of(Limited(Scripted("hello"), limits))
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(run()) == 50


def test_a_refused_call_gives_its_tokens_back() -> None:
    """A server counts no tokens for a call that it refuses, so its retry need not wait for them."""

    async def run() -> float:
        limits = Limits(tokens_per_minute=10_000)
        request = Request.of({"messages": [{"role": "user", "content": "?"}], "max_tokens": 8000})
        for script in (RateLimited("x/a", "slow"), "hello"):
            with suppress(RateLimited):
                async for _ in Limited(Scripted(script, name="x/a"), limits).stream(request):
                    pass
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(run()) == 0
