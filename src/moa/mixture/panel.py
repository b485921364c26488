"""The part of a mixture that answers one request, as its caller or a level of effort chooses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from moa.errors import ConfigError
from moa.mixture.when import When


class PanelError(ConfigError):
    """A panel names no member, or leaves nothing. ``field`` is the one that is wrong."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Which part of a mixture answers.

    Attributes:
        only: the proposers that are called, by name or by model; empty: all.
        without: the proposers that are not called.
        aggregator: the agent of the mixture that answers, by name or by model; None: the mixture's own.
        layers: so many layers of proposers, from the first on; 0: the aggregator alone; None: all.
        when: as in :class:`~moa.mixture.plan.Plan`; None: the mixture's own.
        samples: how many times each proposer is called.
        rounds: how many times the last layer stands in the mixture; None: as many times as it does.
    """

    FIELDS: ClassVar = ("only", "without", "aggregator", "layers", "when")
    """What a request may choose; samples and rounds multiply its cost, so the configuration alone sets them."""

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    aggregator: str | None = None
    layers: int | None = None
    when: When | None = None
    samples: int = 1
    rounds: int | None = None

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """The panel of a request's ``moa`` object, which is checked."""
        chosen: dict[str, Any] = {name: value for name in cls.FIELDS if (value := fields.get(name)) is not None}
        for name in {"only", "without"} & {*chosen}:
            chosen[name] = tuple(chosen[name])
        return cls(**chosen)

    def fields(self) -> dict[str, Any]:
        """What a request chose, as its ``moa`` object; empty where it chose nothing."""
        chosen = {name: getattr(self, name) for name in self.FIELDS}
        listed = {name: [*value] if isinstance(value, tuple) else value for name, value in chosen.items()}
        return {name: value for name, value in listed.items() if value not in (None, [])}

    @property
    def selects(self) -> bool:
        """Whether it chooses agents, and not only when they are called."""
        return replace(self, when=None) != Panel()
