"""Sliding windows: what was used in the last minute or the last day, counted in slots of a second or of ten minutes.

A slot counts as a whole until its last use is as old as the window. So no stretch of time of the window's length ever holds
more than a limit, wherever it begins, and a key's usage takes a bounded number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Use(NamedTuple):
    """What was used in a slot, and when for the last time, in seconds since 1970."""

    last: float
    amount: float


class Window(NamedTuple):
    """A window of so many seconds, in slots of so many seconds. Times are seconds since 1970."""

    name: str
    seconds: int
    slot: int

    def slot_of(self, now: float) -> int:
        """The number of the slot of a time."""
        return math.floor(now / self.slot)

    def wait(self, uses: Iterable[Use], room: float, now: float) -> float | None:
        """Seconds until at most ``room`` of what was used is left in the window; None where it is so already.
        A room below 0 never is."""
        counting = sorted(use for use in uses if use.last + self.seconds > now)
        left, wait = math.fsum(use.amount for use in counting), None
        for use in counting:
            if left <= room:
                break
            left -= use.amount
            wait = use.last + self.seconds - now
        return wait if left <= room else float(self.seconds)


MINUTE = Window("minute", 60, 1)
DAY = Window("day", 86400, 600)
