"""The interval of a proportion: how often something happens, from how often it did.

Clopper and Pearson's interval (Biometrika 26, 1934) holds at least its confidence for every true proportion, also where the
count is 0 or all. Its ends are quantiles of beta distributions; here they are found by bisection on binomial tails,
which the standard library can add up.
"""

from __future__ import annotations

import math
from collections.abc import Callable

STEPS = 50
"""Halvings of the interval from 0 to 1: an error below 1e-15."""


def clopper_pearson(count: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The ends of the interval of a proportion, from 0 to 1.

    Args:
        count: how often it happened, 0 to ``trials``.
        trials: how often it could have happened; without a trial, the interval is everything.
        confidence: the probability that an interval made like this holds the true proportion, at least.
    """
    if 2 * count > trials:  # fewer terms to add up
        low, high = clopper_pearson(trials - count, trials, confidence)
        return 1 - high, 1 - low
    tail = (1 - confidence) / 2
    low = _bisected(lambda share: 1 - at_most(count - 1, trials, share) < tail) if count else 0.0
    return low, _bisected(lambda share: at_most(count, trials, share) > tail) if trials else 1.0


def _bisected(below: Callable[[float], bool]) -> float:
    """The point where ``below``, true at 0, becomes false."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2


def at_most(count: int, trials: int, share: float) -> float:
    """The probability of at most ``count`` successes in ``trials``, each with the probability ``share`` (0 < share < 1)."""
    whole = math.lgamma(trials + 1)
    yes, no = math.log(share), math.log1p(-share)
    return math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * yes + (trials - k) * no)
        for k in range(count + 1)
    )
