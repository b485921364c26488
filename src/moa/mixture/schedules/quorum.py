"""A schedule that does not wait for slow agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence

from moa.mixture.draft import Draft
from moa.mixture.schedules.drafts import references_of, until, until_all_ended, within
from moa.mixture.schedules.protocol import GiveUp, Reading


class Quorum:
    """Start once enough proposals are ready, and drop the others.

    Args:
        usable: how many usable proposals are enough.
        grace: seconds that the other agents still have from then on.
        deadline: seconds, counted from the end of the layer before, after which the agent starts with the usable proposals
            so far; without any, it waits for the first. None: no limit.
        require: names of agents that the schedule always waits for, except past the deadline.
        hedge: seconds after which a proposer that has sent nothing is called a second time; the first of the
            two to send anything is kept. None: never.

    Raises:
        ValueError: ``usable`` is below 1, or a time is negative.
    """

    def __init__(
        self,
        usable: int,
        *,
        grace: float = 0.0,
        deadline: float | None = None,
        require: Collection[str] = (),
        hedge: float | None = None,
    ) -> None:
        if usable < 1:
            raise ValueError(f"usable is at least 1, not {usable}")
        for name, seconds in [("grace", grace), ("deadline", deadline), ("hedge", hedge)]:
            if seconds is not None and not seconds >= 0:
                raise ValueError(f"{name} is in seconds from 0 up, not {seconds}")
        self.usable, self.grace, self.deadline, self.hedge = usable, grace, deadline, hedge
        self.require = frozenset(require)

    async def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        drafts = layers[-1]
        if len(layers) > 1:
            await until_all_ended(layers[-2])  # agents of that layer that were too slow are dropped by then
        reason = f"{self.usable} usable proposals were ready without it"
        try:
            async with asyncio.timeout(self.deadline):
                await until(drafts, lambda: self._enough(drafts))
                await within(self.grace, until_all_ended(drafts))
        except TimeoutError:
            reason = f"the layer's {self.deadline:g} s deadline passed"
            await until(drafts, lambda: any(draft.usable for draft in drafts))
        for draft in drafts:
            if not draft.ended:
                give_up(draft, reason)
        yield Reading(references_of(drafts))

    def _enough(self, drafts: Sequence[Draft]) -> bool:
        required = all(draft.ended for draft in drafts if draft.agent in self.require)
        return required and sum(draft.usable for draft in drafts) >= self.usable

    def check(self, layers: Sequence[Sequence[str]]) -> None:
        """Raise ValueError if the layers, given as names of their agents, cannot satisfy the quorum."""
        largest = max(map(len, layers), default=self.usable)
        if self.usable > largest:
            raise ValueError(f"usable is {self.usable}, but the largest layer has {largest} proposers")
        names = sorted({name for layer in layers for name in layer})
        for name in sorted(self.require.difference(names)) if layers else []:
            raise ValueError(f"require names {name!r}; the proposers are {', '.join(names)}")

    def __repr__(self) -> str:
        return f"Quorum({self.usable}, grace={self.grace:g})"
