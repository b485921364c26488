"""What a benchmark's score is, how precise it is, and how it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, stdev
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """A figure in words: ``win rate``, ``52.10 ± 1.75 %``. ``part``: it is a part of the figure before it."""

    name: str
    text: str
    part: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """A benchmark's score.

    Attributes:
        name: its name for readers.
        field: its key in a result.
        error: the key of its standard error in a result. The ends of its 95 % confidence interval have the keys
            ``FIELD_low`` and ``FIELD_high``.
        low, high: the smallest and the largest possible score.
        unit: ``%``, or empty.
    """

    name: str
    field: str
    error: str
    low: float
    high: float
    unit: str = ""

    @property
    def label(self) -> str:
        """Name and unit, or name and scale: ``win rate, %``, ``score, 1 to 10``."""
        return f"{self.name}, {self.unit or f'{self.low:g} to {self.high:g}'}"

    def figure(self, result: Mapping[str, Any]) -> Figure:
        """The score in a result, with its 95 % confidence interval, or else its standard error, if it has one."""
        return Figure(self.name, f"{result[self.field]:.2f}{self.unit and ' '}{self.unit}{self._precision(result)}")

    def _precision(self, result: Mapping[str, Any]) -> str:
        if (ends := self.interval(result)) is not None:
            return f" (95 % interval {ends[0]:.2f} to {ends[1]:.2f})"
        error = result.get(self.error)
        return "" if error is None else f" (standard error {error:.2f})"

    def interval(self, result: Mapping[str, Any]) -> tuple[float, float] | None:
        """The ends of the score's 95 % confidence interval in a result, if it has them."""
        low, high = result.get(f"{self.field}_low"), result.get(f"{self.field}_high")
        return None if low is None or high is None else (low, high)

    def spread(self, values: Sequence[float]) -> dict[str, float | None]:
        """The fields of a result that say how precise the mean of independent values is: its standard error, and the ends of
        its 95 % confidence interval by Student's t; None for fewer than two values."""
        error = standard_error(values)
        ends: tuple[float | None, float | None] = (None, None)
        if error is not None:
            centre, reach = mean(values), student(len(values) - 1) * error
            ends = max(self.low, centre - reach), min(self.high, centre + reach)
        return {self.error: error, f"{self.field}_low": ends[0], f"{self.field}_high": ends[1]}


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of the mean of independent values, in their unit; None for fewer than two values.

    Values that depend on each other, such as the two turns of an item, must be averaged into one value first.
    """
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def proportion(successes: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, from 0 to 1, for at least one independent trial."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, width = successes / count, z * z / count
    middle = share + width / 2
    reach = z * math.sqrt(share * (1 - share) / count + width / count / 4)
    return max(0.0, min(share, (middle - reach) / (1 + width))), min(1.0, max(share, (middle + reach) / (1 + width)))


def student(freedom: int) -> float:
    """The standard errors to each side of a 95 % confidence interval of a mean, with so many degrees of freedom.

    The expansion in powers of 1 / freedom is that of Fisher and Cornish 1960 (Abramowitz and Stegun, 26.7.5); its error is
    below 0.01 from three degrees of freedom on.
    """
    if freedom < 3:
        return (12.706, 4.303)[freedom - 1]
    z, n = 1.959964, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
