"""The exact interval of a proportion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.evals.proportion import clopper_pearson


@pytest.mark.parametrize(
    ("count", "trials", "low", "high"),
    [
        # at 0 and at all, an end is a power of 0.025; at 3 of 10, both tails are 2.5 %
        (0, 10, 0.0, 0.3084971),
        (3, 10, 0.06673951, 0.6524529),
        (10, 10, 0.6915029, 1.0),
        (1, 1, 0.025, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_interval_is_the_exact_one(count: int, trials: int, low: float, high: float) -> None:
    """Each tail beyond its ends is 2.5 %, also where nothing or everything happened."""
    assert clopper_pearson(count, trials) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(1, 200).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_the_interval_holds_the_observed_share(drawn: tuple[int, int]) -> None:
    """For every count, it contains the share, is symmetric in success and failure, and grows with the confidence."""
    count, trials = drawn
    low, high = clopper_pearson(count, trials)
    assert 0 <= low <= count / trials <= high <= 1
    assert clopper_pearson(trials - count, trials) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    wide = clopper_pearson(count, trials, 0.99)
    assert wide[0] <= low + 1e-12
    assert wide[1] >= high - 1e-12
