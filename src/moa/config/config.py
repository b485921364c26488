"""moa.toml and the presets, as mixtures and models that can be called.

The file is the path given, ``$MOA_CONFIG``, ``./moa.toml`` or ``~/.config/moa/moa.toml``. The presets always exist; a
mixture of the file overrides a preset of the same name. API keys are never in the file: it names the environment variables
that hold them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from moa.closing import AsyncClosing
from moa.config.aggregations import aggregate_of
from moa.config.auto import AutoChoice, choose
from moa.config.export import table_object
from moa.config.file import find, read, reason
from moa.config.listing import Listed, ListedAgent
from moa.config.names import is_single_model
from moa.config.presets import PRESETS, preset
from moa.config.profile_table import ProfileTable
from moa.config.tables import AgentTable, EndpointTable, File, MixtureTable, breaking
from moa.errors import ConfigError, UnknownName
from moa.mixture.agent import Agent
from moa.mixture.memory import Memory
from moa.mixture.mixture import Mixture
from moa.mixture.prompts import SYNTHESIZE
from moa.models import Model
from moa.models.cache import Cache
from moa.models.catalog import Access, Around, Catalog
from moa.models.destinations import Destination
from moa.models.endpoint import Timeouts
from moa.models.providers import PROVIDERS
from moa.models.saved_ways import SavedWays
from moa.prices import FREE_PROVIDERS, Price, Prices


class Config(AsyncClosing):
    """The mixtures and models that a user can name. Closing it closes every connection and model it has opened.

    Args:
        path: the file; None to look in the usual places, which need not have one.
        environ: where ``MOA_CONFIG``, the ``XDG_…`` folders and API keys are looked up.
        on_notice: called with one line of text before each slow step (loading or downloading weights).
        memory: remembers the proposals of a turn, for all mixtures; with None, each mixture has a memory of its own.
        around: wraps each model of an endpoint; see :class:`~moa.models.catalog.Catalog`.

    Raises:
        ConfigError: the named file does not exist, or a value in it is wrong; the message has file, line and field.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        on_notice: Callable[[str], None] | None = None,
        memory: Memory | None = None,
        around: Around | None = None,
    ) -> None:
        self._memory = memory
        self.path, runs_programs = find(Path(path) if path else None, environ)
        self._environ = environ
        self._file = read(self.path, runs_programs=runs_programs) if self.path else File()
        self._mixtures: dict[str, Mixture] = {}
        self._opening: list[str] = []
        self._choice: AutoChoice | None = None
        self._written: dict[str, Mapping[str, Any]] = {}
        self.parameters: Mapping[str, float] = dict(self._file.parameters)
        """Billions of parameters that are active for a token, by model name."""
        self.catalog = Catalog(
            {name: _access(endpoint) for name, endpoint in self._file.endpoints.items()},
            profiles={name: table.profile() for name, table in self._file.models.items()},
            breaking={
                name: breaking(table.circuit_breaker)
                for name, table in self._file.models.items()
                if table.circuit_breaker is not None
            },
            cache=self.cache,
            on_notice=on_notice,
            ways=SavedWays(self.cache_path.with_name("continuations.json")),
            prices=lambda: self.prices,
            around=around,
            environ=environ,
        )
        self.catalog.register("moa", self.mixture)
        self.prices = Prices(
            {name: Price(**price.model_dump()) for name, price in self._file.prices.items()},
            free=FREE_PROVIDERS - self.catalog.remote,
        )

    @property
    def default(self) -> str:
        """The mixture that answers if the user names none."""
        return self._file.default or "auto"

    @property
    def small(self) -> str | None:
        """The model that answers small tasks of a server's clients, such as titles; None: the one that they name."""
        return self._file.small

    @property
    def lists_all(self) -> bool:
        """Whether a server's list of models shows single models, and mixtures that lack an API key or weights, too."""
        return self._file.list == "all"

    @property
    def whose_usage(self) -> Literal["answer", "all"]:
        """Whose tokens ``usage`` counts in a server's responses: the call's whose text is the answer, or all calls'."""
        return self._file.usage

    @property
    def endpoints(self) -> list[str]:
        """The names of the file's own endpoints."""
        return [*self._file.endpoints]

    def names(self) -> list[str]:
        """The names of all mixtures: those of the file, the presets, and each maker's whose API key is set."""
        makers = [name for name in preset("auto") if PROVIDERS[name].auto_is_set(self._environ)]
        return list(dict.fromkeys([*self._file.mixtures, *PRESETS, *makers]))

    def listed(self) -> Iterator[Listed]:
        """All mixtures, without opening any model."""
        return (self.described(name) for name in self.names())

    def described(self, name: str) -> Listed:
        """One mixture, without opening any model; raises UnknownName."""
        name = name.removeprefix("moa/")
        return Listed.of(name, *self._table(name))

    def summary(self, listed: Listed) -> str:
        """The description of a mixture; of ``auto``, unless the file defines it, what it stands for and why."""
        if listed.name != "auto" or "auto" in self._file.mixtures:
            return listed.description
        choice = self.auto_choice()
        return choice.why if choice.mixture == "auto" else f"{choice.mixture}: {choice.why}"

    def table(self, name: str) -> MixtureTable:
        """The table of a mixture; ``prompt_file`` is replaced by its content.

        Raises:
            UnknownName: no mixture has this name.
            ConfigError: the prompt file cannot be read.
        """
        table, _ = self._table(name.removeprefix("moa/"))
        if table.prompt_file is None:
            return table
        return table.model_copy(update={"prompt": self._prompt(table), "prompt_file": None})

    def written(self, name: str) -> Mapping[str, Any] | None:
        """The table of a mixture as JSON; None for a single model, an unknown mixture, or an unreadable prompt file."""
        if is_single_model(name):
            return None
        name = name.removeprefix("moa/")
        if name not in self._written:
            try:
                self._written[name] = table_object(self.table(name))
            except ConfigError:
                return None
        return self._written[name]

    @property
    def cache_path(self) -> Path:
        """The file of cached answers."""
        return Path(self._environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "moa" / "answers.sqlite"

    def cache(self) -> Cache:
        """The cached answers, opened; raises ConfigError."""
        return Cache(self.cache_path, megabytes=self._file.cache.megabytes, days=self._file.cache.days)

    def auto_choice(self) -> AutoChoice:
        """What ``auto`` stands for, and why. It is decided at the first call and does not change afterwards."""
        if self._choice is None:
            self._choice = choose(mixtures=[*self._file.mixtures], path=self.path, environ=self._environ)
        return self._choice

    def model(self, name: str) -> Model:
        """The mixture ``NAME`` or ``moa/NAME``, or the single model ``provider/name``.

        Raises:
            UnknownName, KeyMissing, ConfigError: see :mod:`moa.errors`.
        """
        return self.catalog.model(name) if "/" in name else self.mixture(name)

    def as_mixture(self, name: str | None) -> Mixture:
        """The mixture of this name, or the default; a single model becomes a mixture that has only an aggregator.

        Raises:
            UnknownName, KeyMissing, ConfigError: as :meth:`mixture` does.
        """
        name = name or self.default
        model = self.model(name)
        return (
            model
            if isinstance(model, Mixture)
            else Mixture([], model, name=name, prices=self.prices, catalog=self.catalog)
        )

    def mixture(self, name: str) -> Mixture:
        """The mixture of this name; every call returns the same object.

        Raises:
            UnknownName: no mixture has this name, or one of its members names an unknown provider.
            KeyMissing: the environment variable of a member's API key is not set.
            ConfigError: the mixture is a member of itself, directly or through other mixtures.
        """
        name = name.removeprefix("moa/")
        if name not in self._mixtures:
            if name in self._opening:
                chain = " -> ".join(f"moa/{each}" for each in [*self._opening[self._opening.index(name) :], name])
                raise ConfigError(f"a mixture cannot be a member of itself: {chain}")
            table, source = self._table(name)
            self._opening.append(name)
            try:
                self._mixtures[name] = self.build(name, table)
            except (UnknownName, ConfigError) as error:
                if source != "preset" and not str(error).startswith(source):
                    error.args = (f"{source}: mixtures.{name}: {error}",)
                raise
            finally:
                self._opening.pop()
        return self._mixtures[name]

    def single_models(self, name: str) -> Iterator[str]:
        """The names of all single models that a mixture calls, through nested mixtures too; or the one model itself.

        Raises:
            UnknownName: no such mixture.
        """
        if is_single_model(name):
            yield name
        else:
            yield from self._single_models(self.described(name), frozenset())

    def destinations(self, name: str) -> list[Destination]:
        """Where the text of a mixture or a single model goes, each place once, in order; opens no model.

        A member that is an unknown mixture has no place.
        """
        places = dict[Destination, None]()
        with suppress(UnknownName):
            for model in self.single_models(name):
                places[self.catalog.destination(model)] = None
        return [*places]

    def _single_models(self, listed: Listed, seen: frozenset[str]) -> Iterator[str]:
        for member in [*(each for layer in listed.layers for each in layer), *listed.aggregators, *listed.alone]:
            if is_single_model(member.model):
                yield member.model
            elif (nested := member.model.removeprefix("moa/")) not in seen:
                yield from self._single_models(self.described(nested), seen | {listed.name, nested})

    def build(self, name: str, table: MixtureTable) -> Mixture:
        """A mixture from a table, which need not be in the file; raises as :meth:`mixture` does.

        Raises:
            ConfigError: it is ``local_only``, and the text of a member goes elsewhere.
        """
        if table.local_only:
            for member in self._single_models(Listed.of(name, table, ""), frozenset()):
                if not (place := self.catalog.destination(member)).local:
                    raise ConfigError(
                        f"moa/{name} is local_only, but the text of {member} goes to {place}: replace this member by a "
                        "model on this machine, or remove local_only"
                    )

        def agent(entry: str | AgentTable) -> Agent:
            listed = ListedAgent.of(entry)
            return Agent(self.catalog.model(listed.model), listed.name, listed.persona, listed.sampling)

        return Mixture(
            [[agent(entry) for entry in layer] for layer in table.layers],
            None if table.aggregator is None else agent(table.aggregator),
            fallbacks=[agent(entry) for entry in table.fallbacks],
            name=name,
            aggregate=aggregate_of(table),
            references=table.references,
            anonymous=table.anonymous,
            prompt=self._prompt(table),
            schedule=None if table.schedule is None else table.schedule.schedule(),
            exact=table.exact,
            min_proposals=table.min_proposals,
            deadline=table.deadline,
            patience=table.patience,
            max_cost=table.max_cost,
            reads=table.reads,
            rounds=table.rounds,
            keep=table.keep,
            fanout=table.fanout,
            progress=table.progress,
            when=table.when,
            first=table.first,
            effort={
                name: level.model_dump(exclude_none=True) | ({"model": agent(level.model)} if level.model else {})
                for name, level in table.effort.items()
            },
            memory=self._memory,
            prices=self.prices,
            catalog=self.catalog,
        )

    async def aclose(self) -> None:
        """Close every connection and every embedded model."""
        await self.catalog.aclose()
        self._mixtures.clear()

    def _table(self, name: str) -> tuple[MixtureTable, str]:
        if name in self._file.mixtures:
            return self._file.mixtures[name], str(self.path)
        if name == "auto":
            choice = self.auto_choice()
            if choice.mixture != "auto":
                return self._table(choice.mixture)
            return MixtureTable.model_validate(choice.table), "preset"
        if name in (makers := preset("auto")):
            about = {"description": f"today's models of {PROVIDERS[name].label}"}
            return MixtureTable.model_validate(about | makers[name]), "preset"
        if name not in PRESETS:
            raise UnknownName("mixture", name, self.names(), "(`moa mixtures` lists them)")
        return MixtureTable.model_validate(preset(name)), "preset"

    def _prompt(self, table: MixtureTable) -> str:
        if table.prompt_file is None:
            return SYNTHESIZE if table.prompt is None else table.prompt
        path = (self.path.parent if self.path else Path()) / Path(table.prompt_file).expanduser()
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"prompt_file {table.prompt_file!r} cannot be read: {reason(error)}") from None


def _access(table: EndpointTable) -> Access:
    fields = table.model_dump(exclude={"timeouts", "circuit_breaker", *ProfileTable.model_fields})
    return Access(
        **fields,
        timeouts=Timeouts(**table.timeouts.model_dump()),
        profile=table.profile(),
        breaking=breaking(table.circuit_breaker),
    )
