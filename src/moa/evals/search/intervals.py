"""Intervals of a gain: the mean of paired differences, over items, and clustered by task.

Items of one task may succeed or fail together, so their differences are summed by task first. Miller, "Adding error bars to
evals", arXiv 2411.00640, sections 2.2 and 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moa.evals.search.ballots import Doubles
from moa.evals.search.grid import Index

__all__ = ["Interval", "clustered", "paired", "standard_error"]

Z = 1.959964


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval, from -1 to 1, and its standard error."""

    mean: float
    low: float
    high: float
    error: float


def paired(differences: Doubles) -> Interval:
    """The interval over items. ``differences`` has one difference of accuracies per item."""
    return _around(float(differences.mean()), standard_error(differences))


def clustered(differences: Doubles, tasks: Index) -> Interval | None:
    """The interval over tasks; None for fewer than two tasks."""
    found, place = np.unique(tasks, return_inverse=True)
    if len(found) < 2:
        return None
    mean = float(differences.mean())
    sums = np.bincount(place, weights=differences - mean)
    return _around(mean, float(np.sqrt((sums**2).sum() * len(found) / (len(found) - 1)) / len(differences)))


def standard_error(differences: Doubles) -> float:
    """The standard error of a mean of independent differences.

    A sample without any difference does not prove that there is none: one item in it that differed is always assumed.
    """
    n = len(differences)
    if n < 2:
        return 1.0
    smoothed = (float(((differences - differences.mean()) ** 2).sum()) + 1.0 / n) / (n - 1)
    return float(np.sqrt(smoothed / n))


def _around(mean: float, error: float) -> Interval:
    return Interval(mean, mean - Z * error, mean + Z * error, error)
