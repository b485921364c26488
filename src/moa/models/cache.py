"""Caching: a complete answer is stored and returned again for the same request.

Notable decisions:
- Only a complete answer is stored, in the deltas it arrived in, so that a replay streams like the original.
- Two identical requests at the same time both go to the model; neither waits for the other's outcome.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from moa.messages import Call, Cost, Delta, Request
from moa.models import Model, Traits, traits_of
from moa.models.answers import Cache
from moa.models.wrapper import Wrapper

__all__ = ["Cache", "Cached"]


class Cached(Wrapper):
    """A model whose answers are remembered: the same request is answered again, and paid for once.

    The key is the model, where it runs and the whole request, every message and sampling parameter of it, so an answer
    made with an older prompt is never returned. A failed, broken or cancelled answer is not remembered.
    """

    def __init__(self, model: Model, cache: Cache, *, sample: str = "") -> None:
        """
        Args:
            model: whom to ask. The identity in its traits is a part of the key.
            cache: where answers are kept; many models may share one.
            sample: tells apart agents that ask one model the same thing and want different answers.
        """
        super().__init__(model)
        self.cache = cache
        self.sample = sample

    @property
    def traits(self) -> Traits:
        """Those of the model inside; its sample is a part of the identity."""
        traits = super().traits
        return replace(traits, identity=f"{traits.identity} sample {self.sample}") if self.sample else traits

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Say the remembered answer, with its usage and a cost of $0; or ask, and remember.

        Raises:
            ModelError: the model was asked and failed.
            ConfigError: the cache is damaged.
        """
        key = self._key(request)
        remembered = self.cache.get(key)
        if remembered is not None:
            for place, delta in enumerate(remembered, start=1):
                await asyncio.sleep(0)
                yield _unpaid(delta, last=place == len(remembered))
            return
        said: list[Delta] = []
        async with aclosing(self.model.stream(request)) as deltas:
            async for delta in deltas:
                said.append(delta)
                yield delta
        if any(delta.finish_reason for delta in said):
            self.cache.put(key, said)

    def _key(self, request: Request) -> str:
        whole = json.dumps([self.name, traits_of(self.model).identity, self.sample, request.json()])
        return hashlib.sha256(whole.encode()).hexdigest()


def _unpaid(delta: Delta, *, last: bool) -> Delta:
    calls = tuple(_unpaid_call(call) for call in delta.calls)
    return delta.replaced(cost=Cost(0.0) if last or delta.cost else None, calls=calls)


def _unpaid_call(call: Call) -> Call:
    return replace(call, cost=Cost(0.0), calls=tuple(_unpaid_call(inner) for inner in call.calls))
