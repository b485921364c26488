"""Synthesize: the aggregator reads all proposals and writes the answer (arXiv 2406.04692, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moa.errors import ConfigError
from moa.messages import Reference
from moa.mixture.agent import Agent
from moa.mixture.aggregation.analysis import ROLE, analysed, seat_of
from moa.mixture.aggregation.protocol import Aggregation, Running
from moa.mixture.aggregation.window import last_window
from moa.mixture.events import Seat


class Synthesize(Aggregation):
    """The paper's aggregation.

    Args:
        analysis: whether the aggregator first compares the proposals, in a call of its own, and then answers from both.
        window: how many proposals the aggregator reads at a time, together with its answer so far; see
            :mod:`moa.mixture.aggregation.window`. None: all, or as many as fit where its context is too small for all.

    Raises:
        ConfigError: a value is out of range.
    """

    name = "synthesize"
    writes = True

    def __init__(self, *, analysis: bool = False, window: int | None = None) -> None:
        if not isinstance(analysis, bool):
            raise ConfigError(f"analysis is {analysis!r}; expected True or False")
        if window is not None and (not isinstance(window, int) or isinstance(window, bool) or window < 1):
            raise ConfigError(f"window is {window!r}; expected a number of proposals from 1")
        self.analysis, self.window = analysis, window

    @property
    def whole(self) -> bool:
        return self.analysis or self.window is not None

    @property
    def identity(self) -> str:
        return f"{self.name} {self.analysis} {self.window}" if self.whole else self.name

    def seats(self, aggregators: Mapping[str, Agent], layer: int) -> tuple[Seat, ...]:
        seats = super().seats(aggregators, layer)
        if not self.analysis or layer == 1:  # without proposers there is nothing to compare
            return seats
        first = seats[0]
        return (Seat(agent=seat_of(first.agent, aggregators), layer=layer, model=first.model, role=ROLE), *seats)

    async def answer(self, run: Running, proposals: Sequence[Reference]) -> None:
        read = await last_window(run, proposals, self.window)
        noted = await analysed(run, read) if self.analysis and read and not run.continues else None
        await run.write(read, noted)
