"""Retries: a call that fails before its first delta is made again.

After the first delta the caller has already read a part of the answer, so nothing is retried.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import stamina

from moa.errors import ModelError
from moa.messages import Delta, Request
from moa.models import Model
from moa.models.wrapper import Wrapper

# stamina logs each retry as a warning, which Python prints where no logging is set up; this handler only stops that.
# Whoever sets logging up still sees them. stamina's hooks are one for the whole process and belong to the application.
logging.getLogger("stamina").addHandler(logging.NullHandler())


class Retried(Wrapper):
    """A model that is asked again when it fails before it has said anything.

    :class:`ModelError.retryable <moa.errors.ModelError>` decides whether asking again can help. The wait doubles from
    one attempt to the next; where the server said how long to wait (``Retry-After``), that counts instead.
    """

    def __init__(
        self,
        model: Model,
        attempts: int = 3,
        timeout: float | None = None,
        wait_initial: float = 0.5,
        wait_max: float = 20.0,
        wait_jitter: float = 1.0,
        max_retry_after: float = 60.0,
    ) -> None:
        """
        Args:
            model: whom to ask.
            attempts: how often to ask at most, the first time included.
            timeout: seconds from the first failure after which no further attempt is made; None is no limit. A running
                attempt is not cut off.
            wait_initial: seconds before the second attempt; doubled for each one after it.
            wait_max: seconds between two attempts at most, unless the server asks for more.
            wait_jitter: up to so many random seconds are added: agents that failed together must not return together.
            max_retry_after: when the server asks for a longer wait than this many seconds, give up at once.
        """
        super().__init__(model)
        self._max_retry_after = max_retry_after
        self._jitter = wait_jitter
        self._schedule: dict[str, Any] = {
            "attempts": attempts,
            "timeout": timeout,
            "wait_initial": wait_initial,
            "wait_max": wait_max,
            "wait_jitter": wait_jitter,
        }

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Say what the model says, as soon as it says anything.

        Raises:
            ModelError: the last attempt's error; it keeps ``retry_after``.
        """
        deltas = self.model.stream(request)
        try:
            first = await _opened(deltas)
        except Exception as error:
            deltas, first = await self._again(request, error)
        if first is not None:
            async with aclosing(deltas):
                yield first
                async for delta in deltas:
                    yield delta

    async def _again(self, request: Request, error: Exception) -> tuple[AsyncGenerator[Delta, None], Delta | None]:
        """Further attempts after one that failed. Calls that succeed at once, nearly all, are spared the machinery."""
        failed: Exception | None = error
        async for attempt in stamina.retry_context(on=self._wait, **self._schedule):
            # Only the opening stands inside: stamina catches whatever passes here, and what the reader does with the
            # answer (closing it, say) is not its business.
            with attempt:
                if failed is not None:
                    again, failed = failed, None
                    raise again
                deltas = self.model.stream(request)
                first = await _opened(deltas)
        return deltas, first

    def _wait(self, error: Exception) -> bool | float:
        """Seconds to wait before asking again, True for the usual wait, False to give up."""
        if not isinstance(error, ModelError) or not error.retryable:
            return False
        if error.retry_after is None:
            return True
        if error.retry_after > self._max_retry_after:
            return False
        return error.retry_after + random.uniform(0, self._jitter)


async def _opened(deltas: AsyncGenerator[Delta, None]) -> Delta | None:
    """The first delta that holds anything; None where the stream ends without one."""
    async for delta in deltas:
        if delta != Delta():
            return delta
    return None
