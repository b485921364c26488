"""Hedging: a second, identical call when the first one is slow to begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

from moa.closing import cancelled
from moa.errors import MoaError
from moa.messages import Delta, Request
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
        calls = [_Attempt(self.model, request)]
        try:
            await asyncio.wait([calls[0].begun], timeout=self._after)
            if not calls[0].begun.done():
                calls.append(_Attempt(self.model, request))
            winner = await _first_to_begin(calls)
            for loser in [call for call in calls if call is not winner]:
                await loser.aclose()
                for delta in loser.cost(request):
                    yield delta
            async for delta in winner.deltas():
                yield delta
        finally:
            for call in calls:
                await call.aclose()


class _Attempt:
    """One of the calls, read up to its first text, reasoning or tool call."""

    def __init__(self, model: Model, request: Request) -> None:
        self._stream = model.stream(request)
        self._received: list[Delta] = []
        self.begun = asyncio.ensure_future(self._begin())

    async def _begin(self) -> None:
        async for delta in self._stream:
            self._received.append(delta)
            if delta.speaks:
                return

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        for delta in self._received:
            yield delta
        await self.begun
        async for delta in self._stream:
            yield delta

    def cost(self, request: Request) -> Iterator[Delta]:
        """What the call cost, when it has been closed."""
        failed = self.begun.done() and not self.begun.cancelled()
        error = self.begun.exception() if failed else None
        reason = str(error) if error else "the other one of two calls began first"
        return attempts_of(request, self._received, reason, error if isinstance(error, MoaError) else None)

    async def aclose(self) -> None:
        await cancelled(self.begun)
        if self.begun.done():  # otherwise the stream ignores its cancellation, and cannot be closed while it runs
            await self._stream.aclose()


async def _first_to_begin(calls: list[_Attempt]) -> _Attempt:
    """The first call that begins an answer; if all fail, the last to fail."""
    pending = list(calls)
    while True:
        await asyncio.wait([call.begun for call in pending], return_when=asyncio.FIRST_COMPLETED)
        for call in [call for call in pending if call.begun.done()]:
            if call.begun.exception() is None or len(pending) == 1:
                return call
            pending.remove(call)
