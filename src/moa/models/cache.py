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
from moa.models.answer_store import Cache
from moa.models.wrapper import Wrapper

__all__ = ["Cache", "Cached"]


class Cached(Wrapper):
    """A model whose answers are cached: a repeated request gets the same answer and is paid for once.

    The key is the model's name and identity and the whole request, every message and sampling parameter included, so an
    answer to an older prompt is never returned. Failed, broken and cancelled answers are not cached.
    """

    def __init__(self, model: Model, cache: Cache, *, sample: str = "") -> None:
        """
        Args:
            model: the model to call. The identity in its traits is a part of the key.
            cache: the store of answers; many models may share one.
            sample: a part of the key, for agents that call one model with the same request and want different answers.
        """
        super().__init__(model)
        self.cache = cache
        self.sample = sample

    @property
    def traits(self) -> Traits:
        """Those of the model inside; its sample is a part of the identity."""
        traits = replace(super().traits, cached=True)
        return replace(traits, identity=f"{traits.identity} sample {self.sample}") if self.sample else traits

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the cached answer, with its usage and a cost of $0; or call the model and cache its answer.

        Raises:
            ModelError: the model was called and failed.
            ConfigError: the cache is damaged.
        """
        key = self._key(request)
        cached = self.cache.get(key)
        if cached is not None:
            for number, delta in enumerate(cached, start=1):
                await asyncio.sleep(0)
                yield _free(delta, last=number == len(cached))
            return
        answer: list[Delta] = []
        async with aclosing(self.model.stream(request)) as deltas:
            async for delta in deltas:
                if not delta.attempt and delta.in_flight is None:
                    answer.append(delta)
                yield delta
        if any(delta.finish_reason for delta in answer):
            self.cache.put(key, answer)

    def _key(self, request: Request) -> str:
        key = json.dumps([self.name, traits_of(self.model).identity, self.sample, request.json()])
        return hashlib.sha256(key.encode()).hexdigest()


def _free(delta: Delta, *, last: bool) -> Delta:
    """The delta with every cost in it $0; the last delta always has a cost."""
    calls = tuple(_free_call(call) for call in delta.calls)
    return delta.replaced(cost=Cost(0.0) if last or delta.cost else None, calls=calls)


def _free_call(call: Call) -> Call:
    return replace(call, cost=Cost(0.0), calls=tuple(_free_call(inner) for inner in call.calls), attempts=())
