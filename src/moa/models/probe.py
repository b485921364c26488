"""Tests with real calls how a model continues a text that it has begun: a staircase depends on it."""

from __future__ import annotations

import re
from contextlib import aclosing

from moa.errors import ModelError
from moa.messages import Request
from moa.models import Model
from moa.models.continuations import WAYS, with_continuation

QUESTION = (
    "Write the numbers from one to thirty in English words, in lower case, separated by commas, and write nothing else."
)
BEGUN = "one, two, three, four, five, six, seven, eight,"
NEXT = {"prefix": re.compile(r"(\s|,)\s*nine\b", re.IGNORECASE), "turns": re.compile(r"\s*,?\s*nine\b", re.IGNORECASE)}
"""How the continued text begins. A model that begins a new turn instead writes the next word without a space before it."""
GO_ON = (
    "Go on with your answer exactly where it stopped, as if you had never been interrupted: no greeting, no repetition, no "
    "word about this."
)
LIMIT = 24
"""Tokens that are enough to see how it continues."""


async def ways_to_continue(model: Model) -> list[str]:
    """Which of :data:`~moa.models.continuations.WAYS` work with this model. Makes a small call for each; one that fails
    counts as not working."""
    return [name for name in WAYS if await _works(model, name)]


def probing_request(name: str) -> Request:
    """A small request whose answer shows whether a way of :data:`~moa.models.continuations.WAYS` works."""
    way = WAYS[name]
    question = {"role": "user", "content": QUESTION}
    begun = {"role": "assistant", "content": BEGUN}
    limits = {"max_tokens": LIMIT, "temperature": 0}
    closing = [{"role": "user", "content": GO_ON}] if way.kind == "turns" else []
    return Request.of(with_continuation({"messages": [question, begun, *closing], **limits}, way))


def shows_that_it_works(name: str, text: str) -> bool:
    """Whether the answer to :func:`probing_request` continues the text."""
    return NEXT[WAYS[name].kind].match(text) is not None


async def _works(model: Model, name: str) -> bool:
    text = ""
    try:
        async with aclosing(model.stream(probing_request(name))) as deltas:
            async for delta in deltas:
                text += delta.text
    except ModelError:
        return False
    return shows_that_it_works(name, text)
