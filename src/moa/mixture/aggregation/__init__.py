"""Aggregations: how the last layer turns proposals into the answer. One file a kind; a new kind adds a line to the table."""

from __future__ import annotations

from typing import Literal

from moa.errors import ConfigError
from moa.mixture.aggregation.central import Central
from moa.mixture.aggregation.function import AggregateFunction, ByFunction, RankerFunction
from moa.mixture.aggregation.mux import Mux
from moa.mixture.aggregation.protocol import Aggregation, Running
from moa.mixture.aggregation.select import Select
from moa.mixture.aggregation.synthesize import Synthesize
from moa.mixture.aggregation.vote import Vote

__all__ = [
    "AGGREGATIONS",
    "Aggregate",
    "AggregateFunction",
    "Aggregation",
    "AggregationName",
    "ByFunction",
    "Central",
    "Mux",
    "RankerFunction",
    "Running",
    "Select",
    "Synthesize",
    "Vote",
    "aggregation_of",
]

AggregationName = Literal["synthesize", "select", "central", "vote", "mux"]
Aggregate = AggregationName | AggregateFunction | Aggregation
"""What ``Mixture(aggregate=…)`` takes: the name of a kind, a function, or an aggregation."""

AGGREGATIONS: dict[str, Aggregation] = {kind.name: kind for kind in (Synthesize(), Select(), Central(), Vote(), Mux())}
"""Every kind by its name, as in a moa.toml."""


def aggregation_of(aggregate: Aggregate, where: str) -> Aggregation:
    """The aggregation that a caller names; ``where`` opens the error message.

    Raises:
        ConfigError: no kind has this name, or the function cannot be one.
    """
    if isinstance(aggregate, Aggregation):
        return aggregate
    if callable(aggregate):
        return ByFunction(aggregate)
    if isinstance(aggregate, str) and aggregate in AGGREGATIONS:
        return AGGREGATIONS[aggregate]
    raise ConfigError(f"{where}: aggregate is {aggregate!r}; expected one of {', '.join(AGGREGATIONS)}, or a function")
