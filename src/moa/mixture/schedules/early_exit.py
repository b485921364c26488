"""A schedule around another: when the proposals of a layer agree, the layers after it are skipped."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from moa.mixture.agreement import THRESHOLD, agree
from moa.mixture.draft import Draft
from moa.mixture.schedules.checked import CheckedSchedule
from moa.mixture.schedules.protocol import Exit, GiveUp, Reading, Schedule


class EarlyExit:
    """Around any schedule: when the proposals of a layer agree, the run skips the layers after it.

    Args:
        schedule: the schedule that applies as long as no layer agrees.
        threshold: the least similarity of any two proposals that give no answer with a canonical form, above 0 and up to
            1; see :func:`moa.mixture.selection.similarity`.
        answer: ``central``: the most central proposal is the answer; ``aggregate``: the aggregator reads it alone.

    Raises:
        ValueError: the threshold is out of range.
    """

    def __init__(self, schedule: Schedule, *, threshold: float = THRESHOLD, answer: Exit = "central") -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold is a share above 0 and up to 1, not {threshold}")
        self.schedule, self.threshold, self.answer = schedule, threshold, answer
        self._checked = CheckedSchedule(schedule)

    @property
    def grows(self) -> bool:
        return self._checked.grows

    @property
    def warm(self) -> bool:
        return self._checked.warm

    @property
    def hedge(self) -> float | None:
        return self._checked.hedge

    @property
    def exits_with(self) -> Exit:
        return self.answer

    def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        return self._checked.readings(layers, give_up)

    def check(self, layers: Sequence[Sequence[str]]) -> None:
        self._checked.check(layers)

    def agree(self, texts: Sequence[str]) -> bool:
        """Whether there are at least two proposals and all agree; see :func:`moa.mixture.agreement.agree`."""
        return agree(texts, self.threshold)

    def __repr__(self) -> str:
        return f"EarlyExit({self._checked!r}, threshold={self.threshold:g})"
