"""Hedging: a second, identical call when the first one is slow to begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import TypeAlias

from moa.closing import cancelled
from moa.errors import MoaError
from moa.messages import Attempt, Delta, Request
from moa.models import Model
from moa.models.attempts import attempts_of
from moa.models.wrapper import Wrapper


class Hedged(Wrapper):
    """A model that is called a second time when it is slow to begin. The call that begins first gives the answer.

    The other call is cancelled; a delta reports its usage, or an estimate of it.

    Args:
        model: the model to call.
        after: seconds without a token before the second call.
    """

    def __init__(self, model: Model, after: float) -> None:
        super().__init__(model)
        self._after = after

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the answer of the call that begins first.

        Raises:
            ModelError: both calls failed; the error of the last to fail.
        """
        news: _News = asyncio.Queue()
        calls = pending = [_Attempt(self.model, request, news)]
        hedge_at = asyncio.get_running_loop().time() + self._after
        try:
            while True:
                try:
                    async with asyncio.timeout_at(hedge_at if len(calls) == 1 else None):
                        call, attempt = await news.get()
                except TimeoutError:
                    calls = pending = [*calls, _Attempt(self.model, request, news)]
                    yield Delta(in_flight=2)
                    continue
                if attempt:
                    yield Delta(attempt=attempt)
                elif await call.has_begun() or pending == [call]:
                    break
                else:
                    pending = [other for other in pending if other is not call]
                    for delta in call.cost(request):
                        yield delta.replaced(in_flight=1)
            for loser in [other for other in pending if other is not call]:
                await loser.aclose()
                for delta in loser.cost(request):
                    yield delta.replaced(in_flight=1)
            async for delta in call.deltas():
                yield delta
        finally:
            for call in calls:
                call.cancel()  # all of them first: a second cancellation may interrupt the wait for one
            for call in calls:
                await call.aclose()


class _Attempt:
    """One of the calls, read up to its first text, reasoning or tool call."""

    def __init__(self, model: Model, request: Request, news: _News) -> None:
        self._stream, self._news = model.stream(request), news
        self._received: list[Delta] = []
        self._in_flight = 1
        self._begun = asyncio.ensure_future(self._begin())

    async def _begin(self) -> None:
        try:
            async for delta in self._stream:
                if delta.attempt:
                    self._news.put_nowait((self, delta.attempt))
                if delta.in_flight is not None:
                    self._in_flight = delta.in_flight
                elif not delta.attempt:
                    self._received.append(delta)
                if delta.speaks:
                    return
        finally:
            self._news.put_nowait((self, None))

    async def has_begun(self) -> bool:
        """Whether its answer has begun; otherwise it has failed."""
        await asyncio.wait([self._begun])
        return self._begun.exception() is None

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        for delta in self._received:
            yield delta
        await self._begun
        async for delta in self._stream:
            yield delta

    def cost(self, request: Request) -> Iterator[Delta]:
        """What the call cost, when it has been closed."""
        failed = self._begun.done() and not self._begun.cancelled()
        error = self._begun.exception() if failed else None
        if not self._in_flight:
            return iter(())  # it still waited to be sent, for the first time or for a retry
        reason = str(error) if error else "the other one of two calls began first"
        return attempts_of(request, self._received, reason, error if isinstance(error, MoaError) else None)

    def cancel(self) -> None:
        self._begun.cancel()

    async def aclose(self) -> None:
        await cancelled(self._begun)
        if self._begun.done():  # otherwise the stream ignores its cancellation, and cannot be closed while it runs
            await self._stream.aclose()


_News: TypeAlias = "asyncio.Queue[tuple[_Attempt, Attempt | None]]"
"""A call with an attempt that it has reported; with None when it has begun its answer or failed."""
