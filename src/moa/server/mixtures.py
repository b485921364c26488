"""``/mixtures``: the configured mixtures as tables, and mixtures that callers write, run, and export as a moa.toml.

A caller's table differs from one in the file in two ways: it names no file, and its members are models that the caller may
call alone. So it reaches nothing that the operator has not configured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moa.attribution.shares import EXPLAINED
from moa.config.config import Config
from moa.config.names import NAME, wrong_name
from moa.config.problems import problem_of
from moa.config.tables import AgentTable, AggregatorTable, MixtureTable
from moa.errors import ConfigError
from moa.mixture.mixture import Mixture
from moa.server.body import FORBIDDEN
from moa.server.failures import Refusal, refusal_of
from moa.server.keys import Key
from moa.server.model_list import ModelList

UNNAMED = "unnamed"
"""The name of a caller's mixture that has none."""

MIXTURE = {"type": "object", "description": "As in moa.toml, without prompt_file; may hold its name."}


class Tables:
    """The tables of the configured mixtures, and mixtures from callers' tables.

    Args:
        config: holds the configured mixtures.
        model_list: knows which models a caller may call.
    """

    def __init__(self, config: Config, model_list: ModelList) -> None:
        self._config, self._model_list = config, model_list

    def listed(self, key: Key) -> dict[str, Any]:
        """Every mixture with its table, and every single model, as JSON; those that the key allows."""
        rows = {row["id"]: row for row in self._model_list.rows if key.may_call(row["id"])}
        mixtures = []
        for listed in self._config.listed():
            if f"moa/{listed.name}" not in rows:
                continue
            described = rows[f"moa/{listed.name}"]["moa"]
            mixtures.append(
                {
                    "name": listed.name,
                    "description": listed.description,
                    "source": listed.source if listed.source == "preset" else Path(listed.source).name,
                    "available": described["available"],
                    "why_not": described.get("why_not"),
                    "text_goes_to": [place.name for place in self._config.destinations(listed.name)],
                    "table": self.written(listed.name),
                }
            )
        return {
            "default": self._config.default,
            "models": [name for name in rows if not name.startswith("moa/")],
            "mixtures": mixtures,
            "explained": EXPLAINED,
        }

    def written(self, model: str) -> Mapping[str, Any] | None:
        """The table of a configured mixture as JSON; None for a single model, or without its prompt file."""
        return self._config.written(model)

    def mixture(self, name: str, table: MixtureTable) -> Mixture:
        """A mixture from a caller's table.

        Raises:
            Refusal: 400, the table is invalid; 404, a member is unknown; 503, a member is not configured here.
        """
        for place, model in _members(table):
            try:
                self._model_list.check_member(model)
            except ConfigError as error:
                refusal = refusal_of(error) if "/" in model else Refusal(400, str(error))
                refusal.param, refusal.subject = f"{place}.model", model
                raise refusal from None
        try:
            mixture = self._config.build(name, table)
        except ConfigError as error:
            field = re.match(rf"moa/{re.escape(name)}: (\w+) is ", str(error))
            param = f"mixture.{field[1]}" if field else "mixture"
            raise Refusal(400, str(error), param=param, code="invalid_value", private=True) from None
        finally:
            for _, model in _members(table):
                self._model_list.forget(model)
        return mixture


def table_of(data: object, name: object = None, *, is_run: bool = False) -> tuple[str, MixtureTable]:
    """A caller's table, checked, and its name.

    Args:
        data: the table as JSON; may hold its ``name``.
        name: its name otherwise.
        is_run: whether the table is only run; it may then have a reserved name, which no file can have.

    Raises:
        Refusal: 400, with the field in ``param``.
    """
    if not isinstance(data, Mapping):
        raise Refusal(400, "'mixture' must be an object", param="mixture", code="invalid_value")
    fields = dict(data)
    param = "mixture.name" if "name" in fields else "name"
    name = fields.pop("name", name) or UNNAMED
    if not isinstance(name, str):
        raise Refusal(400, "a name must be a string", param=param, code="invalid_value")
    if (why := wrong_name(name)) and not (is_run and NAME.fullmatch(name)):
        raise Refusal(400, f"the name {name!r} {why}", param=param, code="invalid_value")
    if fields.get("prompt_file") is not None:
        message = "'prompt_file' is not accepted: put the prompt's text in 'prompt'"
        raise Refusal(400, message, param="mixture.prompt_file", code="invalid_value")
    try:
        table = MixtureTable.model_validate(fields)
    except ValidationError as error:
        where, problem = problem_of(error, ("mixtures", name))
        place = _place("mixture", *where[2:])
        raise Refusal(400, f"{place}: {problem}", param=place, code="invalid_value") from None
    for place, agent in _agents(table):
        for field in (agent.model_extra or {}) if isinstance(agent, AgentTable) else ():
            if field in FORBIDDEN or field in ("messages", "stream"):
                message = f"{field!r} is not accepted: the server's operator decides where calls go"
                raise Refusal(400, message, param=f"{place}.{field}", code="invalid_value")
    return name, table


def _agents(table: MixtureTable) -> list[tuple[str, str | AgentTable]]:
    """Every agent, with its place in the table."""
    agents: list[tuple[str, str | AgentTable]] = [
        (_place("mixture", "layers", number, place), agent)
        for number, layer in enumerate(table.layers)
        for place, agent in enumerate(layer)
    ]
    if table.aggregator is not None:
        agents.append(("mixture.aggregator", table.aggregator))
        if isinstance(table.aggregator, AggregatorTable):
            agents += [
                (_place("mixture", "aggregator", "fallbacks", place), agent)
                for place, agent in enumerate(table.aggregator.fallbacks)
            ]
    agents += [(_place("mixture", "effort", name), agent) for name, agent in table.alone.items()]
    return agents


def members_of(table: MixtureTable) -> list[str]:
    """The names of the models that a table holds; of nested mixtures, theirs."""
    return [model for _, model in _members(table)]


def _members(table: MixtureTable) -> list[tuple[str, str]]:
    return [(place, agent if isinstance(agent, str) else agent.model) for place, agent in _agents(table)]


def _place(*parts: str | int) -> str:
    """A path into the body, as errors name it: ``mixture.layers[0][1].model``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
