"""A schedule around another: when the proposals of a layer agree, the layers after it are skipped."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from itertools import combinations

from moa.mixture.draft import Draft
from moa.mixture.facts import facts, plain
from moa.mixture.schedules.checked import CheckedSchedule
from moa.mixture.schedules.protocol import Exit, GiveUp, Reading, Schedule
from moa.mixture.selection import similarity

SHORT = 60
"""Characters up to which a proposal is short. Short proposals agree only if their words are the same."""


class EarlyExit:
    """Around any schedule: when the proposals of a layer agree, the run skips the layers after it.

    Args:
        schedule: the schedule that applies as long as no layer agrees.
        threshold: the least similarity of any two proposals, above 0 and up to 1; see
            :func:`moa.mixture.selection.similarity`.
        answer: ``central``: the most central proposal is the answer; ``aggregate``: the aggregator reads it alone.

    Raises:
        ValueError: the threshold is out of range.
    """

    def __init__(self, schedule: Schedule, *, threshold: float = 0.9, answer: Exit = "central") -> None:
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
        """Whether there are at least two proposals and all are alike.

        Short ones must be the same but for case, space, emphasis and punctuation behind words: ``"It is Paris."`` and
        ``"it is **paris**"`` agree, ``"It is Rome."`` does not, and neither do ``"-5"`` and ``"5"``. As soon as one is
        longer, the similarity of every pair must reach the threshold, and all must have the same numbers, signs, operators
        and negations in the same order.
        """
        if len(texts) < 2:
            return False
        if all(len(text) <= SHORT for text in texts):
            return len({plain(text) for text in texts}) == 1
        if any(facts(text) != facts(texts[0]) for text in texts[1:]):
            return False
        return all(similarity(one, other) >= self.threshold for one, other in combinations(texts, 2))

    def __repr__(self) -> str:
        return f"EarlyExit({self._checked!r}, threshold={self.threshold:g})"
