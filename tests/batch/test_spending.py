"""The limit on cost: kinds of items, and what is estimated before one has ended."""

from __future__ import annotations

import pytest

from moa.batch.spending import OverLimit, Share, Spending
from moa.messages import Cost

pytestmark = pytest.mark.anyio


async def ended(spending: Spending, kind: str, dollars: float) -> None:
    """An item of a kind begins, costs so much, and ends."""
    async with spending.item(kind):
        await spending.admit()
        spending.add(Cost(dollars), kind)


async def test_a_cheap_kind_goes_on_where_a_dear_one_would_exceed_the_limit() -> None:
    """Each kind is admitted by the most expensive of its own items."""
    spending = Spending(1.0, Cost(0.0))
    await ended(spending, "dear", 0.6)
    spending.expect("cheap", 0.01)
    await ended(spending, "cheap", 0.01)
    with pytest.raises(OverLimit):
        await spending.admit(Share("dear"))
    await spending.admit(Share("cheap"))


async def test_a_first_item_counts_as_estimated() -> None:
    """It does not begin where the estimate exceeds the limit; once one has ended, its cost counts."""
    spending = Spending(1.0, Cost(0.0))
    spending.expect("a", 2.0)
    with pytest.raises(OverLimit):
        await spending.admit(Share("a"))
    spending.expect("a", 0.5)
    await ended(spending, "a", 0.1)
    await spending.admit(Share("a"))
    await spending.admit(Share("a"))
