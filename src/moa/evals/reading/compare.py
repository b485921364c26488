"""Is A better than B? The difference on the same items, with an interval, instead of two bare figures.

Notable decisions:
- Both runs saw the same items, and some items are easy for everyone. The difference item by item leaves that out, so its
  interval is narrower than those of the two figures would suggest, and honest.
- The interval is the bootstrap's: items are drawn again and again, with replacement, and the middle 95 % of the means are
  taken (Efron & Tibshirani 1993, chapter 13). It says how the figure would vary with other items like these. It says
  nothing of how the judge or the models would vary if asked again, nor of what the judge favours.
- What belongs together is drawn together: an item's two turns are one item.
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
"""How many draws are held in memory at a time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A - B on the same items.

    Attributes:
        items: how many were compared.
        a, b: the means.
        difference: ``a - b``.
        low, high: the ends of its interval.
        confidence: how much of the bootstrap's draws lie between them, 0 to 1.
        better, worse, even: on how many items A was.
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
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def interval(
    values: Sequence[float] | NDArray[np.float64], *, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The bootstrap interval of the mean of values, one for each item.

    Raises:
        ConfigError: there are fewer than two.
    """
    known = np.asarray(values, dtype=float)
    if len(known) < 2:
        raise ConfigError(f"an interval needs at least two items, and there {'is one' if len(known) else 'are none'}")
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
    """Compare two systems by their figures on the same items, in the same order.

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
    """Two runs on the items that both have a score for, in the units of their benchmark.

    For AlpacaEval that is the bare win rate: a length-controlled one belongs to a whole run and to no item.

    Raises:
        ConfigError: they are of different benchmarks, or share fewer than two items.
    """
    if a.benchmark != b.benchmark:
        raise ConfigError(f"{a.folder} is of {a.benchmark} and {b.folder} of {b.benchmark}: nothing to compare")
    shared = [item for item in a.scores if item in b.scores]
    if len(shared) < 2:
        raise ConfigError(f"{a.folder} and {b.folder} share {len(shared)} items with a score; two are needed")
    return paired(
        [a.scores[item] for item in shared], [b.scores[item] for item in shared], confidence=confidence, seed=seed
    )
