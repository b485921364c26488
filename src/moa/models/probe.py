"""Tests with real calls how a model continues a text that it has begun: a staircase depends on it."""

from __future__ import annotations

import re
from contextlib import aclosing

from moa.errors import ModelError
from moa.messages import Request
from moa.models import Model
from moa.models.continuations import WAYS, Way, with_continuation

QUESTION = (
    "Write the numbers from one to thirty in English words, in lower case, separated by commas, and write nothing else."
)
BEGUN = "one, two, three, four, five, six, seven, eight,"
NEXT = re.compile(r"\s*,?\s*nine\b", re.IGNORECASE)
GO_ON = (
    "Go on with your answer exactly where it stopped, as if you had never been interrupted: no greeting, no repetition, no "
    "word about this."
)
LIMIT = 24
"""Tokens that are enough to see how it continues."""


async def ways_to_continue(model: Model) -> list[str]:
    """Which of :data:`~moa.models.continuations.WAYS` work with this model. Makes a small call for each; one that fails
    counts as not working."""
    return [name for name, way in WAYS.items() if await _continues(model, _request(way))]


def _request(way: Way) -> Request:
    question = {"role": "user", "content": QUESTION}
    begun = {"role": "assistant", "content": BEGUN}
    limits = {"max_tokens": LIMIT, "temperature": 0}
    closing = [{"role": "user", "content": GO_ON}] if way.kind == "turns" else []
    return Request.of(with_continuation({"messages": [question, begun, *closing], **limits}, way))


async def _continues(model: Model, request: Request) -> bool:
    text = ""
    try:
        async with aclosing(model.stream(request)) as deltas:
            async for delta in deltas:
                text += delta.text
    except ModelError:
        return False
    return NEXT.match(text) is not None
