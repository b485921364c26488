"""Effort: which part of a mixture answers a request with ``reasoning_effort``, by a table of levels.

Notable decisions:
- The mixture itself is what ``medium`` means, unless the table has that level: OpenAI's default effort is medium.
- A level that the table lacks is the nearest lower one, and where none is lower, the lowest.
- ``reasoning_effort`` reaches the models as without a table, unless the level has a value of its own for them.
- A request that chooses its panel itself gets that panel: its effort reaches the models and chooses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from moa.errors import ConfigError
from moa.mixture.agent import Agent, Member, agent_of
from moa.mixture.panel import Panel
from moa.models.catalog import Catalog
from moa.models.fitting import EFFORTS

LevelName = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""The names of levels: the values of ``reasoning_effort``."""

ITSELF = "medium"
"""The level that stands for the mixture as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What one level of effort calls.

    Attributes:
        panel: the part of the mixture.
        model: answers alone instead; None: the panel does.
        reasoning_effort: what the models get; None: the request's own.
    """

    panel: Panel = field(default_factory=Panel)
    model: Agent | None = None
    reasoning_effort: str | None = None


def level_for(levels: Mapping[str, Level], wanted: object) -> str | None:
    """The level of a table for a request's ``reasoning_effort``; None for the mixture as it is."""
    if not levels or not isinstance(wanted, str) or wanted not in EFFORTS:
        return None
    known = sorted({ITSELF, *levels}, key=EFFORTS.index)
    lower = [level for level in known if EFFORTS.index(level) <= EFFORTS.index(wanted)]
    name = lower[-1] if lower else known[0]
    return name if name in levels else None


def levels_of(table: Mapping[str, Mapping[str, Any] | Level], catalog: Catalog, where: str) -> dict[str, Level]:
    """The levels of a table as callers write it; ``where`` opens the error message.

    Raises:
        ConfigError: a level is unknown, or a field of one is wrong.
        UnknownName, KeyMissing: a level's model names an unknown provider, or the provider's API key is not set.
    """
    levels = {}
    for name, given in table.items():
        if name not in EFFORTS:
            raise ConfigError(f"{where}: effort.{name}: no such level; expected one of {', '.join(EFFORTS)}")
        levels[name] = given if isinstance(given, Level) else _level(given, catalog, f"{where}: effort.{name}")
    return levels


_OF_PANEL = frozenset(field.name for field in fields(Panel))


def _level(given: Mapping[str, Any], catalog: Catalog, where: str) -> Level:
    rest = {name: value for name, value in given.items() if value is not None}
    model: Member | None = rest.pop("model", None)
    effort = rest.pop("reasoning_effort", None)
    if unknown := next((name for name in rest if name not in _OF_PANEL), None):
        expected = ", ".join(["model", *sorted(_OF_PANEL), "reasoning_effort"])
        raise ConfigError(f"{where}: no such field {unknown!r}; expected {expected}")
    if model is not None and rest:
        raise ConfigError(f"{where}: model answers alone, so {next(iter(rest))} has no meaning; remove one of them")
    for name in ("only", "without"):
        if isinstance(listed := rest.get(name, []), str | bytes):
            raise ConfigError(f"{where}: {name} is {listed!r}; expected a list of names")
        rest[name] = tuple(listed)
    panel = Panel(**rest)
    for name in ("samples", "rounds"):
        value = getattr(panel, name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigError(f"{where}: {name} is {value!r}; expected 1 or more")
    return Level(panel=panel, model=None if model is None else agent_of(model, catalog, where), reasoning_effort=effort)
