"""The choice of members: every panel where there are few, otherwise greedy steps and swaps; losers of a race leave early.

In a race all candidates are scored on a few items first. A candidate leaves if its paired difference to the leader shows
that it is worse; the others are scored on more items. Maron & Moore, "Hoeffding races", 1994, with paired t statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from math import comb

import numpy as np

from moa.evals.search.ballots import Doubles
from moa.evals.search.grid import Index

__all__ = ["Choice", "Members", "Score"]

Members = tuple[int, ...]
"""Indices of models, in ascending order."""

Score = Callable[[Members, Index], Doubles]
"""Members and rows -> the quality of the answer in each row."""

EXHAUSTIVE = 300
"""So many panels of a size are all tried."""

FIRST, GROWTH = 600, 3
"""A race starts with so many items, and continues with so many times as many."""

SWAPS = 6
"""At most so many members are exchanged at a size."""

LOST = 2.5
"""A candidate that is this many standard errors behind the leader leaves the race."""


class Choice:
    """Finds the best panel of each size on some rows.

    Args:
        score: what a panel reaches.
        rows: the rows to search on, in an order without meaning: a race starts with the first ones.
        within: whether a panel is within the limits of cost and time.

    Attributes:
        tried: every panel that was scored.
    """

    def __init__(self, score: Score, rows: Index, *, within: Callable[[Members], bool] = lambda _: True) -> None:
        self._score, self._rows, self._within = score, rows, within
        self._known: dict[Members, list[Doubles]] = {}

    @property
    def tried(self) -> set[Members]:
        return set(self._known)

    def panels(self, models: Sequence[int], most: int) -> Iterator[Members]:
        """The best panel found of one member, of two, and so on."""
        best: Members = ()
        for size in range(1, min(most, len(models)) + 1):
            few = comb(len(models), size) <= EXHAUSTIVE
            every = (
                (tuple(sorted(each)) for each in combinations(models, size)) if few else _with_one_more(best, models)
            )
            candidates = [members for members in every if self._within(members)]
            if not candidates:
                return
            best = self.race(candidates)
            if not few:
                best = self._swapped(best, models)
            yield best

    def _swapped(self, members: Members, models: Sequence[int]) -> Members:
        """Exchange one member at a time, while that helps."""
        for _ in range(SWAPS):
            rivals = (each for left in combinations(members, len(members) - 1) for each in _with_one_more(left, models))
            better = self.race([members, *filter(self._within, rivals)])
            if better == members:
                break
            members = better
        return members

    def race(self, candidates: Iterable[Members]) -> Members:
        """The best of the candidates; the first of equals."""
        running = list(dict.fromkeys(candidates))
        for stage, _ in enumerate(self._stages()):
            values = [self._quality(members, stage) for members in running]
            leader = int(np.argmax([value.mean() for value in values]))
            if len(values[leader]) == len(self._rows):
                return running[leader]
            running = [
                members
                for members, value in zip(running, values, strict=True)
                if not _is_behind(value - values[leader]) or members == running[leader]
            ]
            if len(running) == 1:
                return running[0]
        raise AssertionError("a race ends at its last stage")

    def _stages(self) -> list[Index]:
        """The rows that each stage adds."""
        ends = [0, FIRST]
        while ends[-1] < len(self._rows):
            ends.append(ends[-1] * GROWTH)
        return [self._rows[start:end] for start, end in pairwise(ends)]

    def _quality(self, members: Members, stage: int) -> Doubles:
        known = self._known.setdefault(members, [])
        known.extend(self._score(members, rows) for rows in self._stages()[len(known) : stage + 1])
        return np.concatenate(known[: stage + 1])


def _with_one_more(members: Members, models: Sequence[int]) -> Iterator[Members]:
    return (tuple(sorted((*members, model))) for model in models if model not in members)


def _is_behind(differences: Doubles) -> bool:
    error = differences.std() / np.sqrt(len(differences))
    return bool(differences.mean() < -LOST * error) and bool(error > 0)
