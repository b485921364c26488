"""How the answers of proposals were counted, in a line."""

from __future__ import annotations

from moa.cli.terminal import one_line
from moa.mixture.events import VotesCounted

MOST = 5
"""How many answers the line names."""
LONGEST = 40
"""Characters of an answer in the line."""


def count_line(event: VotesCounted) -> str:
    """``vote: 42 ×3 (2.08), 41 ×1 (0.41)``: each answer, how many gave it, and its score where it is not that number."""
    parts = []
    for cluster in event.clusters[:MOST]:
        count, answer = len(cluster.agents), one_line(cluster.answer)
        score = "" if cluster.score == count else f" ({cluster.score:.2f})"
        parts.append(f"{answer if len(answer) <= LONGEST else answer[: LONGEST - 1] + '…'} ×{count}{score}")
    more = len(event.clusters) - MOST
    return f"{event.way}: {', '.join(parts)}{f', and {more} more' if more > 0 else ''}"
