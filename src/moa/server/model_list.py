"""The models that callers can select: mixtures as ``moa/NAME``, single models as ``provider/name``.

A caller can select what ``GET /v1/models?all=true`` lists and the models of endpoints in ``moa.toml``; nothing else is
reachable. So no request makes the server call an address, read a file, download weights or use a key that the operator has
not configured.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from functools import cached_property
from typing import Any

from moa.config.auto import OWNER
from moa.config.config import Config
from moa.config.names import full_name, is_single_model
from moa.errors import ConfigError, MoaError, UnknownName
from moa.mixture.card import Card, card_of
from moa.mixture.mixture import Mixture
from moa.models import Model, weights
from moa.server.discretion import Discretion
from moa.server.failures import refusal_of
from moa.server.keys import Key

MOST_SINGLE = 256
"""Single models that stay open. A caller can invent names of an endpoint's models, so their number must be bounded."""


PARAMETERS = ("max_tokens", "temperature", "top_p", "stop", "seed", "response_format", "structured_outputs")
"""Fields of a request that every mixture takes, by OpenRouter's names: https://openrouter.ai/docs/api-reference/parameters"""


class ModelList:
    """The mixtures and models of a configuration, as callers see them.

    Args:
        config: the mixtures and models.
        discretion: gives the names under which callers see models that are named by the paths of their files.
    """

    def __init__(self, config: Config, discretion: Discretion) -> None:
        self._config, self._discretion = config, discretion
        self._started = int(time.time())
        self._single: OrderedDict[str, Mixture] = OrderedDict()
        self._downloaded = set[str]()

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``GET /v1/models?all=true``: every mixture, then every member of a mixture that can be called here."""
        rows = []
        for listed in self._config.listed():
            missing = self._missing(listed.name)
            more = {"description": listed.description, "available": missing is None, "why_not": missing}
            moa = {name: value for name, value in more.items() if value is not None}
            rows.append(self._row(f"moa/{listed.name}", description=listed.description, moa=moa))
        rows += [self._row(name) for name in self._members if self._can_be_called(name)]
        cards = {row["id"]: card for row in rows if (card := self._card(row["id"]))}
        priced = all(card.prompt is not None for card in cards.values())
        return [
            {**row, **openai_fields(cards[row["id"]], priced=priced)} if row["id"] in cards else row for row in rows
        ]

    @cached_property
    def callable_mixtures(self) -> list[dict[str, Any]]:
        """The rows of the mixtures that can be called here: what a client's menu of models should show."""
        return [row for row in self.rows if row.get("moa", {}).get("available")]

    def listed(self, key: Key, *, all_models: bool = False) -> list[dict[str, Any]]:
        """The rows of ``GET /v1/models`` for a key. Of a key with a list of models, the single ones are among them, too."""
        if all_models or self._config.lists_all:
            rows = self.rows
        elif key.models is None:
            return self.callable_mixtures
        else:
            rows = self.callable_mixtures + [row for row in self.rows if is_single_model(row["id"])]
        return [row for row in rows if key.may_call(row["id"])]

    def row(self, name: str) -> dict[str, Any]:
        """The row of one model, also of an endpoint's model that is in no mixture.

        Raises:
            Refusal: 404, there is none.
        """
        name = self._configured(full_name(name))
        for row in self.rows:
            if row["id"] == name:
                return row
        if is_single_model(name) and self._may_be_called(name):
            card = self._card(name)
            return self._row(name, **(openai_fields(card, priced=True) if card else {}))
        raise refusal_of(UnknownName("model", name, self.ids))

    @cached_property
    def _members(self) -> dict[str, None]:
        """Every single model that is a member of a mixture, and the small one, in order, whether configured here or not."""
        members = (
            member.model
            for listed in self._config.listed()
            for layer in (*listed.layers, listed.aggregators, listed.alone)
            for member in layer
        )
        small = [self._config.small] if self._config.small else []
        return dict.fromkeys(name for name in (*members, *small) if is_single_model(name))

    @cached_property
    def ids(self) -> frozenset[str]:
        """The names in :attr:`rows`."""
        return frozenset(row["id"] for row in self.rows)

    def mixture(self, name: str) -> Mixture:
        """The mixture with this name; a single model becomes a mixture without proposers.

        Raises:
            Refusal: 404, there is none; 503, it cannot be opened because an API key or weights are missing.
        """
        name = self._configured(name)
        try:
            if is_single_model(name):
                return self._single_model(name)
            mixture = self._config.mixture(name)
            self._check_weights(mixture)
            return mixture
        except ConfigError as error:
            # If the mixture exists, the operator, not the caller, must fix it. So this is 503, not 404.
            refusal = refusal_of(ConfigError(*error.args) if self.label(name) in self.ids else error)
            refusal.subject = full_name(name)
            raise refusal from None

    def check_member(self, name: str) -> None:
        """Check that a caller's own mixture may have this member: a model that can be called alone, or a configured member.

        Raises:
            ConfigError: the member is not allowed, or it cannot be opened.
        """
        if "/" not in name:
            raise ConfigError(f"{name!r} is not a model name; write provider/name or moa/NAME")
        if name.startswith("moa/"):
            self._check_weights(self._config.mixture(name))
            return
        if name not in self._members and name.partition("/")[0] not in self._config.endpoints:
            raise UnknownName("model", name, self.ids)
        self._check_weights(self._config.model(name))

    def forget(self, name: str) -> None:
        """Drop a model that is not listed; runs that use it keep it."""
        if name not in self._members and name not in self._single:
            self._config.catalog.forget(name)

    def label(self, name: str) -> str:
        """A model's label in metrics. Names that are not listed share one label, since callers can invent them."""
        name = full_name(name)
        return name if name in self.ids else f"{name.partition('/')[0]}/*"

    def _single_model(self, name: str) -> Mixture:
        if name not in self._single:
            if not self._may_be_called(name):
                raise UnknownName("model", name, self.ids)
            self._single[name] = Mixture([], self._config.model(name), name=name, prices=self._config.prices)
        self._single.move_to_end(name)
        if len(self._single) > MOST_SINGLE:
            oldest, _ = self._single.popitem(last=False)
            self._config.catalog.forget(oldest)
        return self._single[name]

    def _may_be_called(self, name: str) -> bool:
        """Whether a single model is listed, is the small one, or is a model of an endpoint in ``moa.toml``."""
        return name in self.ids or name == self._config.small or name.partition("/")[0] in self._config.endpoints

    def _configured(self, name: str) -> str:
        """The name of a model in moa.toml, from the name under which callers see it."""
        return self._of_files.get(name, name)

    @cached_property
    def _of_files(self) -> dict[str, str]:
        return {self._discretion.text(name): name for name in self._members if name.startswith("local/")}

    def _row(self, name: str, **more: Any) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": OWNER, "name": name, **more}

    def _card(self, name: str) -> Card | None:
        """What a client should know of a model; None where it cannot be opened here."""
        try:
            model = self._config.model(name) if is_single_model(name) else self._config.mixture(name)
            mixture = model if isinstance(model, Mixture) else Mixture([], model, prices=self._config.prices)
            return card_of(mixture, self._config.prices)
        except MoaError:
            return None

    def _missing(self, name: str) -> str | None:
        try:
            self._check_weights(self._config.mixture(name))
        except MoaError as error:
            return str(error)
        return None

    def _can_be_called(self, name: str) -> bool:
        try:
            self._check_weights(self._config.model(name))
        except MoaError:
            return False
        return True

    def _check_weights(self, model: Model) -> None:
        """Check that all weights of a model are on this machine: no caller may make the server download gigabytes.

        Raises:
            ConfigError: some weights are missing.
        """
        if isinstance(model, Mixture):
            for agent in [*model.agents, *(level.model for level in model.effort.values() if level.model)]:
                self._check_weights(agent.model)
        elif model.name.startswith("local/") and model.name not in self._downloaded:
            if weights.find_local(model.name.removeprefix("local/")) is None:
                raise ConfigError(
                    f"the weights of {model.name} are not on the server's machine; its operator can download them"
                )
            self._downloaded.add(model.name)


def openai_fields(card: Card, *, priced: bool) -> dict[str, Any]:
    """The facts as fields of a row of ``GET /v1/models``, by the names that clients look for.

    ``context_length``, ``architecture``, ``supported_parameters`` and ``pricing`` are OpenRouter's
    (https://openrouter.ai/docs/api-reference/list-available-models), ``max_model_len`` is vLLM's.
    """
    inputs = ["text", "image"] if card.images else ["text"]
    abilities = (("tools", card.tools), ("tool_choice", card.tools), ("reasoning_effort", card.efforts))
    fields: dict[str, Any] = {
        "context_length": card.context_tokens,
        "max_model_len": card.context_tokens,
        "max_output_tokens": card.answer_tokens,
        "architecture": {
            "modality": f"{'+'.join(inputs)}->text",
            "input_modalities": inputs,
            "output_modalities": ["text"],
        },
        "supported_parameters": [*PARAMETERS, *(name for name, can in abilities if can)],
        "capabilities": {"tools": card.tools, "vision": card.images, "reasoning_effort": card.efforts},
    }
    if priced and card.prompt is not None and card.completion is not None:
        fields["pricing"] = {
            "prompt": f"{card.prompt:.12f}".rstrip("0").rstrip("."),
            "completion": f"{card.completion:.12f}".rstrip("0").rstrip("."),
        }
    return {name: value for name, value in fields.items() if value is not None}
