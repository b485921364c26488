"""What a schedule does with drafts: make references of them, and wait for them.

Each wait below is a coroutine that may be cancelled at any time. Drafts always end, so no wait hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any

from moa.messages import Reference
from moa.mixture.draft import Draft
from moa.mixture.words import whole_words


def reference_of(draft: Draft) -> Reference:
    """A draft as an agent reads it: the whole text once it has ended; before, its whole words, marked as ``cut``.

    ``"The sky is bl"`` becomes ``"The sky is"``, and ``"天空是蓝"`` becomes ``"天空是"``. A single word stays as it is.
    """
    if draft.ended:
        return Reference(draft.agent, draft.text, cut=draft.cut is not None, layer=draft.layer)
    text = draft.text
    return Reference(draft.agent, text[: whole_words(text)] or text, cut=True, layer=draft.layer)


def references_of(drafts: Iterable[Draft]) -> tuple[Reference, ...]:
    """The whole texts of all usable drafts, in the given order. Drafts that were dropped or still grow are left out."""
    return tuple(reference_of(draft) for draft in drafts if draft.usable)


async def until_all_ended(drafts: Iterable[Draft]) -> None:
    """Wait until every draft has finished or was dropped."""
    for draft in drafts:
        await draft.until_ended()


async def until_any_ended(drafts: Iterable[Draft]) -> None:
    """Wait until one more of these drafts ends. Returns at once if all have ended already."""
    await until_first(draft.until_ended() for draft in drafts if not draft.ended)


async def until(drafts: Sequence[Draft], enough: Callable[[], bool]) -> None:
    """Wait until ``enough()`` is true or all drafts have ended. Calls ``enough`` first, and whenever a draft ends."""
    while not enough() and not all(draft.ended for draft in drafts):
        await until_any_ended(drafts)


async def until_grown(drafts: Sequence[Draft], size: int, enough: Callable[[], bool]) -> None:
    """Wait until ``enough()`` is true or all drafts have ended.

    Calls ``enough`` first, and whenever a draft reaches ``size`` characters, gets its first text or reasoning, or ends.
    """
    while not enough():
        live = [draft for draft in drafts if not draft.ended]
        if not live:
            return
        waits = [draft.until_length(size) if len(draft) < size else draft.until_ended() for draft in live]
        silent = [draft for draft in live if not (len(draft) or draft.thinking)]
        await until_first([*waits, *(draft.until_started() for draft in silent)])


async def until_first(waits: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for the first of several waits and cancel the others. Returns at once if there are none.

    Each wait becomes a task. That is cheap enough, since a draft wakes an agent at most three times: at its first words, at
    the length waited for, and at its end.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def within(seconds: float, wait: Awaitable[None]) -> None:
    """Wait for something, but no longer than so many seconds. Returns in both cases."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wait
