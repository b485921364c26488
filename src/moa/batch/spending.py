"""What a job of many items spends, and its limit on cost.

An item starts only if the limit still holds when it and every item in flight cost as much as the most expensive item of
their kind so far. The first item of a kind runs alone among its kind, since nothing is known of its cost yet; until it has
ended, it counts as estimated, or else as the most expensive item of any kind.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from moa.errors import ConfigError
from moa.messages import Cost


class OverLimit(Exception):
    """An item would exceed the limit on cost."""


@dataclass(slots=True)
class Share:
    """One item: its kind, whether it has made a call, and the US dollars it has cost."""

    kind: str = ""
    admitted: bool = False
    dollars: float = 0.0


_share: ContextVar[Share] = ContextVar("_share")
"""The item for which the current task makes calls."""


class Spending:
    """The cost of all calls so far, and the limit on it.

    Args:
        limit: US dollars; None for no limit.
        cost: the cost of earlier calls.
        dearest: US dollars of the most expensive item of the kind "" so far; None if there is none.
    """

    def __init__(self, limit: float | None, cost: Cost, dearest: float | None = None) -> None:
        self.limit, self.cost = limit, cost
        self._dearest: dict[str, float] = {} if dearest is None else {"": dearest}
        self._expected: dict[str, float] = {}
        self._in_flight: Counter[str] = Counter()
        self._settled = asyncio.Condition()

    def expect(self, kind: str, dollars: float) -> None:
        """What an item of a kind is estimated to cost, which counts until one has ended."""
        self._expected[kind] = dollars

    @asynccontextmanager
    async def item(self, kind: str = "") -> AsyncIterator[Share]:
        """An item; the calls that the current task makes inside are its own."""
        share = Share(kind)
        _share.set(share)
        try:
            yield share
        finally:
            await self.settle(share)

    async def settle(self, share: Share) -> None:
        """An item has ended (call it once), and its share is what it cost; does nothing for one that was not admitted."""
        if share.admitted:
            async with self._settled:
                self._in_flight[share.kind] -= 1
                self._dearest[share.kind] = max(self._dearest.get(share.kind, 0.0), share.dollars)
                self._settled.notify_all()

    async def admit(self, share: Share | None = None) -> None:
        """Admit an item, by default the current one, once the limit allows it; wait while items in flight decide that.

        Raises:
            OverLimit: the item would exceed the limit.
        """
        share = share or _share.get(None)
        if share is None or share.admitted:
            return
        async with self._settled:
            while not self._affords(share.kind):
                if not self._in_flight.total():
                    raise OverLimit
                await self._settled.wait()
            share.admitted = True
            self._in_flight[share.kind] += 1

    def _affords(self, kind: str) -> bool:
        """Whether one more item of a kind stays within the limit, each as expensive as the most expensive of its kind."""
        if self.limit is None:
            return True
        spent = self.cost.dollars or 0.0
        if kind not in self._dearest and (self._in_flight[kind] or spent >= self.limit):
            return False
        unknown = max(self._dearest.values(), default=0.0)
        most = {**dict.fromkeys(self._in_flight, unknown), kind: unknown, **self._expected, **self._dearest}
        running = self._in_flight + Counter([kind])
        return spent + sum(most[each] * count for each, count in running.items()) <= self.limit

    def add(self, cost: Cost, model: str) -> None:
        """Add the cost of a call of this model.

        Raises:
            ConfigError: there is a limit, and the price of the model is unknown.
        """
        self.cost += cost
        if share := _share.get(None):
            share.dollars += cost.dollars or 0.0
        if self.limit is not None and (cost.dollars is None or cost.at_least):
            raise ConfigError(
                f"--max-cost cannot be enforced: the price of {model} is unknown; set it in moa.toml under [prices]"
            )


class Admitted:
    """The allowance of one row that the job has admitted already."""

    def __init__(self, spending: Spending, share: Share) -> None:
        self._spending, self._share = spending, share

    @asynccontextmanager
    async def row(self) -> AsyncIterator[Share]:
        try:
            yield self._share
        finally:
            self._spending.cost += Cost(self._share.dollars)
            await self._spending.settle(self._share)
