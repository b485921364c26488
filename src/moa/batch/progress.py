"""How far a job is, and its summary."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moa.batch.answering import Answered
from moa.batch.journal import Totals
from moa.messages import Cost

_WINDOW = 30
"""Seconds over which rates are measured."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes:
        rows: rows to answer in all; ``answered`` (with those that failed), ``failed`` and ``degraded`` of them.
        tokens_per_second: output tokens of all calls, over the last half minute.
        cost: of all calls so far, in earlier starts too.
        seconds_left: None before it can be estimated.
        in_flight: rows that are being answered.
    """

    rows: int
    answered: int
    failed: int
    degraded: int
    tokens_per_second: float
    cost: Cost
    seconds_left: float | None
    in_flight: int

    def line(self) -> dict[str, Any]:
        """Itself as a JSON object for logs."""
        return {
            "event": "progress",
            "rows": self.rows,
            "answered": self.answered,
            "failed": self.failed,
            "degraded": self.degraded,
            "in_flight": self.in_flight,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "cost": self.cost.dollars,
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
        }


@dataclass(slots=True)
class Tally:
    """Counts answered rows; memory does not grow with them."""

    rows: int
    totals: Totals
    answered: int = 0
    failed: int = 0
    degraded: int = 0
    output_tokens: int = 0
    cost: Cost = field(default_factory=Cost)
    _marks: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def __post_init__(self) -> None:
        self.answered, self.failed, self.degraded = self.totals.answered, self.totals.failed, self.totals.degraded
        self.cost = self.totals.cost
        self._mark(time.monotonic())

    def add(self, answered: Answered, cost: Cost) -> None:
        """Count a row, and what this start of the job paid for it."""
        self.cost += cost
        self.answered += 1
        self.failed += answered.error is not None
        self.degraded += bool(answered.degraded)
        self.output_tokens += answered.usage.output_tokens
        now = time.monotonic()
        if now - self._marks[-1][0] >= 1:
            self._mark(now)

    def progress(self, in_flight: int) -> Progress:
        """How far the job is now."""
        began, answered, tokens = self._marks[0]
        seconds = max(time.monotonic() - began, 1e-3)
        pace = (self.answered - answered) / seconds
        left = (self.rows - self.answered) / pace if pace else None
        return Progress(
            self.rows,
            self.answered,
            self.failed,
            self.degraded,
            (self.output_tokens - tokens) / seconds,
            self.cost,
            left,
            in_flight,
        )

    def _mark(self, now: float) -> None:
        self._marks.append((now, self.answered, self.output_tokens))


def summary(
    *, output: str, mixture: str, rows: int, totals: Totals, errors: Mapping[str, int], stopped: str, seconds: float
) -> dict[str, Any]:
    """The summary of a job as a JSON object: counts over all its starts, seconds of this one.

    ``stopped`` is why the job ended before all rows were answered; empty where they all are.
    """
    return {
        "event": "summary",
        "output": output,
        "mixture": mixture,
        "rows": rows,
        "answered": totals.answered - totals.failed,
        "failed": totals.failed,
        "left": max(0, rows - totals.answered),
        "degraded": totals.degraded,
        "errors": dict(errors),
        "usage": {"input_tokens": totals.input_tokens, "output_tokens": totals.output_tokens},
        "cost": totals.cost.dollars,
        "cost_is_at_least": totals.cost.at_least,
        "seconds": round(seconds, 1),
        "stopped": stopped,
    }
