"""Exceptions for a log, without their messages: a foreign exception's message may quote a prompt or an answer."""

from __future__ import annotations

import traceback

DEEPEST = 10
"""Exceptions of a chain that are shown."""


def traceback_of(error: BaseException) -> str:
    """The exception, its stack, and the exceptions behind it, by their classes alone."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < DEEPEST:
        kind = type(current)
        stack = "".join(traceback.format_tb(current.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{stack}{kind.__module__}.{kind.__qualname__}")
        if isinstance(current, BaseExceptionGroup):
            parts += [f"  with {traceback_of(each)}" for each in current.exceptions[:DEEPEST]]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\nraised because of, or during:\n".join(parts)
