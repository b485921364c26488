"""Which items a measurement uses: all, the first ones, or a sample in which every stratum has its share."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def chosen(
    items: Sequence[Item],
    limit: int | None,
    sample: int | None,
    seed: int,
    stratum: Callable[[Item], object],
) -> list[Item]:
    """The items to measure, in their own order.

    Args:
        limit: use only the first so many; None for all.
        sample: use only so many, drawn from all; a larger sample with the same seed contains a smaller one.
        seed: of the draw.
        stratum: what an item belongs to (its category); each has the same share of the sample as of all items, as nearly as
            whole items allow.
    """
    if sample is None or sample >= len(items):
        return [*items[:limit]]
    strata: dict[object, list[int]] = {}
    for place, item in enumerate(items):
        strata.setdefault(stratum(item), []).append(place)
    draw = random.Random(seed)
    ordered: list[tuple[float, float, int]] = []
    for places in strata.values():
        draw.shuffle(places)
        # Spread over [0, 1) like the others, so that every beginning of the whole order has all strata in proportion.
        ordered += [((rank + draw.random()) / len(places), draw.random(), place) for rank, place in enumerate(places)]
    places = sorted(place for *_, place in sorted(ordered)[:sample])
    return [items[place] for place in places][:limit]
