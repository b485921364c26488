"""What a benchmark's score is, how precise it is, and how it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, stdev
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
        error: the key of its standard error in a result.
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
        """The score in a result, with its standard error if it has one."""
        error = f" ± {result[self.error]:.2f}" if result.get(self.error) is not None else ""
        return Figure(self.name, f"{result[self.field]:.2f}{error}{self.unit and ' '}{self.unit}")


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
