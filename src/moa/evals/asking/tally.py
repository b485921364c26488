"""How far a measurement is."""

from __future__ import annotations

import time
from dataclasses import dataclass

from moa.messages import Cost


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a measurement is: items by outcome, US dollars, seconds left (None before it can be estimated)."""

    done: int
    failed: int
    total: int
    cost: Cost
    seconds_left: float | None


@dataclass(slots=True)
class Tally:
    """Items by outcome. ``called`` counts those that needed a call; the journal had the others."""

    total: int
    began: float
    done: int = 0
    failed: int = 0
    called: int = 0
    left_out: int = 0

    def progress(self, cost: Cost) -> Progress:
        """The time left is estimated from the items that needed a call; those in the journal take no time."""
        pace = (time.monotonic() - self.began) / self.called if self.called else None
        left = None if pace is None else pace * (self.total - self.done - self.failed)
        return Progress(self.done, self.failed, self.total, cost, left)
