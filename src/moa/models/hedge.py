"""Hedging: a second, identical call when the first one is slow to begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from moa.messages import Delta, Request, Usage
from moa.models import Model
from moa.models.wrapper import Wrapper


class Hedged(Wrapper):
    """A model that is asked a second time when it has not begun to speak in time; the first of the two to speak is kept.

    The other call is cancelled. What its prompt cost is part of the usage, estimated.

    Args:
        model: whom to ask.
        after: seconds of silence before the second call.
    """

    def __init__(self, model: Model, after: float) -> None:
        super().__init__(model)
        self._after = after

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Say what the call says that speaks first; raises as the model does when both fail."""
        calls = [_Attempt(self.model, request)]
        try:
            await asyncio.wait([calls[0].begun], timeout=self._after)
            if not calls[0].begun.done():
                calls.append(_Attempt(self.model, request))
            winner = await self._first_to_speak(calls)
            losers = [call for call in calls if call is not winner]
            for loser in losers:
                await loser.aclose()
            lost = Usage(request.tokens * len(losers), estimated=True) if losers else None
            async for delta in winner.deltas():
                yield delta.replaced(usage=delta.usage + lost) if lost and delta.usage else delta
        finally:
            for call in calls:
                await call.aclose()

    @staticmethod
    async def _first_to_speak(calls: list[_Attempt]) -> _Attempt:
        """The first call that speaks; of calls that all fail, the last to."""
        going = list(calls)
        while True:
            await asyncio.wait([call.begun for call in going], return_when=asyncio.FIRST_COMPLETED)
            for call in [call for call in going if call.begun.done()]:
                if call.begun.exception() is None or len(going) == 1:
                    return call
                going.remove(call)


class _Attempt:
    """A call that may be one of two."""

    def __init__(self, model: Model, request: Request) -> None:
        self._stream = model.stream(request)
        self._heard: list[Delta] = []
        self.begun = asyncio.ensure_future(self._begin())

    async def _begin(self) -> None:
        async for delta in self._stream:
            self._heard.append(delta)
            if delta.speaks:
                return

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        await self.begun
        for delta in self._heard:
            yield delta
        async for delta in self._stream:
            yield delta

    async def aclose(self) -> None:
        self.begun.cancel()
        await asyncio.wait([self.begun])
        await self._stream.aclose()
