"""What requests cost their keys: each one is admitted within its key's limits, and charged when its runs have ended."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from moa.closing import Closing
from moa.messages import Answer, Request
from moa.mixture.mixture import Mixture
from moa.server.failures import Refusal
from moa.server.forecast import Forecast
from moa.server.keys import Key
from moa.store.bookings import Bookings
from moa.store.ledger import Claim, OverLimit

AGAIN = 5.0
"""Seconds after which a caller should retry when the store could not be written."""

log = logging.getLogger("moa.server")


class Charge:
    """The cost of one request. A request of a key without limits is only booked.

    Args:
        mixture: answers the request.
        choices: how many runs the request has.
    """

    def __init__(
        self, bookings: Bookings, forecast: Forecast, key: Key, mixture: Mixture, request: Request, choices: int
    ) -> None:
        self._bookings, self._forecast, self._key, self._mixture = bookings, forecast, key, mixture
        self._request, self._choices = request, choices
        self._claim: Claim | None = None
        self._dollars = 0.0  # not booked yet
        self._settled = False

    @asynccontextmanager
    async def within_limits(self, slot: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
        """The request's slot, if the key's limits allow the request. One that gets no slot counts for no limit.

        Raises:
            Refusal: 429, a limit of the key is reached, or there is no slot; 503, the store cannot be written.
        """
        await self._admit()
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(slot)
            except BaseException:
                if self._claim:
                    self._bookings.release(self._claim)
                raise
            try:
                yield
            finally:
                self._settle()

    def add(self, answer: Answer, outcome: str) -> None:
        """A run has ended. After the last one everything is booked, so that the caller's next request finds it booked."""
        dollars = answer.cost.dollars or 0.0
        if outcome in ("answered", "degraded"):
            self._forecast.learn(self._mixture, dollars)
        self._choices -= 1
        if self._claim is None:
            self._bookings.spend(self._key.id, dollars)
            return
        self._dollars += dollars
        if self._settled or self._choices == 0:
            self._settle()

    async def _admit(self) -> None:
        key = self._key
        if key.requests_per_minute is None and key.dollars_per_day is None:
            return
        estimate = 0.0
        if key.dollars_per_day is not None:
            estimate = self._forecast.dollars(self._mixture, self._request, self._choices)
        claim = Claim(key.id, key.requests_per_minute, key.dollars_per_day, estimate)
        try:
            over = await self._bookings.claim(claim)
        except sqlite3.Error as error:
            log.error("the run store failed: %s", error)
            message = "the server cannot count this request for its key's limits; see the server's log"
            raise Refusal(503, message, "server_error", "store_failed", retry_after=AGAIN) from None
        if over:
            raise _refusal(key, over, estimate)
        self._claim = claim

    def _settle(self) -> None:
        if self._claim and (self._dollars or not self._settled):
            self._bookings.settle(self._claim, self._dollars)
            self._settled, self._dollars = True, 0.0


class Charges(Closing):
    """Charges of requests; closing it writes what is not booked yet."""

    def __init__(self, bookings: Bookings, forecast: Forecast) -> None:
        self._bookings, self._forecast = bookings, forecast

    def of(self, key: Key, mixture: Mixture, request: Request, choices: int = 1) -> Charge:
        """The charge of a request, before it begins."""
        return Charge(self._bookings, self._forecast, key, mixture, request, choices)

    def close(self) -> None:
        self._bookings.close()


def _refusal(key: Key, over: OverLimit, estimate: float) -> Refusal:
    """The refusal of a request that a limit forbids."""
    match over.limit:
        case "requests":
            message = f"key {key.name!r} has reached its limit of {key.requests_per_minute} requests in 60 seconds"
            return Refusal(429, message, "rate_limit_error", "rate_limit_exceeded", retry_after=over.wait)
        case "dollars":
            message = f"key {key.name!r} has spent its budget of ${key.dollars_per_day:g} for 24 hours"
            return Refusal(429, message, "insufficient_quota", "insufficient_quota", retry_after=over.wait)
        case _:
            message = (
                f"key {key.name!r} has ${over.left:.4g} left of its ${key.dollars_per_day:g} for 24 hours, which its "
                f"requests in flight may use; this one may cost ${estimate:.4g}: retry when one of them has ended"
            )
            return Refusal(429, message, "rate_limit_error", "rate_limit_exceeded", retry_after=over.wait)
