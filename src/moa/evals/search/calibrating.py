"""Fitting the calibration of a vote to recorded answers; :mod:`moa.mixture.calibration` applies it at run time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moa.evals.search.ballots import Doubles, Panel
from moa.evals.search.grid import Floats, Grid, Index
from moa.evals.search.logit import fitted

__all__ = ["Calibrated", "calibrate"]

BINS = 5
"""So many groups of about equal size, by the length of a member's responses."""

RIDGES = {"base": 1.0, "length": 8.0, "scale": 1.0}
"""Penalties of the coefficients. A length counts only where the data insist."""

DIGITS = 3


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The coefficients for a panel of k members, rounded as a moa.toml holds them.

    Attributes:
        base: of shape (k).
        scale: how much the expected accuracy on a question counts; 0 if it does not.
        limits: numbers of characters in ascending order, of each member; empty if lengths do not count.
        changes: of the log-odds, one for each limit.
    """

    base: Doubles
    scale: float
    limits: tuple[Index, ...]
    changes: tuple[Doubles, ...]

    def votes(self, characters: Floats, expected: Doubles | None) -> Doubles:
        """The log-odds of each member's vote, of shape (k, items).

        Args:
            characters: of the responses, of shape (items, k).
            expected: the expected accuracies, of shape (items, k); None if they do not count.
        """
        votes = np.repeat(self.base[:, None], len(characters), 1)
        if expected is not None:
            votes += self.scale * _log_odds(expected).T
        for member, (limits, changes) in enumerate(zip(self.limits, self.changes, strict=True)):
            known = ~np.isnan(characters[:, member])
            votes[member, known] += changes[_place(limits, characters[known, member])]
        return votes


def calibrate(grid: Grid, panel: Panel, rows: Index, expected: Doubles | None, *, lengths: bool) -> Calibrated:
    """Fit the coefficients.

    Args:
        grid: the answers.
        panel: the members, on all rows of the grid.
        rows: the rows to fit to.
        expected: expected accuracies of the members on all rows, not made from the same rows' labels; None to ignore them.
        lengths: whether the lengths of responses count.
    """
    same, size = panel.same.transpose(2, 0, 1)[rows].astype(np.float64), len(panel)
    columns, ridges = [same], [RIDGES["base"]] * size
    if expected is not None:
        columns.append(same @ _log_odds(expected[rows])[:, :, None])
        ridges.append(RIDGES["scale"])
    limits: list[Index] = []
    for member, column in enumerate(panel.columns if lengths else ()):
        characters = grid.characters[rows, column]
        known = ~np.isnan(characters)
        limits.append(_limits(characters[known & (grid.codes[rows, column] >= 0)]))
        place = np.where(known, _place(limits[-1], np.nan_to_num(characters)), -1)
        groups = place[:, None] == np.arange(len(limits[-1]))
        columns.append(same[:, :, member, None] * groups[:, None, :])
        ridges += [RIDGES["length"]] * len(limits[-1])
    right = grid.right[np.ix_(rows, panel.columns)].astype(np.float64)
    theta = fitted(np.concatenate(columns, 2), panel.first.T[rows], right, np.array(ridges)).round(DIGITS)
    base, rest = theta[:size], theta[size:]
    scale, rest = (float(rest[0]), rest[1:]) if expected is not None else (0.0, rest)
    ends = np.cumsum([len(each) for each in limits])
    return Calibrated(base, scale, tuple(limits), tuple(np.split(rest, ends)[: len(limits)]))


def _limits(characters: Floats) -> Index:
    """The longest response of each group."""
    if not len(characters):
        return np.zeros(1, dtype=np.intp)
    ends = np.quantile(characters, np.arange(1, BINS + 1) / BINS, method="lower")
    return np.unique(ends.astype(np.intp))


def _place(limits: Index, characters: Floats) -> Index:
    """The group of each length: the first limit that is not below it, else the last one."""
    return np.minimum(np.searchsorted(limits, characters), len(limits) - 1)


def _log_odds(p: Doubles) -> Doubles:
    return np.asarray(np.log(p) - np.log1p(-p))
