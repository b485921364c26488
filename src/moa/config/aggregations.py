"""The aggregation that a mixture's table names, with the keys that belong to it."""

from __future__ import annotations

from moa.config.tables import MixtureTable
from moa.mixture.aggregation import Aggregate, Mux, Synthesize, Vote


def aggregate_of(table: MixtureTable) -> Aggregate:
    """What ``Mixture(aggregate=…)`` takes for this table."""
    if table.aggregate == "synthesize" and (table.analysis or table.window):
        return Synthesize(analysis=table.analysis, window=table.window)
    if table.calibration:
        return Vote(table.weights, table.calibration.calibration())
    if table.weights:
        return (Mux if table.aggregate == "mux" else Vote)(table.weights)
    return table.aggregate
