"""Waiting for conditions. Tests never wait for the clock: a busy machine takes longer than any bound on it allows for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

PATIENCE = 30.0
"""Seconds after which a condition will not hold any more: a guard against hanging, not a measure of speed."""


async def holds(condition: Callable[[], Any]) -> None:
    """Wait until the condition is true, where no event reports it, for example in another process."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)


async def comes_true(condition: Callable[[], Awaitable[Any]]) -> None:
    """As :func:`holds`, for a condition that needs an ``await``, such as a question to a server."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)
