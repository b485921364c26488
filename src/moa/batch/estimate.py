"""What a job will take, before it is paid for: rows, calls and dollars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from moa.batch.journal import Totals
from moa.batch.rows import Raw, Row
from moa.messages import Cost, Request, Usage
from moa.mixture.agent import Agent
from moa.mixture.mixture import Mixture

OUTPUT_TOKENS = 500
"""Output tokens of a call whose request sets no limit."""

_READ = 1000
"""Rows whose prompts are read for the estimate."""

_ENOUGH = 5


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is left of a job.

    Attributes:
        rows: rows to answer.
        calls: calls for them, without retries.
        cost: US dollars for them.
        basis: what the cost is estimated from, in words.
    """

    rows: int
    calls: int
    cost: Cost
    basis: str


def estimated(mixture: Mixture, left: int, totals: Totals, given: Iterable[Raw]) -> Estimate:
    """Estimate what so many rows will take: from the rows answered so far, else from the prompts of the first rows."""
    calls = left * calls_of(mixture)
    paid = totals.answered - totals.failed
    if paid >= _ENOUGH and totals.cost.dollars is not None:
        cost = Cost(left * totals.cost.dollars / paid, totals.cost.at_least)
        return Estimate(left, calls, cost, f"the {paid} rows answered so far")
    requests = [row.request for row in map(Row.of, islice(given, _READ)) if row.request]
    if not requests:
        return Estimate(left, calls, Cost(), "no readable row")
    total = sum((cost_of(mixture, request) for request in requests), Cost())
    cost = total if total.dollars is None else Cost(left * total.dollars / len(requests), total.at_least)
    basis = f"the prompts of {len(requests)} rows, and {OUTPUT_TOKENS} output tokens a call where a row sets no limit"
    return Estimate(left, calls, cost, basis)


def calls_of(mixture: Mixture) -> int:
    """The calls of one row, if none fails: those of nested mixtures included."""
    return sum(
        calls_of(each.model) if isinstance(each.model, Mixture) else 1 for layer in _layers(mixture) for each in layer
    )


def cost_of(mixture: Mixture, request: Request) -> Cost:
    """The estimated cost of one row: each layer reads the texts of the layer before."""
    limit = request.body.get("max_completion_tokens") or request.body.get("max_tokens")
    output = limit if isinstance(limit, int) else OUTPUT_TOKENS
    cost, read = Cost(), 0
    for layer in _layers(mixture):
        for agent in layer:
            if isinstance(agent.model, Mixture):
                cost += cost_of(agent.model, request)
            else:
                cost += mixture.prices.price(agent.model.name, Usage(request.tokens + read, output))
        read = len(layer) * output
    return cost


def _layers(mixture: Mixture) -> list[list[Agent]]:
    proposers = [[*layer.values()] for layer in mixture.layers]
    answers = mixture.plan.aggregation.needs_aggregator or not proposers
    return [*proposers, [mixture.aggregator]] if answers else proposers
