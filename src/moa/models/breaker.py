"""A circuit breaker: a model that keeps failing is not called for a while, and then tried with one call.

Notable decisions:
- The breaker only counts, and says in the model's traits that callers should skip it. It refuses no call: where all agents
  of a layer would be skipped, or the model is asked for by name, the call is made anyway.
- A call counts with its retries as one. A failure that the request caused (a prompt that is too long, a moderation) says
  nothing about the model; neither does a call that was cancelled.

https://martinfowler.com/bliki/CircuitBreaker.html
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from moa.errors import ModelError
from moa.messages import Delta, Request
from moa.models import Model, Traits
from moa.models.wrapper import Wrapper


@dataclass(frozen=True, slots=True)
class Breaking:
    """When a model is skipped. The names are those of ``circuit_breaker`` in moa.toml.

    Attributes:
        failures: calls in a row that fail before the model is skipped.
        seconds: how long it is skipped before one call tries it again.
    """

    failures: int = 5
    seconds: float = 60


class Breaker(Wrapper):
    """A model whose traits say that callers should skip it, once so many calls in a row have failed.

    Args:
        model: the model to call.
        breaking: how many, and for how long.
        clock: seconds that only go up.
    """

    def __init__(
        self, model: Model, breaking: Breaking | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(model)
        self._breaking, self._clock = breaking or Breaking(), clock
        self._failures, self._last = 0, ""
        self._until = 0.0  # on the clock; until then callers should skip it

    @property
    def traits(self) -> Traits:
        traits, skip = super().traits, self._skip
        return replace(traits, skip=skip) if skip else traits

    @property
    def _is_open(self) -> bool:
        return self._failures >= self._breaking.failures

    @property
    def _skip(self) -> str:
        if not self._is_open or self._clock() >= self._until:
            return ""
        return f"its last {self._failures} calls failed, the last one with: {self._last}"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the answer.

        Raises:
            ModelError: the call failed.
        """
        before = self._until
        if self._is_open:
            self._until = self._clock() + self._breaking.seconds  # one call tries it: others skip it meanwhile
        try:
            async with aclosing(self.model.stream(request)) as deltas:
                async for delta in deltas:
                    yield delta
        except ModelError as error:
            if error.of_request:
                self._until = before
                raise
            self._failures, self._last = self._failures + 1, error.reason
            self._until = self._clock() + self._breaking.seconds
            raise
        except BaseException:
            self._until = before
            raise
        self._failures = 0
