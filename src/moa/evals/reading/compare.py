"""Is A better than B? The difference on the same items, with a confidence interval.

Notable decisions:
- Both systems answered the same items, and some items are easy for every system. The difference by item removes that part of
  the variance, so its interval is narrower than those of the two scores suggest, and still correct.
- The interval is a bootstrap percentile interval: items are resampled with replacement (Efron & Tibshirani 1993,
  chapter 13). It covers the choice of items. It covers neither the variance of repeated runs nor the judge's bias.
- Scores that depend on each other are resampled together: an item's two turns are one item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moa.errors import ConfigError
from moa.evals.reading.measured import Measured

DRAWS = 10_000
AT_ONCE = 500
"""Resamples in memory at a time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A - B on the same items.

    Attributes:
        items: the number of items.
        a, b: the means.
        difference: ``a - b``.
        low, high: the ends of its confidence interval.
        confidence: the confidence level, 0 to 1.
        better, worse, even: the number of items on which A was better than B, worse, or equal.
    """

    items: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    confidence: float
    better: int
    worse: int
    even: int

    @property
    def decided(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def interval(
    values: Sequence[float] | NDArray[np.float64], *, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The bootstrap interval of the mean of values, one value per item.

    Raises:
        ConfigError: there are fewer than two values.
    """
    known = np.asarray(values, dtype=float)
    if len(known) < 2:
        raise ConfigError(f"a confidence interval needs at least two items, not {len(known)}")
    random = np.random.default_rng(seed)
    means = np.concatenate(
        [
            known[random.integers(len(known), size=(min(AT_ONCE, draws - done), len(known)))].mean(axis=1)
            for done in range(0, draws, AT_ONCE)
        ]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def paired(
    a: Sequence[float] | NDArray[np.float64],
    b: Sequence[float] | NDArray[np.float64],
    *,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """Compare two systems by their scores on the same items, in the same order.

    Raises:
        ConfigError: there are fewer than two items.
    """
    ours, theirs = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    gaps = ours - theirs
    low, high = interval(gaps, confidence=confidence, draws=draws, seed=seed)
    return Difference(
        len(gaps),
        float(ours.mean()),
        float(theirs.mean()),
        float(gaps.mean()),
        low,
        high,
        confidence,
        int((gaps > 0).sum()),
        int((gaps < 0).sum()),
        int((gaps == 0).sum()),
    )


def compared(a: Measured, b: Measured, *, confidence: float = 0.95, seed: int = 0) -> Difference:
    """Two systems on the items for which both have a score, in the units of the benchmark's metric.

    A controlled score belongs to a whole run and to no item, so it is not compared.

    Raises:
        ConfigError: they are of different benchmarks, or share fewer than two items.
    """
    if a.benchmark != b.benchmark:
        raise ConfigError(
            f"cannot compare {a.folder} ({a.benchmark.name}) with {b.folder} ({b.benchmark.name}): "
            "they are of different benchmarks"
        )
    shared = [item for item in a.scores if item in b.scores]
    if len(shared) < 2:
        raise ConfigError(f"{a.folder} and {b.folder} share {len(shared)} items with a score; two are needed")
    return paired(
        [a.scores[item] for item in shared], [b.scores[item] for item in shared], confidence=confidence, seed=seed
    )
