"""Rate limits: how many calls and tokens an endpoint takes at once and per minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from dataclasses import dataclass

from moa.messages import Delta, Request
from moa.models import Model
from moa.models.wrapper import Wrapper


class Limits:
    """What one endpoint can take. Make one for each endpoint and share it among all who use that endpoint.

    Who asks first is served first. Each event loop counts for itself, so an object may outlive a loop, but two loops at
    the same time may together take twice as much.
    """

    def __init__(
        self,
        max_concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        """
        Args:
            max_concurrency: calls at the same time.
            requests_per_minute: calls begun; a minute's worth may come at once, then they trickle.
            tokens_per_minute: input and output tokens, likewise. A call is charged an estimate before it starts
                (characters / 4, plus its ``max_tokens`` or 500), and what it really used once it reports that.

        Raises:
            ValueError: a limit is not above 0.
        """
        for limit in (max_concurrency, requests_per_minute, tokens_per_minute):
            if limit is not None and limit <= 0:
                raise ValueError(f"a limit must be above 0, not {limit}")
        self.max_concurrency = max_concurrency
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self._gates: dict[asyncio.AbstractEventLoop, _Gate] = {}

    def _gate(self) -> _Gate:
        """The running loop's own locks and levels: those of asyncio belong to the loop they first waited in."""
        loop = asyncio.get_running_loop()
        if loop not in self._gates:
            for closed in [known for known in list(self._gates) if known.is_closed()]:
                self._gates.pop(closed, None)
            self._gates[loop] = _Gate(
                slots=asyncio.Semaphore(self.max_concurrency) if self.max_concurrency else None,
                calls=_Bucket(self.requests_per_minute) if self.requests_per_minute else None,
                tokens=_Bucket(self.tokens_per_minute) if self.tokens_per_minute else None,
            )
        return self._gates[loop]


@dataclass(frozen=True, slots=True)
class _Gate:
    slots: asyncio.Semaphore | None
    calls: _Bucket | None
    tokens: _Bucket | None


class _Bucket:
    """A leaky bucket that holds a minute's worth. https://en.wikipedia.org/wiki/Leaky_bucket

    aiolimiter's cannot be settled afterwards, refuses more than it holds, and lets a small amount overtake a large one
    without end.
    """

    def __init__(self, per_minute: float) -> None:
        self._size = per_minute
        self._per_second = per_minute / 60
        self._level = 0.0
        self._seen = asyncio.get_running_loop().time()
        self._turn = asyncio.Lock()  # first come, first served

    async def pour(self, amount: float) -> None:
        """Wait until there is room, then fill it. What is larger than the bucket waits until the bucket is empty."""
        async with self._turn:
            self._leak()
            too_much = self._level + min(amount, self._size) - self._size
            if too_much > 0:
                await asyncio.sleep(too_much / self._per_second)
            self.settle(amount)

    def settle(self, amount: float) -> None:
        """Add, or with a negative amount take back, at once. Whoever comes next waits out what does not fit."""
        self._leak()
        self._level = max(0.0, self._level + amount)

    def _leak(self) -> None:
        now = asyncio.get_running_loop().time()
        self._level = max(0.0, self._level - (now - self._seen) * self._per_second)
        self._seen = now


class Limited(Wrapper):
    """A model that is not asked more than its endpoint can take."""

    def __init__(self, model: Model, limits: Limits) -> None:
        super().__init__(model)
        self.limits = limits

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Wait for a place, then say what the model says. The place is given back at the end, however that comes.

        Raises:
            ModelError: the model failed.
        """
        gate = self.limits._gate()
        async with gate.slots or nullcontext():
            charged = _likely_tokens(request)
            if gate.calls:
                await gate.calls.pour(1)
            if gate.tokens:
                await gate.tokens.pour(charged)
            async with aclosing(self.model.stream(request)) as deltas:
                async for delta in deltas:
                    if gate.tokens and delta.usage:
                        gate.tokens.settle(delta.usage.total_tokens - charged)
                        charged = delta.usage.total_tokens
                    yield delta


def _likely_tokens(request: Request) -> int:
    """Tokens of a call before it is made."""
    longest = request.body.get("max_completion_tokens") or request.body.get("max_tokens")
    output_tokens = longest if isinstance(longest, int) else 500
    return output_tokens + request.tokens
