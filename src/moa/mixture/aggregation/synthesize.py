"""Synthesize: the aggregator reads all proposals and writes the answer (arXiv 2406.04692, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

from moa.messages import Reference
from moa.mixture.aggregation.protocol import Aggregation, Running


class Synthesize(Aggregation):
    """The paper's aggregation."""

    name = "synthesize"
    writes = True

    async def answer(self, run: Running, proposals: Sequence[Reference]) -> None:
        await run.write(proposals)
