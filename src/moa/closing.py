"""Closing: objects that are closed at the end of a ``with`` or an ``async with``, and tasks that are cancelled."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from moa.tracebacks import traceback_of

GRACE = 0.5
"""Seconds that a cancelled task may take to end."""

log = logging.getLogger("moa")


class Closing(ABC):
    """A context manager that calls :meth:`close` at its end."""

    @abstractmethod
    def close(self) -> None:
        """Release what the object holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClosing(ABC):
    """An async context manager that calls :meth:`aclose` at its end."""

    @abstractmethod
    async def aclose(self) -> None:
        """Release what the object holds."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def cancelled(*tasks: asyncio.Future[Any], grace: float | None = GRACE) -> None:
    """Cancel tasks and wait until they have ended, for at most ``grace`` seconds: a custom model may ignore cancellation.

    The result of the tasks is not needed any more. An exception in one of them is logged at the level ``debug``.
    """
    for task in tasks:
        task.cancel()
        task.add_done_callback(_read_exception)
    if tasks:
        _, running = await asyncio.wait(tasks, timeout=grace)
        for task in running:
            log.warning("%r ignores its cancellation", task)


def _read_exception(task: asyncio.Future[Any]) -> None:
    """Read the exception of a task; asyncio logs those that nobody reads."""
    if not task.cancelled() and (error := task.exception()):
        log.debug("a cancelled task failed\n%s", traceback_of(error))
