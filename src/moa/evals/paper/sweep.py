"""Mixtures that differ in one setting: the number of proposers, the number of layers, the roles of the models.

Each function yields the variants of one experiment of the paper (arXiv 2406.04692, section 3.3). A variant is a model and is
measured like any other. It keeps every other setting of its mixture: prompt, sampling, place of the references, schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from inspect import signature
from typing import Any

from moa.errors import ConfigError
from moa.evals.asking.data import Row
from moa.mixture.agent import Agent
from moa.mixture.aggregation import Aggregate
from moa.mixture.mixture import Mixture
from moa.mixture.schedules.early_exit import EarlyExit
from moa.mixture.schedules.protocol import Schedule
from moa.mixture.schedules.quorum import Quorum
from moa.models import Model

COUNTS = (1, 2, 3, 6)
"""The paper's numbers of proposers."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A mixture to measure.

    Attributes:
        label: names it, and its folder.
        setting: what differs between the variants, by column of the sweep's table.
        mixture: the mixture.
    """

    label: str
    setting: Mapping[str, str | int]
    mixture: Mixture

    @property
    def definition(self) -> Row:
        """What it consists of, as ``run.json`` records it; :mod:`moa.evals.definition` has the rest."""
        return {
            "variant": dict(self.setting),
            "way": self.mixture.plan.aggregation.identity,
            "aggregators": [agent.model.name for agent in self.mixture.aggregators.values()],
        }


REMADE = frozenset({"name", "layers", "aggregators", "aggregate", "schedule", "min_proposals", "when", "first"})
BETWEEN_LAYERS = frozenset({"reads", "keep"})
NOT_KEPT = frozenset({"aggregation", "memory", "effort", "member_effort"})
"""Fields of a plan that a variant has of its own, those that apply between two layers, and those that it goes without: no
benchmark's request sets an effort."""


def remade(
    mixture: Mixture,
    label: str,
    layers: Sequence[Sequence[Agent]],
    *,
    aggregator: Agent | None = None,
    aggregate: Aggregate | None = None,
) -> Mixture:
    """The mixture with other agents, named ``moa/NAME-label``; every other setting stays.

    ``min_proposals`` and a quorum shrink with the layers, ``when`` applies where enough proposers are left, and
    ``reads`` and ``keep`` where a layer reads another.
    """
    smallest = min((len(layer) for layer in layers), default=mixture.min_proposals)
    without = REMADE | NOT_KEPT | (frozenset() if len(layers) > 1 else BETWEEN_LAYERS)
    settings = {
        field.name: getattr(mixture.plan, field.name)
        for field in fields(mixture.plan)
        if field.name in signature(Mixture).parameters and field.name not in without
    }

    def made(**also: Any) -> Mixture:
        return Mixture(
            [[replace(agent, sample=None) for agent in layer] for layer in layers],
            aggregator or mixture.aggregator,
            fallbacks=[] if aggregator else [*mixture.aggregators.values()][1:],
            name=f"{mixture.name.removeprefix('moa/')}-{label}",
            aggregate=aggregate or mixture.aggregate,
            schedule=_reachable(mixture.schedule, layers),
            min_proposals=min(mixture.min_proposals, smallest),
            **settings,
            **also,
        )

    if mixture.plan.when == "always":
        return made()
    try:
        return made(when=mixture.plan.when, first=mixture.plan.first)
    except ConfigError:  # too few proposers are left to hold some of them back
        return made()


def _reachable(schedule: Schedule, layers: Sequence[Sequence[Agent]]) -> Schedule:
    """The schedule, with a quorum that these layers can reach."""
    if isinstance(schedule, EarlyExit):
        inner = _reachable(schedule.schedule, layers)
        return EarlyExit(inner, threshold=schedule.threshold, answer=schedule.answer)
    if not isinstance(schedule, Quorum) or not layers:
        return schedule
    return Quorum(
        min(schedule.usable, max(len(layer) for layer in layers)),
        grace=schedule.grace,
        deadline=schedule.deadline,
        require=schedule.require & {agent.label for layer in layers for agent in layer},
        hedge=schedule.hedge,
    )


def proposers(mixture: Mixture, counts: Iterable[int] = COUNTS, single: Agent | None = None) -> Iterator[Variant]:
    """One layer of n proposers: different models, or samples of one (the paper's table of single and multiple proposers).

    ``multiple``: the first n models of the first layer. ``single``: n samples of one model. A count above the number of
    different models has no ``multiple``.

    Args:
        mixture: its first layer gives the proposers; its aggregator stays.
        counts: the numbers of proposers.
        single: the agent to sample; the aggregator by default, as in the paper.

    Raises:
        ConfigError: the mixture has no proposers.
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
    """1 to ``deepest`` layers; as in the paper, the aggregator is one of them, so 1 is the aggregator alone.

    If the mixture has fewer layers, its last layer of proposers is repeated.

    Raises:
        ConfigError: the mixture has no proposers.
    """
    _first(mixture)
    own = [[*layer.values()] for layer in mixture.layers]
    for depth in range(1, deepest + 1):
        chosen = [own[min(number, len(own) - 1)] for number in range(depth - 1)]
        label = f"layers-{depth}"
        yield Variant(label, {"layers": depth}, remade(mixture, label, chosen, aggregate="synthesize"))


def rankers(mixture: Mixture) -> Iterator[Variant]:
    """Synthesizing against selecting.

    ``writes``: the aggregator synthesizes. ``picks``: its model selects a proposal (the paper's LLM ranker). ``central``:
    the most central proposal is selected without a model. ``alone``: the aggregator answers without proposals.

    Raises:
        ConfigError: the mixture has no proposers.
    """
    _first(mixture)
    own = [[*layer.values()] for layer in mixture.layers]
    ways: tuple[tuple[str, Aggregate], ...] = (("writes", "synthesize"), ("picks", "select"), ("central", "central"))
    for label, aggregate in ways:
        yield Variant(label, {"aggregator": label}, remade(mixture, label, own, aggregate=aggregate))
    yield Variant("alone", {"aggregator": "alone"}, remade(mixture, "alone", [], aggregate="synthesize"))


def roles(mixture: Mixture, models: Sequence[Model] | None = None) -> Iterator[Variant]:
    """Each model as the only proposer and as the aggregator (the paper's table of models in both roles).

    As ``aggregator``, a model reads the proposals of the first layer. As ``proposer``, it writes all of them, one sample for
    each agent of the layer, and the mixture's own aggregator reads them.

    Args:
        mixture: its first layer gives the proposals.
        models: the models to try; by default those of the first layer and of the aggregator.

    Raises:
        ConfigError: the mixture has no proposers.
    """
    layer = _first(mixture)
    agents = [Agent(model) for model in models] if models is not None else _different(mixture)
    if models is None and all(agent.model.name != mixture.aggregator.model.name for agent in agents):
        agents.append(mixture.aggregator)
    for agent in agents:
        name = agent.model.name.replace("/", "_")
        for role, others, aggregator in (("proposer", [agent] * len(layer), None), ("aggregator", layer, agent)):
            label = f"{role}-{name}"
            variant = remade(mixture, label, [others], aggregator=aggregator, aggregate="synthesize")
            yield Variant(label, {"model": agent.model.name, "role": role}, variant)


def _first(mixture: Mixture) -> list[Agent]:
    """The proposers of the first layer; raises ConfigError if there are none."""
    if not mixture.layers:
        raise ConfigError(f"{mixture.name} has no proposers")
    return [*mixture.layers[0].values()]


def _different(mixture: Mixture) -> list[Agent]:
    """The first agent of each model of the first layer."""
    return [*{agent.model.name: agent for agent in reversed(_first(mixture))}.values()][::-1]
