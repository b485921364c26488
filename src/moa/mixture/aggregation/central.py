"""Central: the answer is the proposal most like the others. No model is called for it."""

from __future__ import annotations

from collections.abc import Sequence

from moa.messages import Reference
from moa.mixture.aggregation.protocol import Aggregation, Running
from moa.mixture.selection import most_central


class Central(Aggregation):
    """The most central proposal; see :func:`~moa.mixture.selection.most_central`."""

    name = "central"
    needs_aggregator = False

    async def answer(self, run: Running, proposals: Sequence[Reference]) -> None:
        run.select(proposals[most_central([proposal.text for proposal in proposals])], "most like the other proposals")
