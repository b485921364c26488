"""The limits of a job that many workers share: one process grants slots, calls, tokens and dollars, workers lease them.

Nothing here knows how the two talk. :class:`Leases` is the one process's part; :class:`Leased` and :class:`LeasedAllowance`
are a worker's, and reach it through any object with the same methods, which may be far away.

Notable decisions:
- Slots are leased several at a time, since each lease is a round trip. A worker keeps what it uses and gives back the rest;
  one that has more than its share gives a slot back after each call.
- A worker that is not heard of for :data:`EXPIRY` seconds is dead: its slots come back, and its rows in flight count as paid
  at the price of the most expensive row so far.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from moa.batch.spending import OverLimit, Share, Spending
from moa.errors import ModelError
from moa.messages import Cost, Delta, Request
from moa.models import Model
from moa.models.catalog import Access
from moa.models.limits import Bucket, estimated_tokens
from moa.models.wrapper import Wrapper

EXPIRY = 30.0
"""Seconds without a word after which a worker counts as dead."""

HEARTBEAT = 5.0
"""Seconds between two words of a worker."""

LINGER = 0.1
"""Seconds for which a worker keeps a slot that it does not use."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one endpoint, as :class:`~moa.models.catalog.Access` has them."""

    max_concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    @classmethod
    def of(cls, access: Access) -> Bounds:
        return cls(access.max_concurrency, access.requests_per_minute, access.tokens_per_minute)

    def __bool__(self) -> bool:
        return any((self.max_concurrency, self.requests_per_minute, self.tokens_per_minute))


class Lessor(Protocol):
    """What a worker asks of the one process; see :class:`Leases`."""

    async def join(self, worker: str) -> int: ...
    async def slots(self, worker: str, endpoint: str, bounds: Bounds, wanted: int) -> int: ...
    async def give_back(self, worker: str, endpoint: str, count: int) -> None: ...
    async def admit_call(self, endpoint: str, bounds: Bounds, tokens: float) -> None: ...
    async def settle_tokens(self, endpoint: str, tokens: float) -> None: ...
    async def admit_row(self, worker: str) -> bool: ...
    async def settle_row(self, worker: str, dollars: float) -> None: ...


def share_of(bounds: Bounds, workers: int) -> int:
    """The slots of an endpoint that a worker may keep while others wait for some."""
    return max(1, math.ceil((bounds.max_concurrency or 0) / max(1, workers)))


class Leases:
    """Grants what a job may use. All methods run in one event loop.

    Args:
        max_cost: US dollars that the job may cost, what was spent before included; None for no limit.
        spent: US dollars that earlier starts of the job have cost.
    """

    def __init__(self, max_cost: float | None = None, spent: float = 0.0) -> None:
        self._spending = Spending(max_cost, Cost(spent))
        self._endpoints: dict[str, _Endpoint] = {}
        self._heard: dict[str, float] = {}
        self._rows: Counter[str] = Counter()
        self._dearest = 0.0
        self._watch: asyncio.Task[None] | None = None

    @property
    def dollars(self) -> float:
        """What the job has cost so far, and in its earlier starts."""
        return self._spending.cost.dollars or 0.0

    async def join(self, worker: str) -> int:
        """The worker lives; returns how many do. Call it again every :data:`HEARTBEAT` seconds."""
        self._heard[worker] = asyncio.get_running_loop().time()
        if self._watch is None:
            self._watch = asyncio.create_task(self._expire())
        return len(self._heard)

    async def slots(self, worker: str, endpoint: str, bounds: Bounds, wanted: int) -> int:
        """Lease up to so many slots; waits for one, and returns how many. A worker that has not joined gets none."""
        place = self._endpoint(endpoint, bounds)
        granted = await place.grant(worker, wanted, share_of(bounds, len(self._heard)))
        if worker not in self._heard:  # it has died meanwhile
            place.expire(worker)
            return 0
        return granted

    async def give_back(self, worker: str, endpoint: str, count: int) -> None:
        """The worker does not use so many of its slots any longer."""
        self._endpoints[endpoint].take_back(worker, count)

    async def admit_call(self, endpoint: str, bounds: Bounds, tokens: float) -> None:
        """Wait until the limits per minute allow one call with so many tokens."""
        place = self._endpoint(endpoint, bounds)
        if place.calls:
            await place.calls.pour(1)
        if place.tokens:
            await place.tokens.pour(tokens)

    async def settle_tokens(self, endpoint: str, tokens: float) -> None:
        """A call took so many tokens more than it was admitted for."""
        if bucket := self._endpoints[endpoint].tokens:
            bucket.settle(tokens)

    async def admit_row(self, worker: str) -> bool:
        """Whether the limit on cost allows one more row; waits while rows in flight decide that."""
        try:
            await self._spending.admit(Share())
        except OverLimit:
            return False
        self._rows[worker] += 1
        return True

    async def settle_row(self, worker: str, dollars: float) -> None:
        """A row has ended, and has cost so much."""
        self._rows[worker] -= 1
        self._dearest = max(self._dearest, dollars)
        self._spending.cost += Cost(dollars)
        await self._spending.settle(Share(admitted=True, dollars=dollars))

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY / 6)
            now = asyncio.get_running_loop().time()
            for worker in [worker for worker, heard in self._heard.items() if now - heard > EXPIRY]:
                del self._heard[worker]
                for endpoint in self._endpoints.values():
                    endpoint.expire(worker)
                for _ in range(self._rows.pop(worker, 0)):
                    await self.settle_row(worker, self._dearest)

    def _endpoint(self, name: str, bounds: Bounds) -> _Endpoint:
        if name not in self._endpoints:
            self._endpoints[name] = _Endpoint(bounds)
        return self._endpoints[name]


class _Endpoint:
    """What is leased of one endpoint. ``held``: slots by worker."""

    def __init__(self, bounds: Bounds) -> None:
        self.most = bounds.max_concurrency or 0
        self.calls = Bucket(bounds.requests_per_minute) if bounds.requests_per_minute else None
        self.tokens = Bucket(bounds.tokens_per_minute) if bounds.tokens_per_minute else None
        self.held: Counter[str] = Counter()
        self._free = self.most
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()

    async def grant(self, worker: str, wanted: int, share: int) -> int:
        if not self._free or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((worker, turn))
            await turn  # one slot was taken out for it
        else:
            self._free -= 1
        more = max(0, min(wanted - 1, self._free, share - self.held[worker] - 1))
        self._free -= more
        self.held[worker] += 1 + more
        return 1 + more

    def take_back(self, worker: str, count: int) -> None:
        count = min(count, self.held[worker])
        self.held[worker] -= count
        self._release(count)

    def expire(self, worker: str) -> None:
        self._release(self.held.pop(worker, 0))

    def _release(self, count: int) -> None:
        self._free += count
        while self._free and self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)


class LeasedAllowance:
    """What rows may cost, by a lease: an :class:`~moa.batch.answering.Allowance`."""

    def __init__(self, lessor: Lessor, worker: str) -> None:
        self._lessor, self._worker = lessor, worker

    @asynccontextmanager
    async def row(self) -> AsyncIterator[Share]:
        if not await self._lessor.admit_row(self._worker):
            raise OverLimit
        share = Share(admitted=True)
        try:
            yield share
        finally:
            await self._lessor.settle_row(self._worker, share.dollars)


class Slots:
    """A worker's slots of one endpoint. ``workers``: how many share them, as far as this one knows."""

    workers = 1

    def __init__(self, lessor: Lessor, worker: str, endpoint: str, bounds: Bounds) -> None:
        self._lessor, self._worker, self._endpoint, self._bounds = lessor, worker, endpoint, bounds
        self._held = self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._leasing: asyncio.Task[None] | None = None
        self._giving = set[asyncio.Task[None]]()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a slot."""
        await self._take()
        try:
            yield
        finally:
            self._in_use -= 1
            if self._held > share_of(self._bounds, self.workers):
                self._give_back(1)  # another worker may wait for it; if none does, it comes back
            self._pass_on()

    async def _take(self) -> None:
        if self._in_use < self._held and not self._waiting:
            self._in_use += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._lease()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._in_use -= 1
                self._pass_on()
            raise

    def _lease(self) -> None:
        if self._leasing is None or self._leasing.done():
            self._leasing = asyncio.create_task(self._leased())

    async def _leased(self) -> None:
        while wanted := len(self._waiting):
            granted = await self._lessor.slots(self._worker, self._endpoint, self._bounds, wanted)
            self._held += granted
            if not granted:
                self.workers = await self._lessor.join(self._worker)
            self._pass_on()

    def _pass_on(self) -> None:
        """Give free slots to those who wait; the rest goes back, soon."""
        while self._waiting and self._in_use < self._held:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_use += 1
                turn.set_result(None)
        if self._waiting:
            self._lease()
        elif self._in_use < self._held:
            asyncio.get_running_loop().call_later(LINGER, self._give_back_idle)

    def _give_back_idle(self) -> None:
        if not self._waiting and self._in_use < self._held:
            self._give_back(self._held - self._in_use)

    def _give_back(self, count: int) -> None:
        self._held -= count
        task = asyncio.create_task(self._lessor.give_back(self._worker, self._endpoint, count))
        self._giving.add(task)
        task.add_done_callback(self._giving.discard)


class Leased(Wrapper):
    """A model whose calls wait for what the job's limits allow all workers together."""

    def __init__(self, model: Model, lessor: Lessor, endpoint: str, bounds: Bounds, slots: Slots) -> None:
        super().__init__(model)
        self._lessor, self._endpoint, self._bounds, self._slots = lessor, endpoint, bounds, slots

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the answer.

        Raises:
            ModelError: the model failed.
        """
        by_the_minute = self._bounds.requests_per_minute or self._bounds.tokens_per_minute
        charged = estimated_tokens(request)
        yield Delta(in_flight=0)
        async with self._slots.one() if self._bounds.max_concurrency else nullcontext():
            if by_the_minute:
                await self._lessor.admit_call(self._endpoint, self._bounds, charged)
            yield Delta(in_flight=1)
            used: float | None = None
            try:
                async with aclosing(self.model.stream(request)) as deltas:
                    async for delta in deltas:
                        if delta.usage:
                            used = delta.usage.total_tokens
                        yield delta
            except ModelError as error:
                used = used if error.billable else 0
                raise
            finally:
                if self._bounds.tokens_per_minute and used is not None:
                    await self._lessor.settle_tokens(self._endpoint, used - charged)


class Worker:
    """A worker's part: the models that its catalog opens wait for leases. Pass :meth:`around` to the catalog."""

    def __init__(self, lessor: Lessor, name: str) -> None:
        self.lessor, self.name = lessor, name
        self._slots: dict[str, Slots] = {}

    def around(self, provider: str, access: Access, model: Model) -> Model:
        """The model, bound by the job's limits of its endpoint."""
        bounds = Bounds.of(access)
        if not bounds:
            return model
        if provider not in self._slots:
            self._slots[provider] = Slots(self.lessor, self.name, provider, bounds)
        return Leased(model, self.lessor, provider, bounds, self._slots[provider])

    async def live(self) -> None:
        """Say that this worker lives, again and again, until cancelled."""
        while True:
            workers = await self.lessor.join(self.name)
            for slots in self._slots.values():
                slots.workers = workers
            await asyncio.sleep(HEARTBEAT)
