"""Counting votes over all items at once. The rules are those of :mod:`moa.mixture.tally`, which counts one item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moa.evals.search.grid import Grid, Index

__all__ = ["Panel", "counted", "muxed", "open_votes", "panel_of", "quality", "vote_weights"]

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Panel:
    """Members that vote, the strongest first.

    Attributes:
        columns: a column of the grid for each of the k members.
        same: whether two members gave the same answer, of shape (k, k, items).
        first: whether a member gave an answer that no stronger member gave, of shape (k, items).
        possible: how many answers an item has to choose from; 0 where that is unknown.
    """

    columns: Index
    same: Flags
    first: Flags
    possible: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.columns)


def panel_of(grid: Grid, columns: Sequence[int] | Index, rows: Index | None = None) -> Panel:
    """The panel of these columns, in this order: ties go to the earlier one. ``rows``: which items, by default all."""
    index = np.asarray(columns, dtype=np.intp)
    codes = np.ascontiguousarray((grid.codes if rows is None else grid.codes[rows])[:, index].T)
    answered = codes >= 0
    same = np.empty((len(index), len(index), codes.shape[1]), dtype=bool)
    first = answered.copy()
    for one in range(len(index)):
        same[one, one] = answered[one]
        for other in range(one):
            same[one, other] = same[other, one] = (codes[one] == codes[other]) & answered[one]
            first[one] &= ~same[one, other]
    return Panel(index, same, first, grid.possible if rows is None else grid.possible[rows])


def vote_weights(panel: Panel, accuracies: Doubles) -> Doubles:
    """The weight of each vote, of shape (k, items): log(p (K - 1) / (1 - p)), as :func:`moa.mixture.tally.vote` has it.

    Args:
        panel: the members.
        accuracies: strictly between 0 and 1, of shape (k) or (k, items).
    """
    p = accuracies.reshape(len(panel), -1)
    weakest = p.min(0)
    others = np.maximum(panel.first.sum(0), 2) - 1.0
    chance = (panel.possible == 0) & (weakest * (others + 1) < 1)
    others = np.where(chance, -np.log(weakest), np.log(np.maximum(others, panel.possible - 1.0)))
    votes: Doubles = np.maximum(0.0, np.log(p) - np.log1p(-p) + others)
    none = ~votes.any(0)
    if none.any():
        votes[:, none] = 1.0
    return votes


def open_votes(panel: Panel, accuracies: Doubles) -> Doubles:
    """Votes of log(p (K - 1) / (1 - p)) that may be negative, where K is at least :data:`OPEN`. Arguments as above."""
    others = np.log(np.maximum(panel.possible, OPEN) - 1.0)
    return np.asarray(np.log(accuracies) - np.log1p(-accuracies) + others)


OPEN = 5
"""So many answers are possible where nobody knows how many."""


def counted(panel: Panel, votes: Doubles) -> Index:
    """The member whose answer wins, as a place in the panel; -1 where nobody gave an answer.

    Args:
        panel: the members.
        votes: the weight of each vote, of shape (k) or (k, items).
    """
    weights = votes.reshape(len(panel), -1)
    best, highest = np.full(panel.first.shape[1], -1), np.full(panel.first.shape[1], -np.inf)
    for member in range(len(panel)):
        score = (panel.same[member] * weights).sum(0)
        wins = panel.first[member] & (score > highest + EQUAL)
        best[wins], highest[wins] = member, score[wins]
    return best


EQUAL = 1e-9
"""Scores that differ by less are a tie."""


def muxed(grid: Grid, groups: Sequence[Index], accuracies: Doubles) -> Index:
    """The column that SLM-MUX chooses, as :func:`moa.mixture.tally.mux` does; -1 where no sample is an answer.

    Args:
        grid: the answers.
        groups: the columns of each model.
        accuracies: of each model; ties go to the most accurate one.
    """
    every = np.concatenate(groups)
    support = panel_of(grid, every).same.sum(1).T
    rows, best = np.arange(len(grid)), np.full(len(grid), -1)
    highest = np.full((len(grid), 3), -1.0)
    start = 0
    for group, accuracy in zip(groups, accuracies, strict=True):
        counts = panel_of(grid, group).same.sum(1).T
        ranks = counts * (len(every) + 1) + support[:, start : start + len(group)]
        start += len(group)
        choice = ranks.argmax(1)  # the first of equals
        top = counts[rows, choice]
        rank = np.stack(
            [top / len(group), np.full(len(grid), accuracy), support[:, start - len(group) :][rows, choice]], 1
        )
        wins = (top > 0) & _above(rank, highest)
        best, highest = np.where(wins, group[choice], best), np.where(wins[:, None], rank, highest)
    return best


def _above(first: Doubles, second: Doubles) -> Flags:
    """Whether the rows of the first are greater, compared column by column."""
    above, equal = np.zeros(len(first), bool), np.ones(len(first), bool)
    for one, other in zip(first.T, second.T, strict=True):
        above |= equal & (one > other)
        equal &= one == other
    return above


def quality(grid: Grid, columns: Index, rows: Index | None = None) -> Doubles:
    """The label of the chosen column in each of these rows, from 0 to 1; 0 where none is chosen."""
    chosen = grid.right[np.arange(len(grid)) if rows is None else rows, columns]
    return np.where(columns < 0, 0.0, chosen).astype(np.float64)
