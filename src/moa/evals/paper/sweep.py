"""Mixtures that differ in one thing, to be measured side by side: how many proposers, how many layers, who in which role.

Each function gives the variants of one of the paper's experiments (arXiv 2406.04692, section 3.3). A variant is a model like
any other, so whatever measures a model measures it; what it has in common with the mixture that it was made from (prompt,
sampling, where references stand) stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from moa.errors import ConfigError
from moa.mixture.agent import Agent
from moa.mixture.aggregation import Aggregate
from moa.mixture.mixture import Mixture
from moa.models import Model

COUNTS = (1, 2, 3, 6)
"""How many proposers the paper tries."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A mixture to measure. ``label`` is fit for a folder's name; ``setting`` says what is different, a column each."""

    label: str
    setting: Mapping[str, str | int]
    model: Model


def remade(
    mixture: Mixture,
    label: str,
    layers: Sequence[Sequence[Agent]],
    *,
    aggregator: Agent | None = None,
    aggregate: Aggregate | None = None,
) -> Mixture:
    """The mixture with other agents, called ``moa/NAME-label``; all else stays."""
    smallest = min((len(layer) for layer in layers), default=mixture.min_proposals)
    return Mixture(
        [[replace(agent, sample=None) for agent in layer] for layer in layers],
        aggregator or mixture.aggregator,
        fallbacks=[] if aggregator else [*mixture.aggregators.values()][1:],
        name=f"{mixture.name.removeprefix('moa/')}-{label}",
        aggregate=aggregate or mixture.aggregate,
        schedule=mixture.schedule,
        references=mixture.references,
        anonymous=mixture.anonymous,
        prompt=mixture.prompt,
        min_proposals=min(mixture.min_proposals, smallest),
        deadline=mixture.deadline,
        max_cost=mixture.max_cost,
        fanout=mixture.fanout,
        prices=mixture.prices,
    )


def proposers(mixture: Mixture, counts: Iterable[int] = COUNTS, single: Agent | None = None) -> Iterator[Variant]:
    """How many proposers, one model or many (the paper's table of single and multiple proposers).

    ``multiple``: the first n of the first layer, each another model. ``single``: n samples of one model. Then the
    aggregator. A count beyond the number of different models has no ``multiple``.

    Args:
        mixture: it needs proposers.
        counts: how many.
        single: whose samples; the aggregator's model by default, as in the paper.
    """
    different = _different(mixture)
    for count in counts:
        if count <= len(different):
            yield _proposers(mixture, "multiple", different[:count])
        yield _proposers(mixture, "single", [single or mixture.aggregator] * count)


def _proposers(mixture: Mixture, kind: str, agents: Sequence[Agent]) -> Variant:
    label = f"{kind}-{len(agents)}"
    return Variant(
        label,
        {"models": kind, "proposers": len(agents)},
        remade(mixture, label, [agents], aggregate="synthesize"),
    )


def layers(mixture: Mixture, deepest: int = 4) -> Iterator[Variant]:
    """How many layers, the aggregator's among them: 1 is the aggregator alone. Where the mixture has fewer, its last layer
    of proposers is repeated."""
    there = [[*layer.values()] for layer in mixture.layers]
    if not there:
        raise ConfigError(f"{mixture.name} has no proposers")
    for depth in range(1, deepest + 1):
        wanted = [there[min(number, len(there) - 1)] for number in range(depth - 1)]
        label = f"layers-{depth}"
        yield Variant(label, {"layers": depth}, remade(mixture, label, wanted, aggregate="synthesize"))


def rankers(mixture: Mixture) -> Iterator[Variant]:
    """Writing against picking: the aggregator writes; its model picks a proposal (the paper's LLM ranker); the most central
    proposal is taken; the aggregator answers alone."""
    there = [[*layer.values()] for layer in mixture.layers]
    if not there:
        raise ConfigError(f"{mixture.name} has no proposers")
    ways: tuple[tuple[str, Aggregate], ...] = (("writes", "synthesize"), ("picks", "select"), ("central", "central"))
    for label, aggregate in ways:
        yield Variant(label, {"aggregator": label}, remade(mixture, label, there, aggregate=aggregate))
    yield Variant("alone", {"aggregator": "alone"}, remade(mixture, "alone", [], aggregate="synthesize"))


def roles(mixture: Mixture, models: Sequence[Model] | None = None) -> Iterator[Variant]:
    """Who proposes well, who aggregates well (the paper's table of models in both roles).

    As ``aggregator``, a model reads the first layer's proposals. As ``proposer``, it gives all of them, as many samples as
    the layer has seats, and the mixture's own aggregator reads them.

    Args:
        mixture: it needs proposers.
        models: by default those of the first layer and of the aggregator.
    """
    layer = _first(mixture)
    agents = [Agent(model) for model in models] if models is not None else _different(mixture)
    if models is None and all(agent.model.name != mixture.aggregator.model.name for agent in agents):
        agents.append(mixture.aggregator)
    for agent in agents:
        name = agent.model.name.replace("/", "_")
        for role, others, aggregator in (("proposer", [agent] * len(layer), None), ("aggregator", layer, agent)):
            label = f"{role}-{name}"
            made = remade(mixture, label, [others], aggregator=aggregator, aggregate="synthesize")
            yield Variant(label, {"model": agent.model.name, "role": role}, made)


def _first(mixture: Mixture) -> list[Agent]:
    if not mixture.layers:
        raise ConfigError(f"{mixture.name} has no proposers")
    return [*mixture.layers[0].values()]


def _different(mixture: Mixture) -> list[Agent]:
    """One agent for each model of the first layer."""
    return [*{agent.model.name: agent for agent in reversed(_first(mixture))}.values()][::-1]
