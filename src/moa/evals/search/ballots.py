"""Counting votes over all items at once. The rules are those of :mod:`moa.mixture.tally`, which counts one item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moa.evals.search.grid import Grid, Index

__all__ = ["Panel", "counted", "muxed", "panel_of", "quality", "vote_weights"]

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Panel:
    """Members that vote, the strongest first.

    Attributes:
        columns: a column of the grid for each of the k members.
        same: whether two members gave the same answer, of shape (items, k, k).
        first: whether a member gave an answer that no stronger member gave, of shape (items, k).
    """

    columns: Index
    same: Flags
    first: Flags

    def __len__(self) -> int:
        return len(self.columns)


def panel_of(grid: Grid, columns: Sequence[int] | Index, rows: Index | None = None) -> Panel:
    """The panel of these columns, in this order: ties go to the earlier one. ``rows``: which items, by default all."""
    index = np.asarray(columns, dtype=np.intp)
    codes = grid.codes[:, index] if rows is None else grid.codes[np.ix_(rows, index)]
    answered = codes >= 0
    same = (codes[:, :, None] == codes[:, None, :]) & answered[:, :, None]
    earlier = np.tril(np.ones((len(index), len(index)), dtype=bool), -1)
    return Panel(index, same, answered & ~(same & earlier).any(2))


def vote_weights(panel: Panel, accuracies: Doubles) -> Doubles:
    """The weight of each vote, of shape (items, k): log(p (K - 1) / (1 - p)), as :func:`moa.mixture.tally.vote` has it.

    Args:
        panel: the members.
        accuracies: strictly between 0 and 1, of shape (k) or (items, k).
    """
    p = np.broadcast_to(accuracies, panel.first.shape)
    others = np.maximum(panel.first.sum(1), 2) - 1.0
    weakest = p.min(1)
    others = np.where(weakest * (others + 1) < 1, -np.log(weakest), np.log(others))
    votes = np.maximum(0.0, np.log(p) - np.log1p(-p) + others[:, None])
    return np.where(votes.any(1, keepdims=True), votes, 1.0)


def counted(panel: Panel, votes: Doubles) -> Index:
    """The member whose answer wins, as a place in the panel; -1 where nobody gave an answer.

    Args:
        panel: the members.
        votes: the weight of each vote, of shape (k) or (items, k).
    """
    scores = (panel.same @ np.broadcast_to(votes, panel.first.shape)[:, :, None])[:, :, 0]
    scores = np.where(panel.first, scores.round(9), -np.inf)
    return np.where(panel.first.any(1), scores.argmax(1), -1)


def muxed(grid: Grid, groups: Sequence[Index], accuracies: Doubles) -> Index:
    """The column that SLM-MUX chooses, as :func:`moa.mixture.tally.mux` does; -1 where no sample is an answer.

    Args:
        grid: the answers.
        groups: the columns of each model.
        accuracies: of each model; ties go to the most accurate one.
    """
    every = np.concatenate(groups)
    support = panel_of(grid, every).same.sum(2)
    rows, best = np.arange(len(grid)), np.full(len(grid), -1)
    highest = np.full((len(grid), 3), -1.0)
    start = 0
    for group, accuracy in zip(groups, accuracies, strict=True):
        counts = panel_of(grid, group).same.sum(2)
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
