"""Synthesize: the aggregator reads all proposals and writes the answer (arXiv 2406.04692, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moa.errors import ConfigError
from moa.messages import Reference
from moa.mixture.agent import Agent
from moa.mixture.aggregation.analysis import ROLE, analysed, seat_of
from moa.mixture.aggregation.protocol import Aggregation, Running
from moa.mixture.events import Seat


class Synthesize(Aggregation):
    """The paper's aggregation.

    Args:
        analysis: whether the aggregator first compares the proposals, in a call of its own, and then answers from both.

    Raises:
        ConfigError: a value is out of range.
    """

    name = "synthesize"
    writes = True

    def __init__(self, *, analysis: bool = False) -> None:
        if not isinstance(analysis, bool):
            raise ConfigError(f"analysis is {analysis!r}; expected True or False")
        self.analysis = analysis

    @property
    def whole(self) -> bool:
        return self.analysis

    @property
    def identity(self) -> str:
        return f"{self.name} {self.analysis}" if self.analysis else self.name

    def seats(self, aggregators: Mapping[str, Agent], layer: int) -> tuple[Seat, ...]:
        seats = super().seats(aggregators, layer)
        if not self.analysis:
            return seats
        first = seats[0]
        return (Seat(agent=seat_of(first.agent, aggregators), layer=layer, model=first.model, role=ROLE), *seats)

    async def answer(self, run: Running, proposals: Sequence[Reference]) -> None:
        noted = await analysed(run, proposals) if self.analysis and proposals and not run.continues else None
        await run.write(proposals, noted)
