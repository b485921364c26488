"""The settings of a mixture, as attributes of it. They are those of its plan."""

from __future__ import annotations

from collections.abc import Mapping

from moa.mixture.agent import Agent
from moa.mixture.aggregation import Aggregate
from moa.mixture.effort import Level
from moa.mixture.events import Seat
from moa.mixture.memory import Memory
from moa.mixture.plan import Fanout, Plan
from moa.mixture.prompts import Place
from moa.mixture.schedules.protocol import Schedule
from moa.mixture.subsets import Reads
from moa.mixture.when import When
from moa.models import Traits
from moa.prices import Prices


class Settings:
    """What :class:`~moa.mixture.mixture.Mixture` was made with; it describes each setting."""

    plan: Plan

    @property
    def name(self) -> str:
        """``moa/`` and the mixture's name."""
        return self.plan.name

    @property
    def layers(self) -> tuple[Mapping[str, Agent], ...]:
        """The proposers by name, layer by layer."""
        return self.plan.layers

    @property
    def aggregators(self) -> Mapping[str, Agent]:
        """The aggregator by name, then its fallbacks in order."""
        return self.plan.aggregators

    @property
    def aggregator(self) -> Agent:
        """The agent that answers unless it fails. For the mixture above, ``mixture.aggregator.label`` is ``qwen3-max``."""
        return self.plan.aggregator

    @property
    def agents(self) -> list[Agent]:
        """All agents, layer by layer, then the aggregator and its fallbacks."""
        return self.plan.agents

    @property
    def depth(self) -> int:
        """The number of layers as the paper counts them: the aggregator is the last."""
        return self.plan.depth

    @property
    def seats(self) -> tuple[Seat, ...]:
        """The places of all agents, in the order of :attr:`agents`."""
        return self.plan.seats

    @property
    def traits(self) -> Traits:
        """The identity is everything that the mixture's answers depend on; no mixture continues a text that it has begun."""
        return Traits(identity=self.plan.identity, may_be_silent=True, composite=True)

    @property
    def proposal_identity(self) -> str:
        """Everything but the conversation that proposals depend on; see :attr:`Plan.proposal_identity`."""
        return self.plan.proposal_identity

    @property
    def aggregate(self) -> Aggregate:
        return self.plan.aggregate

    @property
    def schedule(self) -> Schedule:
        return self.plan.schedule

    @property
    def references(self) -> Place:
        return self.plan.references

    @property
    def anonymous(self) -> bool:
        return self.plan.anonymous

    @property
    def prompt(self) -> str:
        return self.plan.prompt

    @property
    def min_proposals(self) -> int:
        return self.plan.min_proposals

    @property
    def deadline(self) -> float | None:
        return self.plan.deadline

    @property
    def patience(self) -> float | None:
        return self.plan.patience

    @property
    def max_cost(self) -> float | None:
        return self.plan.max_cost

    @property
    def reads(self) -> Reads | None:
        return self.plan.reads

    @property
    def keep(self) -> int | None:
        return self.plan.keep

    @property
    def fanout(self) -> Fanout:
        return self.plan.fanout

    @property
    def exact(self) -> bool:
        return self.plan.exact

    @property
    def progress(self) -> bool:
        return self.plan.progress

    @property
    def memory(self) -> Memory:
        return self.plan.memory

    @property
    def prices(self) -> Prices:
        return self.plan.prices

    @property
    def when(self) -> When:
        return self.plan.when

    @property
    def first(self) -> int | None:
        return self.plan.first

    @property
    def effort(self) -> Mapping[str, Level]:
        return self.plan.effort
