"""Who can be asked: mixtures as ``moa/NAME``, single models as ``provider/name``.

A caller can name what ``GET /v1/models`` lists and the models of endpoints in ``moa.toml``; nothing else is reachable, so no
request makes the server call an address, read a file, fetch weights or spend a key that its operator has not set up.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from functools import cached_property
from typing import Any

from moa.config.auto import OWNER
from moa.config.config import Config
from moa.config.names import full_name
from moa.errors import ConfigError, MoaError, UnknownName
from moa.mixture.mixture import Mixture
from moa.models import Model, weights
from moa.server.failures import refusal_of

MOST_ALONE = 256
"""How many single models are kept ready. Of an endpoint's models a caller can name any, so there is no end to them."""


class Catalogue:
    """The mixtures and models of a configuration, as callers see them."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._started = int(time.time())
        self._alone: OrderedDict[str, Mixture] = OrderedDict()
        self._here = set[str]()

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """What ``GET /v1/models`` lists: every mixture, then the single models they are made of that can be asked."""
        rows = []
        for listed in self._config.listed():
            missing = self._missing(listed.name)
            more = {"description": listed.description, "available": missing is None, "why_not": missing}
            rows.append(self._row(f"moa/{listed.name}", moa={k: v for k, v in more.items() if v is not None}))
        return rows + [self._row(name) for name in self._members if self._can_be_asked(name)]

    @cached_property
    def _members(self) -> dict[str, None]:
        """Every single model that a mixture is made of, in order, set up here or not."""
        members = (
            member.model
            for listed in self._config.listed()
            for layer in (*listed.layers, listed.aggregators)
            for member in layer
        )
        return dict.fromkeys(name for name in members if not name.startswith("moa/"))

    @cached_property
    def ids(self) -> frozenset[str]:
        """The names in it."""
        return frozenset(row["id"] for row in self.rows)

    def mixture(self, name: str) -> Mixture:
        """Who answers to this name; a single model answers as a mixture without proposers.

        Raises:
            Refusal: 404, or 503 where it cannot be opened (a key or weights are missing).
        """
        try:
            if "/" not in name or name.startswith("moa/"):
                mixture = self._config.mixture(name)
                self._check_weights(mixture)
                return mixture
            return self._single(name)
        except ConfigError as error:
            if self.label(name) in self.ids:
                # There is such a mixture, and what is wrong with it is not the caller's to mend.
                raise refusal_of(ConfigError(*error.args)) from None
            raise refusal_of(error) from None

    def check_member(self, name: str) -> None:
        """Whether a caller's own mixture may have this member: what can be asked alone, and members of mixtures here.

        Raises:
            ConfigError: it may not, or it cannot be opened.
        """
        if "/" not in name:
            raise ConfigError(f"{name!r} is no model; write provider/name or moa/NAME")
        if name.startswith("moa/"):
            self._check_weights(self._config.mixture(name))
            return
        if name not in self._members and name.partition("/")[0] not in self._config.endpoints:
            raise UnknownName("model", name, self.ids, "(GET /v1/models lists them)")
        self._check_weights(self._config.model(name))

    def forget(self, name: str) -> None:
        """Let go of a model that is not listed; whoever has it goes on with it."""
        if name not in self._members and name not in self._alone:
            self._config.catalog.forget(name)

    def label(self, name: str) -> str:
        """A model's name in metrics; those that are not listed, which callers may make up, share one."""
        name = full_name(name)
        return name if name in self.ids else f"{name.partition('/')[0]}/*"

    def _single(self, name: str) -> Mixture:
        if name not in self._alone:
            if name not in self.ids and name.partition("/")[0] not in self._config.endpoints:
                raise UnknownName("model", name, self.ids, "(GET /v1/models lists them)")
            self._alone[name] = Mixture([], self._config.model(name), name=name, prices=self._config.prices)
        self._alone.move_to_end(name)
        if len(self._alone) > MOST_ALONE:
            forgotten, _ = self._alone.popitem(last=False)
            self._config.catalog.forget(forgotten)
        return self._alone[name]

    def _row(self, name: str, **more: Any) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": OWNER, **more}

    def _missing(self, name: str) -> str | None:
        try:
            self._check_weights(self._config.mixture(name))
        except MoaError as error:
            return str(error)
        return None

    def _can_be_asked(self, name: str) -> bool:
        try:
            self._check_weights(self._config.model(name))
        except MoaError:
            return False
        return True

    def _check_weights(self, model: Model) -> None:
        """Whether all weights it needs are on this machine. It is not for a caller to have gigabytes fetched.

        Raises:
            ConfigError: some are not.
        """
        if isinstance(model, Mixture):
            for agent in model.agents:
                self._check_weights(agent.model)
        elif model.name.startswith("local/") and model.name not in self._here:
            if weights.here(model.name.removeprefix("local/")) is None:
                fetch = f"`moa check {model.name}` fetches them"
                raise ConfigError(f"the weights of {model.name} are not on the server's machine; {fetch}")
            self._here.add(model.name)
