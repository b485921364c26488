"""Mixtures as they are configured, before any of their models is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moa.config.tables import AgentTable, MixtureTable


@dataclass(frozen=True, slots=True)
class ListedAgent:
    """An agent as it is configured: the name of its ``model``, and its other fields."""

    model: str
    name: str = ""
    persona: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: str | AgentTable) -> ListedAgent:
        """The agent of an entry of a table: the name of a model alone, or a table."""
        if isinstance(entry, str):
            return cls(entry)
        return cls(entry.model, entry.name, entry.persona, entry.sampling)


@dataclass(frozen=True, slots=True)
class Listed:
    """A mixture as it is configured.

    Attributes:
        source: the path of the file that defines it, or ``preset``.
        layers: the proposers, layer by layer.
        aggregators: the aggregator, then its fallbacks; empty for a mixture that selects without an aggregator.
        alone: agents that answer alone at a level of effort.
        settings: all other fields that are set or have a default.
    """

    name: str
    description: str
    source: str
    layers: tuple[tuple[ListedAgent, ...], ...]
    aggregators: tuple[ListedAgent, ...]
    alone: tuple[ListedAgent, ...]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, table: MixtureTable, source: str) -> Listed:
        """The listing of a mixture's table."""
        answering = [] if table.aggregator is None else [table.aggregator, *table.fallbacks]
        return cls(
            name,
            table.description,
            source,
            tuple(tuple(map(ListedAgent.of, layer)) for layer in table.layers),
            tuple(map(ListedAgent.of, answering)),
            tuple(map(ListedAgent.of, table.alone.values())),
            table.model_dump(exclude={"description", "layers", "aggregator"}, exclude_none=True),
        )
