"""Ends a layer before all of its agents have written, where the rest cannot change the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from moa.messages import Reference
from moa.mixture.draft import Draft
from moa.mixture.schedules.drafts import references_of, until_any_ended
from moa.mixture.schedules.protocol import GiveUp

Settled = Callable[[Sequence[Reference], Sequence[str]], Awaitable[bool]]
"""Whether these agents, which still write, cannot change an answer from these proposals."""


async def end_early(
    layer: Sequence[Draft], needed: int, settled: Settled, skip: GiveUp, notice: Callable[[str], None]
) -> None:
    """Skip the agents of a layer that still write, once they cannot change the answer.

    Args:
        layer: the last layer. Its readers see all of its drafts end, so this works under every schedule.
        needed: how many proposals there must be, whatever they say.
        skip: drops a draft and cancels its call.
    """
    while live := [draft for draft in layer if not draft.ended]:
        await until_any_ended(live)
        proposals = references_of(layer)
        left = [draft for draft in layer if not draft.ended]
        if left and len(proposals) >= needed and await settled(proposals, [draft.agent for draft in left]):
            skipped = [draft for draft in left if not draft.ended]
            if skipped:
                notice(f"{' and '.join(draft.agent for draft in skipped)} cannot change the answer any more")
            for draft in skipped:
                skip(draft, "it could not change the answer any more")
