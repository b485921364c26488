"""A mixture's settings: frozen, and checked when they are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, get_args

from moa.errors import ConfigError
from moa.mixture.agent import Agent, Member, agent_of, seated
from moa.mixture.aggregation import Aggregate, Aggregation, ByFunction, RankerFunction, aggregation_of
from moa.mixture.effort import Level, levels_of
from moa.mixture.events import Seat
from moa.mixture.memory import Memory, Recent
from moa.mixture.prompts import LATER, REFINE, SYNTHESIZE, Layout, Place
from moa.mixture.schedules.barrier import Barrier
from moa.mixture.schedules.checked import CheckedSchedule
from moa.mixture.schedules.protocol import Schedule
from moa.mixture.silence import PATIENCE
from moa.mixture.subsets import Reads, check_rounds, is_number, is_reads
from moa.mixture.when import When, check_when
from moa.models import traits_of
from moa.models.catalog import Catalog
from moa.prices import FREE_PROVIDERS, Prices

Fanout = Literal["turn", "every"]

MODERATOR = "moderator"
"""The role of the aggregator's calls between layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run needs to know of its mixture. :class:`~moa.mixture.mixture.Mixture` describes each field.

    Attributes:
        name: with ``moa/``.
        layers: the proposers by name, layer by layer.
        aggregators: the aggregator by name, then its fallbacks. Never empty: where an aggregation needs none, the first
            proposer takes the requests that ask for tools or a response format.
        member_effort: the ``reasoning_effort`` that agents get in place of the request's; None: the request's.
        has_aggregator: False where the first proposer stands in.
        aggregation: how the proposals become the answer; the object that ``aggregate`` names.

    Raises:
        ConfigError: a value is out of range.
    """

    name: str
    layers: tuple[Mapping[str, Agent], ...]
    aggregators: Mapping[str, Agent]
    has_aggregator: bool = True
    aggregate: Aggregate = "synthesize"
    schedule: Schedule = field(default_factory=Barrier)
    references: Place = "user"
    anonymous: bool = True
    prompt: str = SYNTHESIZE
    min_proposals: int = 1
    deadline: float | None = None
    patience: float | None = PATIENCE
    max_cost: float | None = None
    reads: Reads | None = None
    keep: int | None = None
    fanout: Fanout = "turn"
    exact: bool = False
    progress: bool = False
    when: When = "always"
    first: int | None = None
    effort: Mapping[str, Level] = field(default_factory=dict)
    member_effort: str | None = None
    memory: Memory = field(default_factory=Recent)
    prices: Prices = field(default_factory=Prices)
    aggregation: Aggregation = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "aggregation", aggregation_of(self.aggregate, self.name))
        schedule = CheckedSchedule(self.schedule)  # raises ConfigError where it is no schedule
        try:
            schedule.check([[*layer] for layer in self.layers])
        except ValueError as error:
            raise ConfigError(f"{self.name}: schedule {schedule!r}: {error}") from error
        check_when(self.when, self.first, self.layers, self.aggregation, self.schedule, self.name)
        places, fanouts = get_args(Place), get_args(Fanout)
        self._check("references", self.references in places, f"one of {', '.join(places)}")
        self._check("fanout", self.fanout in fanouts, f"one of {', '.join(fanouts)}")
        self._check("reads", is_reads(self.reads), 'a number of answers from 1, or "all-layers"')
        self._check("keep", self.keep is None or is_number(self.keep), "a number of proposals from 1")
        self._check("deadline", self.deadline is None or self.deadline > 0, "seconds above 0")
        self._check("patience", self.patience is None or self.patience > 0, "seconds above 0")
        self._check("max_cost", self.max_cost is None or self.max_cost > 0, "US dollars above 0")
        smallest = min((len(layer) for layer in self.layers), default=self.min_proposals)
        self._check("min_proposals", 1 <= self.min_proposals <= smallest, f"1 to {smallest}, its smallest layer")

    def _check(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(f"{self.name}: {field} is {getattr(self, field)!r}; expected {expected}")

    @classmethod
    def of(
        cls,
        layers: Sequence[Sequence[Member]],
        aggregator: Member | None,
        fallbacks: Sequence[Member],
        catalog: Catalog,
        *,
        name: str,
        aggregate: Aggregate,
        ranker: RankerFunction | None,
        prices: Prices | None,
        rounds: int = 1,
        reads: Reads | None = None,
        effort: Mapping[str, Mapping[str, Any] | Level] | None = None,
        **settings: Any,
    ) -> Self:
        """A plan from members as callers write them, which the catalog resolves.

        Raises:
            ConfigError: a value is out of range, or a member is malformed.
            UnknownName, KeyMissing: a member names an unknown provider, or the provider's API key is not set.
        """
        if ranker is not None:
            if aggregate != "select":
                raise ConfigError(f"{name}: a ranker needs aggregate='select', not {aggregate!r}")
            aggregate = ByFunction(ranker, ranks=True)
        aggregation = aggregation_of(aggregate, name)
        if not _is_list(layers) or not all(_is_list(layer) for layer in layers):
            raise ConfigError(f"{name}: layers must be a list of lists, one list for each layer of proposers")
        for number, layer in enumerate(layers, 1):
            if not layer:
                raise ConfigError(f"{name}: layer {number} is []; expected at least one proposer")
        keep = settings.get("keep")
        if aggregator is None and (aggregation.needs_aggregator or not layers or keep is not None):
            raise ConfigError(f"{name} needs an aggregator" + (f", which moderates: keep is {keep!r}" if keep else ""))
        if keep is not None and not layers:
            raise ConfigError(f"{name}: keep is {keep!r}, but there are no layers whose proposals could be kept")
        check_rounds(rounds, reads, len(layers), name)
        seats = tuple(seated([agent_of(member, catalog, name) for member in layer]) for layer in layers)
        seats += seats[-1:] * (rounds - 1)
        answering = [] if aggregator is None else [aggregator, *fallbacks]
        aggregators = seated([agent_of(member, catalog, name) for member in answering])
        aggregation.check(seats, name)
        if not aggregators:
            aggregators = seated([next(iter(seats[0].values()))])
        levels = levels_of(effort or {}, catalog, name)
        if prices is None:
            agents = [agent for layer in (*seats, aggregators) for agent in layer.values()]
            agents += [level.model for level in levels.values() if level.model]
            remote = {agent.model.name.partition("/")[0] for agent in agents if traits_of(agent.model).remote}
            prices = Prices(free=FREE_PROVIDERS - remote)
        return cls(
            name=name,
            layers=seats,
            aggregators=aggregators,
            has_aggregator=aggregator is not None,
            aggregate=aggregate,
            prices=prices,
            reads=reads,
            effort=levels,
            **settings,
        )

    @property
    def layout(self) -> Layout:
        """How references go into a request."""
        return Layout(self.prompt, self.references, self.anonymous, later=LATER if self.reads == "all-layers" else "")

    @property
    def refining(self) -> Layout:
        """How references go into the request of a proposer after the first layer."""
        draws = isinstance(self.reads, int) and self.prompt == SYNTHESIZE
        return replace(self.layout, prompt=REFINE) if draws else self.layout

    @property
    def aggregator(self) -> Agent:
        """The agent that answers, or picks a proposal, unless it fails."""
        return next(iter(self.aggregators.values()))

    @property
    def depth(self) -> int:
        """The number of layers as the paper counts them: the aggregator is the last."""
        return len(self.layers) + 1

    @property
    def agents(self) -> list[Agent]:
        """All agents, layer by layer, then the aggregator and its fallbacks."""
        return [agent for layer in [*self.layers, self.aggregators] for agent in layer.values()]

    @property
    def seats(self) -> tuple[Seat, ...]:
        """The places of all agents, in the same order."""
        proposers = (
            Seat(agent=name, layer=number, model=agent.model.name, role="proposer")
            for number, layer in enumerate(self.layers, 1)
            for name, agent in layer.items()
        )
        aggregators = self.aggregators if self.has_aggregator else {}
        return (*proposers, *self._moderators, *self.aggregation.seats(aggregators, self.depth))

    @property
    def _moderators(self) -> Iterator[Seat]:
        """The moderator of each layer that it may have to choose from; the last only where the answer is written."""
        name, agent = next(iter(self.aggregators.items()))
        for number, layer in enumerate(self.layers if self.keep else (), 1):
            if len(layer) > (self.keep or 0) and (number < len(self.layers) or self.aggregation.writes):
                yield Seat(agent=moderator_name(name, layer), layer=number, model=agent.model.name, role=MODERATOR)

    @property
    def proposal_identity(self) -> str:
        """Everything but the conversation that proposals depend on: the proposers, and how they are called.

        Equal for two mixtures that differ in their aggregator alone, unless that moderates.
        """
        layers = [_identities(layer) for layer in self.layers]
        how = (self.references, self.anonymous, self.prompt, self.reads, self.when, self.first)
        moderated = self.keep and (self.keep, _identities(self.aggregators))
        return repr((self.name, layers, *how, moderated))

    @property
    def identity(self) -> str:
        """Everything but the conversation that answers depend on."""
        rest = (_identities(self.aggregators), self.aggregation.identity, self.schedule, self.exact, self.min_proposals)
        limits = (self.deadline, self.patience, self.max_cost, self.fanout, self.progress, self.member_effort)
        effort = [
            (name, level.panel, level.reasoning_effort, _identities({"": level.model} if level.model else {}))
            for name, level in self.effort.items()
        ]
        return repr((self.proposal_identity, rest, limits, effort))


def moderator_name(aggregator: str, layer: Mapping[str, Agent]) -> str:
    """The name of the agent that moderates a layer; no other agent of the layer has it."""
    name = f"{aggregator} (moderator)"
    while name in layer:
        name += "'"
    return name


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _identities(layer: Mapping[str, Agent]) -> list[tuple[object, ...]]:
    """Everything that the answers of these agents depend on."""
    return [
        (name, traits_of(agent.model).identity, agent.persona, [*agent.sampling.items()])
        for name, agent in layer.items()
    ]
