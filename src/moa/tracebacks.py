"""Exceptions for a log, without their messages: a foreign exception's message may quote a prompt or an answer."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

DEEPEST = 10
"""Exceptions of a chain that are shown."""


def traceback_of(error: BaseException) -> str:
    """The exception, its stack, and the exceptions behind it, by their classes alone."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < DEEPEST:
        kind = type(current)
        places = [f'  File "{file}", line {line}, in {name}' for file, line, name in _stack(current)]
        parts.append(
            "\n".join(["Traceback (most recent call last):", *places, f"{kind.__module__}.{kind.__qualname__}"])
        )
        if isinstance(current, BaseExceptionGroup):
            parts += [f"  with {traceback_of(each)}" for each in current.exceptions[:DEEPEST]]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\nraised because of, or during:\n".join(parts)


def _stack(error: BaseException) -> Iterator[tuple[str, int, str]]:
    """File, line and function of each call, the outermost first."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        yield frame.f_code.co_filename, line, frame.f_code.co_name
