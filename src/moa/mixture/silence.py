"""Silence: an agent that was called and streams neither text nor reasoning.

Some models think for minutes without a word, and a call that is given up is paid for. So no run ends a silent call while it
needs that call; the endpoint's own timeout does. A run reports the silence of the agent that answers, and stops waiting for
proposers that it can do without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from moa.mixture.draft import Draft
from moa.mixture.schedules.drafts import until_all_ended, until_first, within

PATIENCE = 60.0
"""Seconds."""


@contextmanager
def noticed(seconds: float | None, notice: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Call ``notice`` after so many seconds, unless the function that this yields is called before; None never calls it."""
    if seconds is None:
        yield lambda: None
        return
    alarm = asyncio.get_running_loop().call_later(seconds, notice)
    try:
        yield alarm.cancel
    finally:
        alarm.cancel()


async def drop_silent(
    layer: Sequence[Draft],
    before: Sequence[Draft],
    *,
    patience: float,
    needed: int,
    exempt: Collection[Draft],
    give_up: Callable[[Draft, str], None],
) -> None:
    """Drop the drafts of a layer that stay silent for ``patience`` seconds after all others have ended.

    Args:
        before: the drafts of the layer before. Until they have ended, nothing is dropped: some agents may not be called yet.
        needed: usable proposals without which nothing is dropped.
        exempt: drafts whose agents may be silent for as long as they like.
    """
    await until_all_ended(before)
    while live := [draft for draft in layer if not draft.ended]:
        silent = [draft for draft in live if draft.silent]
        enough = sum(draft.usable for draft in layer) >= needed
        if enough and len(silent) == len(live) and not any(draft in exempt for draft in live):
            await within(patience, until_first(draft.until_started() for draft in live))
            if all(draft.silent and not draft.ended for draft in live):
                for draft in live:
                    give_up(draft, f"it was silent for {patience:g} s after the others of its layer had ended")
        else:
            started = (draft.until_started() for draft in silent)
            await until_first([*(draft.until_ended() for draft in live), *started])
