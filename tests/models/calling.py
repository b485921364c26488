"""Calls to a model, read to their end."""

from __future__ import annotations

from moa.messages import Delta, Request, collected
from moa.models import Model

HELLO = Request.of("Say hello to everyone.")


async def deltas_of(model: Model, request: Request = HELLO) -> list[Delta]:
    """Every delta of one call."""
    return [delta async for delta in model.stream(request)]


async def text_of(model: Model, request: Request = HELLO) -> str:
    """The whole text of one call."""
    return collected(await deltas_of(model, request)).text
