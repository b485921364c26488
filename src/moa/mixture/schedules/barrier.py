"""The paper's schedule: wait for every agent of the layer (arXiv 2406.04692, section 2.2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from moa.mixture.draft import Draft
from moa.mixture.schedules.drafts import references_of, until_all_ended, until_any_ended
from moa.mixture.schedules.protocol import GiveUp, Reading


class Barrier:
    """Wait until every agent of the layer has ended, then give all usable proposals.

    Args:
        warm: while slow agents still write, send the prompt ahead with the proposals that are ready, so that the upstream's
            prefix cache holds it when the last proposal comes. References are then in order of arrival. Each warming call
            costs one output token and a prompt that is mostly cached. It needs references after the last user message.
    """

    def __init__(self, *, warm: bool = False) -> None:
        self.warm = warm

    async def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        drafts = layers[-1]
        arrived: list[Draft] = []
        while self.warm and not all(draft.ended for draft in drafts):
            new = [draft for draft in drafts if draft.usable and draft not in arrived]
            if new:
                arrived += new
                yield Reading(references_of(arrived), warm=True)
            await until_any_ended(drafts)
        await until_all_ended(drafts)
        yield Reading(references_of([*arrived, *(draft for draft in drafts if draft not in arrived)]))

    def __repr__(self) -> str:
        return "Barrier(warm=True)" if self.warm else "Barrier()"
