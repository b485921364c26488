"""Rate limits: how many calls and tokens an endpoint takes at once and per minute.

A call that the server refuses for its limits, with a time to wait (``Retry-After``), holds back all calls to the endpoint
until then: each of them would be refused, too, and many servers count refused calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from dataclasses import dataclass

from moa.errors import ModelError, RateLimited
from moa.messages import Delta, Request
from moa.models import Model
from moa.models.wrapper import Wrapper

LONGEST_HOLD = 60.0
"""The longest wait in seconds for which a rate-limited call holds back others: with a longer one each call is made, so that
its fallback answers."""


class Limits:
    """The limits of one endpoint. Make one object per endpoint, and share it among all its models.

    Limits without any bound hold calls back after a rate-limited one, and nothing else.

    Calls that wait start in the order in which they came. Each event loop counts separately, so an object may outlive a
    loop, but two loops at the same time may together use twice the limits.
    """

    def __init__(
        self,
        max_concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        """
        Args:
            max_concurrency: concurrent calls.
            requests_per_minute: calls that start; a minute's worth may start at once, later ones are spread out.
            tokens_per_minute: input and output tokens, likewise. A call is charged an estimate before it starts
                (characters / 4, plus its ``max_tokens`` or 500), and its real usage once it reports that.

        Raises:
            ValueError: a limit is 0 or less.
        """
        for limit in (max_concurrency, requests_per_minute, tokens_per_minute):
            if limit is not None and limit <= 0:
                raise ValueError(f"a limit must be above 0, not {limit}")
        self.max_concurrency = max_concurrency
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self._gates: dict[asyncio.AbstractEventLoop, _Gate] = {}

    def _gate(self) -> _Gate:
        """The locks and levels of the running loop: asyncio's belong to the loop that first waited on them."""
        loop = asyncio.get_running_loop()
        if loop not in self._gates:
            for closed in [known for known in list(self._gates) if known.is_closed()]:
                self._gates.pop(closed, None)
            self._gates[loop] = _Gate(
                slots=asyncio.Semaphore(self.max_concurrency) if self.max_concurrency else None,
                calls=Bucket(self.requests_per_minute) if self.requests_per_minute else None,
                tokens=Bucket(self.tokens_per_minute) if self.tokens_per_minute else None,
            )
        return self._gates[loop]


@dataclass(slots=True)
class _Gate:
    slots: asyncio.Semaphore | None
    calls: Bucket | None
    tokens: Bucket | None
    closed_until: float = 0.0  # on the loop's clock

    async def open(self) -> None:
        """Wait until the server takes calls again, as far as it has said when; others may put that off meanwhile."""
        if (seconds := self.seconds) > 0:
            await asyncio.sleep(seconds)
            await self.open()

    @property
    def seconds(self) -> float:
        """Seconds until the server takes calls again."""
        return self.closed_until - asyncio.get_running_loop().time()

    def close(self, seconds: float) -> None:
        """Hold back calls for so many seconds from now; nothing shortens it."""
        self.closed_until = max(self.closed_until, asyncio.get_running_loop().time() + seconds)


class Bucket:
    """A leaky bucket that holds a minute's worth. https://en.wikipedia.org/wiki/Leaky_bucket

    aiolimiter's cannot be corrected afterwards, refuses amounts larger than the bucket, and lets small amounts overtake a
    large one forever.
    """

    def __init__(self, per_minute: float) -> None:
        self._size = per_minute
        self._per_second = per_minute / 60
        self._level = 0.0
        self._seen = asyncio.get_running_loop().time()
        self._turn = asyncio.Lock()  # held by the call at the head of the queue

    async def pour(self, amount: float) -> None:
        """Wait until there is room for the amount, then add it. An amount larger than the bucket waits until it is empty."""
        async with self._turn:
            self._leak()
            too_much = self._level + min(amount, self._size) - self._size
            if too_much > 0:
                await asyncio.sleep(too_much / self._per_second)
            self.settle(amount)

    def settle(self, amount: float) -> None:
        """Adjust the level at once; a negative amount is a refund. Later callers wait until any excess has drained."""
        self._leak()
        self._level = max(0.0, self._level + amount)

    def _leak(self) -> None:
        now = asyncio.get_running_loop().time()
        self._level = max(0.0, self._level - (now - self._seen) * self._per_second)
        self._seen = now


class Limited(Wrapper):
    """A model whose calls wait until they fit the limits of its endpoint, and until it takes calls again."""

    def __init__(self, model: Model, limits: Limits) -> None:
        super().__init__(model)
        self.limits = limits

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Wait for a slot, then stream the answer. The slot is released when the stream ends, fails or is closed.

        Raises:
            ModelError: the model failed.
        """
        gate = self.limits._gate()
        waits = bool(gate.slots or gate.calls or gate.tokens or gate.seconds > 0)
        if waits:
            yield Delta(in_flight=0)
        async with gate.slots or nullcontext():
            charged = estimated_tokens(request)
            if gate.calls:
                await gate.calls.pour(1)
            if gate.tokens:
                await gate.tokens.pour(charged)
            await gate.open()
            if waits:
                yield Delta(in_flight=1)
            try:
                async with aclosing(self.model.stream(request)) as deltas:
                    async for delta in deltas:
                        if gate.tokens and delta.usage:
                            gate.tokens.settle(delta.usage.total_tokens - charged)
                            charged = delta.usage.total_tokens
                        yield delta
            except ModelError as error:
                if gate.tokens and not error.billable:
                    gate.tokens.settle(-charged)  # the server counted no tokens
                if isinstance(error, RateLimited) and error.retryable and (error.retry_after or 0) <= LONGEST_HOLD:
                    gate.close(error.retry_after or 0)
                raise


def estimated_tokens(request: Request) -> int:
    """An estimate of a call's tokens before it starts."""
    limit = request.body.get("max_completion_tokens") or request.body.get("max_tokens")
    output_tokens = limit if isinstance(limit, int) else 500
    return output_tokens + request.tokens
