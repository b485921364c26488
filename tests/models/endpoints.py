"""Calls to an endpoint of a scripted server."""

from __future__ import annotations

import asyncio

import pytest

from moa.answers import Delta
from moa.errors import ModelError
from moa.messages import Request
from moa.models.endpoint import Endpoint, Timeouts
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import PATIENCE

KEY = "sk-0123456789abcdef"
QUESTION = Request.of("How much is two and two?")


async def answer(endpoint: Endpoint, model: str = "m", request: Request = QUESTION) -> list[Delta]:
    """Every delta of one call."""
    return [delta async for delta in endpoint.model(model).stream(request)]


async def failure(endpoint: Endpoint, model: str = "m") -> tuple[list[Delta], ModelError]:
    """The deltas before the call failed, and its error."""
    deltas: list[Delta] = []
    with pytest.raises(ModelError) as caught:
        async for delta in endpoint.model(model).stream(QUESTION):
            deltas.append(delta)  # noqa: PERF401 - the deltas before the error must survive it
    assert "\n" not in str(caught.value)
    return deltas, caught.value


def impatient(upstream: Upstream, **seconds: float) -> Endpoint:
    """An endpoint with these timeouts."""
    return Endpoint("here", upstream.base_url, timeouts=Timeouts(**seconds))


async def soon(event: asyncio.Event) -> None:
    """Wait for an event."""
    async with asyncio.timeout(PATIENCE):
        await event.wait()
