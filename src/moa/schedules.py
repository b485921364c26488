"""Everything that a custom schedule needs.

::

    from moa.schedules import Reading, references_of, until_all_ended

    class Shortest:
        # gives the shortest proposal alone
        async def readings(self, layers, give_up):
            await until_all_ended(layers[-1])
            yield Reading(references_of(sorted(layers[-1], key=len))[:1])

:class:`Schedule` documents the contract and the optional members.
"""

from __future__ import annotations

from moa.mixture.draft import Draft
from moa.mixture.schedules.barrier import Barrier
from moa.mixture.schedules.drafts import (
    reference_of,
    references_of,
    until,
    until_all_ended,
    until_any_ended,
    until_first,
    until_grown,
    within,
)
from moa.mixture.schedules.early_exit import EarlyExit
from moa.mixture.schedules.protocol import GiveUp, Reading, Schedule
from moa.mixture.schedules.quorum import Quorum
from moa.mixture.schedules.staircase import Staircase

__all__ = [
    "Barrier",
    "Draft",
    "EarlyExit",
    "GiveUp",
    "Quorum",
    "Reading",
    "Schedule",
    "Staircase",
    "reference_of",
    "references_of",
    "until",
    "until_all_ended",
    "until_any_ended",
    "until_first",
    "until_grown",
    "within",
]
