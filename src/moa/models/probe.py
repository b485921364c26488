"""Tests with real calls how a model continues a text that it has begun: a staircase depends on it."""

from __future__ import annotations

import re
from contextlib import aclosing

from moa.errors import ModelError
from moa.messages import Request
from moa.models import Model

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

WAYS = ("prefix", "flag", "vllm", "turns")
"""The values of ``continuation`` of :class:`moa.models.endpoint.Endpoint`, the best first."""


async def ways_to_continue(model: Model) -> list[str]:
    """Which of :data:`WAYS` work with this model. Makes four small calls; one that fails counts as not working."""
    return [way for way in WAYS if await _continues(model, _request(way))]


def _request(way: str) -> Request:
    question = {"role": "user", "content": QUESTION}
    begun = {"role": "assistant", "content": BEGUN}
    limits = {"max_tokens": LIMIT, "temperature": 0}
    if way == "flag":
        return Request.of({"messages": [question, {**begun, "prefix": True}], **limits})
    if way == "vllm":
        flags = {"continue_final_message": True, "add_generation_prompt": False}
        return Request.of({"messages": [question, begun], **limits, **flags})
    if way == "turns":
        return Request.of({"messages": [question, begun, {"role": "user", "content": GO_ON}], **limits})
    return Request.of({"messages": [question, begun], **limits})


async def _continues(model: Model, request: Request) -> bool:
    text = ""
    try:
        async with aclosing(model.stream(request)) as deltas:
            async for delta in deltas:
                text += delta.text
    except ModelError:
        return False
    return NEXT.match(text) is not None
