"""What a request will probably cost: by the model's runs so far, or else by prices and sizes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from moa.messages import Request
from moa.mixture.agent import Agent
from moa.mixture.mixture import Mixture
from moa.prices import Prices

ANSWER = 500
"""Tokens of an answer of which nothing is known yet."""

REMEMBERED = 20
"""Runs after which older ones hardly count in the mean."""


@dataclass(slots=True)
class _Costs:
    """Of a mixture: US dollars for each token of the conversation, those of everything else, and the mean of its runs."""

    per_token: float
    fixed: float
    mean: float = 0.0
    runs: int = 0


class Forecast:
    """Estimates of what runs cost.

    Args:
        prices: what tokens cost; a model without a known price adds nothing.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._known: WeakKeyDictionary[Mixture, _Costs] = WeakKeyDictionary()

    def dollars(self, mixture: Mixture, request: Request, choices: int = 1) -> float:
        """US dollars that the runs of a request will probably cost.

        The mean of the mixture's last runs, but not less than what its models read of this conversation. Before its first
        run: every call as if it wrote :data:`ANSWER` tokens. Not more than ``max_cost``.
        """
        costs = self._costs(mixture)
        reading = costs.per_token * request.tokens if costs.per_token else 0.0
        each = max(costs.mean, reading) if costs.runs else reading + costs.fixed
        limit = mixture.plan.max_cost
        return choices * (each if limit is None else min(each, limit))

    def learn(self, mixture: Mixture, dollars: float) -> None:
        """A run of this mixture has ended and has cost so many US dollars."""
        costs = self._costs(mixture)
        costs.runs = min(costs.runs + 1, REMEMBERED)
        costs.mean += (dollars - costs.mean) / costs.runs

    def _costs(self, mixture: Mixture) -> _Costs:
        if mixture not in self._known:
            self._known[mixture] = self._estimated(mixture)
        return self._known[mixture]

    def _estimated(self, mixture: Mixture) -> _Costs:
        costs, references = _Costs(0.0, 0.0), 0
        plan = mixture.plan
        answering = (
            [next(iter(plan.aggregators.values()))] if plan.aggregation.needs_aggregator or not plan.layers else []
        )
        layers: list[Iterable[Agent]] = [*(layer.values() for layer in plan.layers), answering]
        for layer in layers:
            count = 0
            for agent in layer:
                count += 1
                self._add(costs, agent, references)
            references = count
        for seat in plan.seats:
            if seat.role in ("moderator", "analyst"):  # further calls of the aggregator
                self._add(costs, plan.aggregator, len(plan.layers[min(seat.layer, len(plan.layers)) - 1]))
        return costs

    def _add(self, costs: _Costs, agent: Agent, references: int) -> None:
        """Add one call, which reads the conversation and so many proposals."""
        if isinstance(agent.model, Mixture):
            inner = self._costs(agent.model)
            costs.per_token += inner.per_token
            costs.fixed += inner.fixed + inner.per_token * references * ANSWER
        elif price := self._prices.per_million(agent.model.name):
            costs.per_token += price.input / 1e6
            costs.fixed += (price.output + price.input * references) * ANSWER / 1e6
