"""The number of calls an endpoint takes at a time, found in virtual time."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator

import pytest

from moa.batch.pace import ROW, START, Pace, Paced, Paces
from moa.errors import ModelError, RateLimited, UpstreamFailed
from moa.messages import Delta, Request, collected
from moa.models.catalog import Access
from moa.models.limits import Limited, Limits
from tests.fakes.virtual_time import run_in_virtual_time

ASKED = Request.of("Why?")


class Server:
    """Answers after a lognormal time; refuses calls beyond ``limit``, or lets those beyond ``places`` wait."""

    name = "up/model"

    def __init__(self, *, limit: int = 10**9, places: int = 10**9, shortest: float = 0.2, longest: float = 4.0) -> None:
        self.limit, self.places = limit, asyncio.Semaphore(places)
        self.middle, self.spread = math.log(shortest * longest) / 2, math.log(longest / shortest) / 3.92
        self.random = random.Random(1)
        self.in_flight = self.most = self.refused = self.answered = 0
        self.busy = 0.0

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        if self.in_flight >= self.limit:
            self.refused += 1
            raise RateLimited(self.name, "too many calls", status=429)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            async with self.places:
                seconds = math.exp(self.random.gauss(self.middle, self.spread))
                await asyncio.sleep(seconds)
                self.busy += seconds
            yield Delta(text="x", finish_reason="stop")
            self.answered += 1
        finally:
            self.in_flight -= 1


async def call_all(model: Paced, pace: Pace, calls: int) -> float:
    """Make so many calls as a job does, which begins one when fewer wait than the endpoint needs; seconds that it took."""
    running = set[asyncio.Task[object]]()

    async def one() -> None:
        async for _ in model.stream(ASKED):
            pass

    for _ in range(calls):
        while pace.is_full:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(one())
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(0)
    await asyncio.gather(*running)
    return asyncio.get_running_loop().time()


def test_the_limit_of_an_endpoint_is_found_and_used() -> None:
    """An endpoint that refuses more than 30 calls is kept busy for most of the time, its start and its end included."""

    async def main() -> None:
        server, pace = Server(limit=30), Pace()
        seconds = await call_all(Paced(server, pace), pace, 2000)
        assert server.answered == 2000
        assert server.busy / 30 / seconds > 0.85
        assert server.refused < 2000 / 20

    run_in_virtual_time(main())


def test_a_known_limit_is_reached_fast_and_never_passed() -> None:
    """``max_concurrency`` bounds the calls; the pace grows up to it."""

    async def main() -> None:
        server = Server(limit=20)
        pace = Pace(20)
        seconds = await call_all(Paced(server, pace), pace, 1500)
        assert (server.most, server.refused) == (20, 0)
        assert server.busy / 20 / seconds > 0.9

    run_in_virtual_time(main())


def test_rising_latency_is_a_limit_too() -> None:
    """An endpoint that lets calls wait gets no more than a few times what it works on, and no call is refused."""

    async def main() -> None:
        server, pace = Server(places=20, shortest=0.9, longest=1.1), Pace()
        seconds = await call_all(Paced(server, pace), pace, 1200)
        assert server.busy / 20 / seconds > 0.95
        assert pace.limit < 100
        assert server.most < 250

    run_in_virtual_time(main())


def test_other_models_and_longer_prompts_are_no_rise() -> None:
    """An aggregator's calls take ten times as long as a proposer's; the endpoint is not slower for that."""

    async def main() -> None:
        pace = Pace()
        for model, seconds in (("a", 1.0), ("b", 10.0)) * 400:
            pace._queue.append((0, len(pace._queue), asyncio.get_running_loop().create_future()))
            pace.answered(model, 0.0, seconds)
        assert pace.limit > START

    run_in_virtual_time(main())


def test_a_refused_call_waits_as_long_as_the_server_says() -> None:
    """It is made again at its endpoint's pace, and its caller sees the answer alone."""

    class Busy:
        name = "up/busy"
        calls: list[float] = []  # noqa: RUF012 - one object

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            self.calls.append(asyncio.get_running_loop().time())
            if len(self.calls) < 3:
                raise RateLimited(self.name, "later", status=429, retry_after=10 if len(self.calls) == 1 else None)
            yield Delta(text="Four.", finish_reason="stop")

    async def main() -> None:
        pace = Pace()
        answer = collected([delta async for delta in Paced(Busy(), pace).stream(ASKED)])
        assert answer.text == "Four."
        assert 10 <= Busy.calls[1] <= 15
        assert (pace.in_use, pace.waiting, pace.limit) == (0, 0, START / 4)

    run_in_virtual_time(main())


@pytest.mark.parametrize("final", [True, False])
def test_an_error_that_is_final_or_of_another_kind_is_raised(final: bool) -> None:
    """A used-up quota is no limit on calls at a time; neither is a server's mistake."""
    error: ModelError = (
        RateLimited("up/a", "no credit", status=429) if final else UpstreamFailed("up/a", "500", status=500)
    )
    error.retryable = not final

    class Failing:
        name = "up/a"

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            raise error
            yield Delta()

    async def main() -> None:
        pace = Pace()
        with pytest.raises(type(error)):
            await anext(Paced(Failing(), pace).stream(ASKED))
        assert pace.in_use == 0

    run_in_virtual_time(main())


def test_a_cancelled_call_leaves_its_place() -> None:
    """Whether it waits for a place, has just got one, or is being answered."""

    async def main() -> None:
        server, pace = Server(), Pace(1)

        async def one() -> None:
            async for _ in Paced(server, pace).stream(ASKED):
                pass

        tasks = [asyncio.create_task(one()) for _ in range(4)]
        await asyncio.sleep(0.01)
        assert (pace.in_use, pace.waiting) == (1, 3)
        for task in (tasks[1], tasks[0]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (server.answered, pace.in_use, pace.waiting) == (2, 0, 0)

    run_in_virtual_time(main())


def test_calls_of_earlier_rows_come_first() -> None:
    """A row's last call waits for no first call of a later row."""

    async def main() -> None:
        pace, taken = Pace(1), list[int]()

        async def one(row: int) -> None:
            ROW.set(row)
            await pace.take()
            taken.append(row)
            await asyncio.sleep(1)
            pace.free()

        await asyncio.gather(*(one(row) for row in (5, 4, 3, 1, 2, 1)))
        assert taken == [5, 1, 1, 2, 3, 4]

    run_in_virtual_time(main())


def test_models_of_one_endpoint_share_its_pace() -> None:
    """A limit of an endpoint counts the calls of all its models."""

    async def main() -> None:
        paces = Paces()
        for provider in ("a", "b", "a"):
            paces.around(provider, Access(max_concurrency=3), Server())
        assert [*paces.by_endpoint] == ["a", "b"]
        assert paces.calls == 6

    run_in_virtual_time(main())


def test_an_endpoint_with_limits_of_its_own_grows_too() -> None:
    """Its calls report that they may wait before they know; only those that did wait are no reason to grow."""

    async def main() -> None:
        pace = Pace(400)
        await call_all(Paced(Limited(Server(), Limits(max_concurrency=400)), pace), pace, 500)
        assert pace.limit > 100

    run_in_virtual_time(main())
