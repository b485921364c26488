"""The front of quality against cost."""

from __future__ import annotations

from collections.abc import Sequence


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indices of the points (cost, quality) on the Pareto front, by cost.

    No other point has a lower cost and at least the same quality, or a higher quality at no more cost.
    """
    front: list[int] = []
    best = float("-inf")
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        cost, quality = points[index]
        equal = bool(front) and points[front[-1]] == (cost, quality)
        if quality > best or equal:
            front.append(index)
            best = quality
    return front
