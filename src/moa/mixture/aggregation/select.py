"""Select: the aggregator's model picks one proposal (the paper's LLM-ranker baseline, arXiv 2406.04692 section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

from moa.messages import Reference
from moa.mixture.aggregation.central import Central
from moa.mixture.aggregation.protocol import Aggregation, Running
from moa.mixture.asking import ranker_request
from moa.mixture.selection import chosen


class Select(Aggregation):
    """A ranker's choice; where the ranker names no proposal, the most central one."""

    name = "select"
    role = "ranker"

    async def answer(self, run: Running, proposals: Sequence[Reference]) -> None:
        name, ranker = next(iter(run.aggregators.items()))
        reply = await run.call(
            ranker,
            name,
            self.role,
            lambda references, _: ranker_request(ranker, run.request, run.layout, references),
            proposals,
        )
        choice = chosen(reply.text, len(proposals)) if reply.usable else None
        if choice is None:
            run.notice("the ranker named no proposal; the most central proposal is the answer", degrades=True)
            await Central().answer(run, proposals)
        else:
            run.select(proposals[choice], f"chosen by {ranker.label}")
