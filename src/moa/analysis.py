"""An analysis of proposals: what they agree on, where they contradict each other, and what they leave out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

TITLES = {
    "consensus": "Consensus",
    "contradictions": "Contradictions",
    "partial_coverage": "Covered by some",
    "unique_points": "Said by one",
    "blind_spots": "Blind spots",
}
"""The kinds of points, and what a reader sees of each."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What an aggregator has noted of the proposals, before it answers. Proposals have the numbers that it read.

    Attributes:
        consensus: points that the proposals agree on.
        contradictions: points where they contradict each other.
        partial_coverage: parts of the request that only some of them cover.
        unique_points: points that a single proposal makes.
        blind_spots: what all of them miss.
    """

    consensus: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    partial_coverage: tuple[str, ...] = ()
    unique_points: tuple[str, ...] = ()
    blind_spots: tuple[str, ...] = ()

    def kinds(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The title and the points of each kind that has any."""
        for name, title in TITLES.items():
            if points := getattr(self, name):
                yield title, points

    @property
    def text(self) -> str:
        """All points as lists in Markdown, a heading before each."""
        return "\n\n".join(
            "\n".join([f"**{title}**", "", *(f"- {point}" for point in points)]) for title, points in self.kinds()
        )
