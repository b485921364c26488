"""Models that write long, countable texts at a steady pace, and runs in virtual time."""

from __future__ import annotations

from typing import Any

from moa import Mixture, Scripted, fold
from moa.messages import Answer
from moa.mixture.events import Event
from tests.fakes.virtual_time import run_in_virtual_time


def long_text(name: str, words: int = 200) -> str:
    """``name0 name1 name2 …``: every word occurs once in all texts of a test."""
    return "".join(f"{name}{number} " for number in range(words)).strip()


def writer(name: str, *, pace: float = 20.0, first: float = 0.5, words: int = 200, **options: Any) -> Scripted:
    """A model that writes :func:`long_text` and can continue it.

    Args:
        pace: words a second.
        first: seconds to the first word.
        options: further arguments of Scripted.
    """
    options.setdefault("continuation", "prefix")
    return Scripted(
        long_text(name, words), name=f"scripted/{name}", first_token=first, tokens_per_second=pace, **options
    )


def run(mixture: Mixture, question: Any = "Why?") -> tuple[list[Event], Answer]:
    """All events of a run in virtual time, and its answer."""

    async def collect() -> list[Event]:
        return [event async for event in mixture.run(question)]

    events = run_in_virtual_time(collect())
    return events, fold(events)
