"""The first members of a layer, called before the others: where they agree, the others are not called at all.

Notable decisions:
- A member that fails, says nothing for too long or is cut short is replaced by the next, so that as many whole proposals as
  were meant to be compared are compared.
- Where the members differ, the others are called at the same time, and the run is as if all had been called from the start.
- The threshold of an early exit of the mixture's schedule applies here, too.
- All readers wait for the comparison, under every schedule: a text that began on one of two proposals that differ would have
  begun too early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial

from moa.closing import cancelled
from moa.messages import Reference, Request
from moa.mixture.agreement import THRESHOLD, agree
from moa.mixture.canonical import options_of
from moa.mixture.draft import Draft
from moa.mixture.plan import Plan
from moa.mixture.schedules.drafts import reference_of, until_any_ended
from moa.mixture.schedules.early_exit import EarlyExit
from moa.mixture.schedules.protocol import GiveUp
from moa.mixture.selection import most_central
from moa.mixture.silence import drop_silent
from moa.mixture.when import FIRST

QUICK = 5000
"""Characters of texts that are compared in a moment, unless they hold a formula."""


class Probe:
    """Decides which members of a layer are called.

    Args:
        layer: the drafts of the layer, in the order in which their agents are called. Some may have ended before.
        first: how many whole proposals are compared.
        agree: whether texts agree.
        patience: as in :class:`~moa.mixture.mixture.Mixture`.
        exempt: drafts whose agents may be silent for as long as they like.
        give_up: drops a draft.

    Attributes:
        references: the proposals that agree; empty until they do, and where the members differ.
    """

    def __init__(
        self,
        layer: Sequence[Draft],
        first: int,
        agree: Callable[[Sequence[str]], bool],
        *,
        patience: float | None,
        exempt: Collection[Draft],
        give_up: GiveUp,
    ) -> None:
        self._layer, self._first, self._agree = layer, first, agree
        self._patience, self._exempt, self._give_up = patience, exempt, give_up
        self._called = {draft: asyncio.Event() for draft in layer}
        self._decided = asyncio.Event()
        self.references: tuple[Reference, ...] = ()

    @property
    def agreement(self) -> Reference | None:
        """The proposal that represents those that agree: the most central one."""
        if not self.references:
            return None
        return self.references[most_central([reference.text for reference in self.references])]

    async def admitted(self, draft: Draft) -> None:
        """Wait until this member of the layer is to be called. A member that is not needed waits until it is cancelled."""
        await self._called[draft].wait()

    async def decided(self) -> None:
        """Wait until the members agree, or all are called."""
        await self._decided.wait()

    async def run(self) -> None:
        """Call the first members, compare them, and call the others where they differ.

        The proposals are compared in a thread: reading a formula can take longer than the event loop may wait.
        """
        try:
            compared = await self._compared()
            texts = [draft.text for draft in compared]
            if len(compared) >= self._first and await self._agreed(texts):
                self.references = tuple(map(reference_of, compared))
        finally:
            if not self.references:
                for called in self._called.values():
                    called.set()
            self._decided.set()

    async def _agreed(self, texts: Sequence[str]) -> bool:
        if max(map(len, texts)) <= QUICK and not any("\\" in text for text in texts):
            return self._agree(texts)
        return await asyncio.to_thread(self._agree, texts)

    async def _compared(self) -> tuple[Draft, ...]:
        """The whole proposals of the members that were called: ``first``, or fewer where no other is left to call."""
        while True:
            called = [draft for draft in self._layer if draft.ended or self._called[draft].is_set()]
            whole = tuple(draft for draft in called if draft.usable and draft.cut is None)
            live = [draft for draft in called if not draft.ended]
            left = [draft for draft in self._layer if draft not in called]
            for draft in left[: max(0, self._first - len(whole) - len(live))]:
                self._called[draft].set()
                live.append(draft)
            if len(whole) >= self._first or not live:
                return whole
            await self._until_one_ends([*called, *(draft for draft in live if draft not in called)])

    async def _until_one_ends(self, called: Sequence[Draft]) -> None:
        if self._patience is None:
            return await until_any_ended(called)
        silent = drop_silent(called, (), patience=self._patience, needed=1, exempt=self._exempt, give_up=self._give_up)
        watching = asyncio.create_task(silent)
        try:
            await until_any_ended(called)
        finally:
            await cancelled(watching)


def probe_of(plan: Plan, request: Request, layer: Sequence[Draft], exempt: Collection[Draft], give_up: GiveUp) -> Probe:
    """The probe of a mixture's first layer for a request; the other arguments are those of :class:`Probe`."""
    threshold = plan.schedule.threshold if isinstance(plan.schedule, EarlyExit) else THRESHOLD
    asked = partial(agree, threshold=threshold, options=options_of(request.question))
    return Probe(layer, plan.first or FIRST, asked, patience=plan.patience, exempt=exempt, give_up=give_up)
