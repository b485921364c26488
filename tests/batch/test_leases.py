"""Limits of a job that many workers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from moa.batch.answering import answered
from moa.batch.leases import EXPIRY, Bounds, LeasedAllowance, Leases, Slots, Worker
from moa.batch.rows import Raw, Row
from moa.batch.spending import OverLimit
from moa.messages import Delta, Request, Usage
from moa.models.catalog import Access
from tests.batch.conftest import DEAR, mixture
from tests.fakes.virtual_time import run_in_virtual_time

QUESTION = Request.of("Why?")


class Counting:
    """A model that counts how many of its calls are in flight."""

    name = "up/a"

    def __init__(self, seconds: float = 1.0, tokens: int = 10) -> None:
        self.seconds, self.tokens = seconds, tokens
        self.in_flight = self.most = self.calls = 0

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.in_flight += 1
        self.calls += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
            yield Delta(text="so", finish_reason="stop", usage=Usage(self.tokens, 0))
        finally:
            self.in_flight -= 1


async def call(model: object) -> None:
    async for _ in model.stream(QUESTION):  # type: ignore[attr-defined]
        pass


async def in_worker(worker: Worker, model: Counting, access: Access, calls: int) -> None:
    await worker.lessor.join(worker.name)
    living = asyncio.create_task(worker.live())
    leased = worker.around("up", access, model)
    await asyncio.gather(*(call(leased) for _ in range(calls)))
    living.cancel()


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (3, 2), (4, 10), (8, 100)])
def test_calls_at_a_time_are_bounded_for_all_workers_together(workers: int, most: int) -> None:
    """However many workers there are, no more calls are in flight than the endpoint takes, and all slots are used."""

    async def run() -> Counting:
        leases, model = Leases(), Counting()
        await asyncio.gather(
            *(in_worker(Worker(leases, f"w{n}"), model, Access(max_concurrency=most), 25) for n in range(workers))
        )
        return model

    model = run_in_virtual_time(run())
    assert model.calls == workers * 25
    assert model.most == min(most, workers * 25)


def test_a_worker_that_comes_later_gets_its_share() -> None:
    """A worker with many calls gives slots back while another one waits."""

    async def run() -> float:
        leases, model, access = Leases(), Counting(), Access(max_concurrency=4)
        first = asyncio.create_task(in_worker(Worker(leases, "first"), model, access, 200))
        await asyncio.sleep(5.5)
        began = asyncio.get_running_loop().time()
        await in_worker(Worker(leases, "second"), model, access, 4)
        taken = asyncio.get_running_loop().time() - began
        await first
        return taken

    assert run_in_virtual_time(run()) < 12


def test_slots_of_a_dead_worker_come_back() -> None:
    """A worker that is not heard of any more loses its slots, and those who wait get them."""

    async def run() -> float:
        leases, bounds = Leases(), Bounds(max_concurrency=2)
        await leases.join("dead")
        assert await leases.slots("dead", "up", bounds, 5) == 2
        alive = Worker(leases, "alive")
        living = asyncio.create_task(alive.live())
        began = asyncio.get_running_loop().time()
        async with Slots(leases, "alive", "up", bounds).one():
            waited = asyncio.get_running_loop().time() - began
        living.cancel()
        return waited

    assert EXPIRY < run_in_virtual_time(run()) < EXPIRY * 1.5


def test_calls_and_tokens_a_minute_are_bounded_for_all_workers_together() -> None:
    """Three workers with 60 calls each take two minutes beyond the first 60 calls where 60 a minute are allowed."""

    async def run(access: Access, model: Counting) -> float:
        leases = Leases()
        await asyncio.gather(*(in_worker(Worker(leases, f"w{n}"), model, access, 60) for n in range(3)))
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(run(Access(requests_per_minute=60), Counting(0.01))) == pytest.approx(120, abs=3)
    tokens = Access(tokens_per_minute=6000)
    assert run_in_virtual_time(run(tokens, Counting(0.01, tokens=100))) == pytest.approx(
        120, abs=30
    )  # a call is charged an estimate until it has ended


def test_a_job_costs_no_more_than_its_limit_whatever_the_workers_do() -> None:
    """Rows are admitted as long as the limit holds if each in flight costs as much as the dearest; the rest is left out."""

    async def run() -> tuple[Leases, list[str]]:
        leases, outcomes = Leases(max_cost=100.0, spent=20.0), list[str]()

        async def one(worker: str, number: int) -> None:
            row = Row.of(Raw(number, b'{"prompt": "Why?"}'))
            try:
                await answered(row, mixture(prices=DEAR), LeasedAllowance(leases, worker))
                outcomes.append("answered")
            except OverLimit:
                outcomes.append("left out")

        await asyncio.gather(*(one(f"w{number % 3}", number) for number in range(40)))
        return leases, outcomes

    leases, outcomes = run_in_virtual_time(run())
    assert 90 < leases.dollars <= 100
    assert outcomes.count("left out") and len(outcomes) == 40


def test_a_cancelled_call_gives_its_place_to_the_next() -> None:
    """A call that is cancelled while it waits for a slot, or has one, loses none."""

    async def run() -> int:
        leases, model, access = Leases(), Counting(), Access(max_concurrency=1)
        worker = Worker(leases, "w")
        await leases.join("w")
        leased = worker.around("up", access, model)
        tasks = [asyncio.create_task(call(leased)) for _ in range(4)]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return model.calls

    assert run_in_virtual_time(run()) == 3
