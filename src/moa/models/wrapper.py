"""A model around a model: the part that retries, limits, caches and hedges share.

Each wrapper has the name and the traits of the model inside it and is a :class:`~moa.models.Model` itself, so wrappers
nest. From the outside in, ``Cached(Retried(Limited(endpoint, limits)), cache)`` is the order that makes sense: a cached
answer needs no slot, and a retry gives its slot back while it waits.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from moa.messages import Delta
from moa.models import Model, Traits, traits_of


class Wrapper:
    """The name and the traits of the model inside. A subclass adds ``stream``."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def traits(self) -> Traits:
        return traits_of(self.model)


async def opened(deltas: AsyncGenerator[Delta, None], opening: list[Delta]) -> AsyncGenerator[Delta, None]:
    """Append the deltas up to the first one that holds a part of the answer; all of them where none does. Those that report
    whether a call is in flight are yielded at once instead.
    """
    async for delta in deltas:
        if delta.in_flight is not None and not delta.attempt:
            yield delta
            continue
        opening.append(delta)
        if delta.speaks:
            return
