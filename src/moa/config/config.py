"""moa.toml -> mixtures and models.

Looked for at the path given, ``$MOA_CONFIG``, ``./moa.toml``, ``~/.config/moa/moa.toml``; the presets are there in any
case, and a mixture of the file's goes before a preset of the same name. Keys are never in the file: it names the
environment variables that hold them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from moa.config.export import table_object
from moa.config.presets import Choice, choose, preset, preset_names
from moa.config.tables import (
    AgentTable,
    AggregatorTable,
    BarrierTable,
    EndpointTable,
    File,
    MixtureTable,
    QuorumTable,
    StaircaseTable,
    read,
    reason,
)
from moa.errors import ConfigError, UnknownName
from moa.mixture.agent import Agent
from moa.mixture.memory import Memory
from moa.mixture.mixture import Mixture
from moa.mixture.prompts import SYNTHESIZE
from moa.mixture.schedules.barrier import Barrier
from moa.mixture.schedules.early_exit import EarlyExit
from moa.mixture.schedules.protocol import Schedule
from moa.mixture.schedules.quorum import Quorum
from moa.mixture.schedules.staircase import Staircase
from moa.models import Model
from moa.models.cache import Cache
from moa.models.catalog import Access, Catalog
from moa.models.endpoint import Timeouts
from moa.prices import Price, Prices


@dataclass(frozen=True, slots=True)
class Member:
    """An agent as it is written: the ``model`` it names, and what else it says."""

    model: str
    name: str = ""
    persona: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listed:
    """A mixture as it is written, before anything of it is opened.

    Attributes:
        source: the path of the file it stands in, or ``preset``.
        layers: the proposers, layer by layer.
        aggregators: the aggregator, then its fallbacks; empty where a mixture without an aggregator selects.
        settings: the other fields, as they are in force.
    """

    name: str
    description: str
    source: str
    layers: tuple[tuple[Member, ...], ...]
    aggregators: tuple[Member, ...]
    settings: Mapping[str, Any]


class Config:
    """The mixtures and models that a user can name. Opened things are closed with it.

    Args:
        path: the file; None to look for it where it may be. Nothing is wrong with there being none.
        environ: where ``MOA_CONFIG``, ``HOME`` and keys are looked up.
        on_notice: told, in one line, of what takes time.
        memory: who remembers turns' proposals for all mixtures; each its own where None.

    Raises:
        ConfigError: the file is missing where it was said to be, or something in it is wrong: file, line, field.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        on_notice: Callable[[str], None] | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._memory = memory
        self.path = _found(Path(path) if path else None, environ)
        self._environ = environ
        self._file = read(self.path) if self.path else File()
        self._mixtures: dict[str, Mixture] = {}
        self._opening: list[str] = []
        self._choice: Choice | None = None
        self._written: dict[str, Mapping[str, Any]] = {}
        self.prices = Prices({name: Price(**price.model_dump()) for name, price in self._file.prices.items()})
        self.parameters: Mapping[str, float] = dict(self._file.parameters)
        """How big models are, by name, in billions of parameters that are active for a token."""
        self.catalog = Catalog(
            {name: _access(endpoint) for name, endpoint in self._file.endpoints.items()},
            cache=lambda: Cache(_cache_folder(environ) / "answers.sqlite"),
            on_notice=on_notice,
            environ=environ,
        )
        self.catalog.register("moa", self.mixture)

    @property
    def default(self) -> str:
        """The mixture that answers when none is named."""
        return self._file.default or "auto"

    @property
    def endpoints(self) -> list[str]:
        """The names of the file's own endpoints."""
        return [*self._file.endpoints]

    def names(self) -> list[str]:
        """Every mixture: the file's first, then the presets."""
        return [*self._file.mixtures, *(name for name in preset_names() if name not in self._file.mixtures)]

    def listed(self) -> Iterator[Listed]:
        """What there is to choose from, without opening any of it."""
        return (self.described(name) for name in self.names())

    def described(self, name: str) -> Listed:
        """One mixture, without opening any of it; raises UnknownName."""
        name = name.removeprefix("moa/")
        table, source = self._table(name)
        aggregator = table.aggregator
        fallbacks = aggregator.fallbacks if isinstance(aggregator, AggregatorTable) else []
        return Listed(
            name,
            table.description,
            source,
            tuple(tuple(_member(entry) for entry in layer) for layer in table.layers),
            tuple(_member(entry) for entry in ([] if aggregator is None else [aggregator, *fallbacks])),
            table.model_dump(exclude={"description", "layers", "aggregator"}, exclude_none=True),
        )

    def table(self, name: str) -> MixtureTable:
        """One mixture as it is written, with its prompt where the file names a file for it.

        Raises:
            UnknownName: there is none.
            ConfigError: the prompt's file cannot be read.
        """
        table, _ = self._table(name.removeprefix("moa/"))
        if table.prompt_file is None:
            return table
        return table.model_copy(update={"prompt": self._prompt(table), "prompt_file": None})

    def written(self, name: str) -> Mapping[str, Any] | None:
        """The table of a mixture as JSON; None for a single model, an unknown mixture, or an unreadable prompt file."""
        if "/" in name and not name.startswith("moa/"):
            return None
        name = name.removeprefix("moa/")
        if name not in self._written:
            try:
                self._written[name] = table_object(self.table(name))
            except ConfigError:
                return None
        return self._written[name]

    def chosen(self) -> Choice:
        """What ``auto`` stands for, here and now, and why. The same for the life of this object."""
        if self._choice is None:
            self._choice = choose(mixtures=[*self._file.mixtures], path=self.path, environ=self._environ)
        return self._choice

    def model(self, name: str) -> Model:
        """The mixture ``NAME`` or ``moa/NAME``, or the single model ``provider/name``.

        Raises:
            UnknownName, KeyMissing, ConfigError: see :mod:`moa.errors`.
        """
        return self.catalog.model(name) if "/" in name else self.mixture(name)

    def mixture(self, name: str) -> Mixture:
        """The mixture of this name, the same object each time.

        Raises:
            UnknownName: there is none; or one of its members names a provider that is not known.
            KeyMissing: a member's key is not in the environment.
            ConfigError: a mixture names itself, directly or through others.
        """
        name = name.removeprefix("moa/")
        if name not in self._mixtures:
            if name in self._opening:
                loop = " -> ".join(f"moa/{each}" for each in [*self._opening[self._opening.index(name) :], name])
                raise ConfigError(f"a mixture cannot be a member of itself: {loop}")
            table, source = self._table(name)
            self._opening.append(name)
            try:
                self._mixtures[name] = self.built(name, table)
            except (UnknownName, ConfigError) as error:
                if source != "preset" and not str(error).startswith(source):
                    error.args = (f"{source}: mixtures.{name}: {error}",)
                raise
            finally:
                self._opening.pop()
        return self._mixtures[name]

    def built(self, name: str, table: MixtureTable) -> Mixture:
        """A mixture from a table, whether or not it stands in the file; raises as :meth:`mixture` does."""

        def agent(entry: str | AgentTable) -> Agent:
            member = _member(entry)
            return Agent(self.catalog.model(member.model), member.name, member.persona, member.sampling)

        aggregator = table.aggregator
        return Mixture(
            [[agent(entry) for entry in layer] for layer in table.layers],
            None if aggregator is None else agent(aggregator),
            fallbacks=[agent(entry) for entry in aggregator.fallbacks]
            if isinstance(aggregator, AggregatorTable)
            else [],
            name=name,
            aggregate=table.aggregate,
            references=table.references,
            anonymous=table.anonymous,
            prompt=self._prompt(table),
            schedule=_schedule(table.schedule),
            exact=table.exact,
            min_proposals=table.min_proposals,
            deadline=table.deadline,
            max_cost=table.max_cost,
            fanout=table.fanout,
            progress=table.progress,
            memory=self._memory,
            prices=self.prices,
            catalog=self.catalog,
        )

    async def aclose(self) -> None:
        """Close every connection and every embedded model."""
        await self.catalog.aclose()
        self._mixtures.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _table(self, name: str) -> tuple[MixtureTable, str]:
        if name in self._file.mixtures:
            return self._file.mixtures[name], str(self.path)
        if name == "auto":
            choice = self.chosen()
            if choice.mixture != "auto":
                return self._table(choice.mixture)
            return MixtureTable.model_validate(choice.table), "preset"
        if name not in preset_names():
            raise UnknownName("mixture", name, self.names(), "(moa mixtures lists them)")
        return MixtureTable.model_validate(preset(name)), "preset"

    def _prompt(self, table: MixtureTable) -> str:
        if table.prompt_file is None:
            return SYNTHESIZE if table.prompt is None else table.prompt
        path = (self.path.parent if self.path else Path()) / Path(table.prompt_file).expanduser()
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"prompt_file {table.prompt_file!r} cannot be read: {reason(error)}") from None


def _member(entry: str | AgentTable) -> Member:
    if isinstance(entry, str):
        return Member(entry)
    return Member(entry.model, entry.name, entry.persona, entry.model_extra or {})


def _schedule(table: BarrierTable | QuorumTable | StaircaseTable | None) -> Schedule | None:
    if table is None:
        return None
    schedule: Schedule
    match table:
        case BarrierTable():
            schedule = Barrier(warm=table.warm)
        case QuorumTable():
            schedule = Quorum(
                table.usable, grace=table.grace, deadline=table.deadline, require=table.require, hedge=table.hedge
            )
        case StaircaseTable():
            schedule = Staircase(table.chunks, table.writes, quorum=table.quorum)
    if table.early_exit is None:
        return schedule
    return EarlyExit(schedule, threshold=table.early_exit, answer=table.exit_with)


def _access(table: EndpointTable) -> Access:
    fields = table.model_dump(exclude={"timeouts"})
    return Access(**fields, timeouts=Timeouts(**table.timeouts.model_dump()))


def _cache_folder(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moa"


def _found(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    for named, where in ((path, "--config"), (environ.get("MOA_CONFIG"), "MOA_CONFIG")):
        if named:
            if not Path(named).is_file():
                raise ConfigError(f"{where} names {str(named)!r}, and there is no such file")
            return Path(named)
    home = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return next((place for place in (Path("moa.toml"), home / "moa" / "moa.toml") if place.is_file()), None)
