"""Retries: a call that fails before its answer begins is made again.

After the first text, reasoning or tool call the caller has already read a part of the answer, so nothing is retried.
Bookkeeping before it (filter results, usage) begins no answer, and is held back until the answer begins.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

from moa.errors import ModelError
from moa.messages import Delta, Request
from moa.models import Model
from moa.models.attempts import attempts_of
from moa.models.wrapper import Wrapper, opened


class Retried(Wrapper):
    """A model whose call is retried when it fails before the first delta.

    :class:`ModelError.retryable <moa.errors.ModelError>` decides whether a retry can help. The wait doubles from one attempt
    to the next; where the server gives a wait (``Retry-After``), that counts instead.
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
            model: the model to call.
            attempts: the most calls in all, the first included.
            timeout: seconds after the first failure within which a further attempt may start; None is no limit. A running
                attempt is not cut off.
            wait_initial: seconds before the second attempt; doubled for each one after it.
            wait_max: the longest wait between two attempts in seconds, unless the server asks for more.
            wait_jitter: up to this many random seconds are added, so that agents that failed together do not return
                together.
            max_retry_after: when the server asks for a longer wait than this many seconds, give up at once.
        """
        super().__init__(model)
        self._attempts, self._timeout = attempts, timeout
        self._wait_initial, self._wait_max, self._wait_jitter = wait_initial, wait_max, wait_jitter
        self._max_retry_after = max_retry_after

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the answer of the first attempt that begins one. A delta reports each attempt that failed before it.

        Raises:
            ModelError: the last attempt's error; it keeps ``retry_after``.
        """
        now = asyncio.get_running_loop().time
        first_failure: float | None = None
        attempt = 1
        while True:
            async with aclosing(self.model.stream(request)) as deltas:
                opening: list[Delta] = []
                try:
                    async with aclosing(opened(deltas, opening)) as in_flight:
                        async for delta in in_flight:
                            yield delta
                except ModelError as error:
                    wait = self._wait(error, attempt)
                    first_failure = now() if first_failure is None else first_failure
                    too_late = self._timeout is not None and now() + (wait or 0) > first_failure + self._timeout
                    if wait is None or attempt >= self._attempts or too_late:
                        error.tried = attempt > 1
                        for delta in opening:
                            yield delta  # the usage of a failed call is paid for, too
                        raise
                    for delta in attempts_of(request, opening, str(error), error):
                        yield delta.replaced(in_flight=0)
                else:
                    # Outside the ``try``: an error after the first delta is not retried.
                    for delta in opening:
                        yield delta
                    async for delta in deltas:
                        yield delta
                    return
            await asyncio.sleep(wait)
            yield Delta(in_flight=1)
            attempt += 1

    def _wait(self, error: ModelError, attempt: int) -> float | None:
        """Seconds to wait after a failed attempt, counted from 1; None where a retry cannot help."""
        if not error.retryable:
            return None
        jitter = random.uniform(0, self._wait_jitter)
        if error.retry_after is None:
            return float(min(self._wait_max, self._wait_initial * 2 ** (attempt - 1) + jitter))
        return error.retry_after + jitter if error.retry_after <= self._max_retry_after else None
