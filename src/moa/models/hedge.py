"""Hedging: a second, identical call when the first one is slow to begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from moa.messages import Delta, Request, Usage
from moa.models import Model
from moa.models.wrapper import Wrapper


class Hedged(Wrapper):
    """A model that is called a second time when it is slow to begin. The call that begins first gives the answer.

    The other call is cancelled; the usage includes an estimate of its prompt's tokens.

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
            losers = [call for call in calls if call is not winner]
            for loser in losers:
                await loser.aclose()
            lost = Usage(request.tokens * len(losers), estimated=True) if losers else None
            async for delta in winner.deltas():
                yield delta.replaced(usage=delta.usage + lost) if lost and delta.usage else delta
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
        await self.begun
        for delta in self._received:
            yield delta
        async for delta in self._stream:
            yield delta

    async def aclose(self) -> None:
        self.begun.cancel()
        await asyncio.wait([self.begun])
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
