"""Mixtures as tables: those there are, and those that a caller writes, tries, and takes away as a moa.toml.

A caller's table is that of the file with two differences: it names no file, and its members are those that a caller can ask
alone. So it reaches nothing that its operator has not set up.
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
from moa.server.catalogue import Catalogue
from moa.server.failures import Refusal, refusal_of

UNNAMED = "unnamed"
"""What a caller's mixture is called that was not given a name."""


class Tables:
    """The tables of a configuration's mixtures, and mixtures from tables of callers.

    Args:
        config: where they stand.
        catalogue: what a caller can ask.
    """

    def __init__(self, config: Config, catalogue: Catalogue) -> None:
        self._config, self._catalogue = config, catalogue

    def listed(self) -> dict[str, Any]:
        """What there is to choose from, and to change."""
        rows = self._catalogue.rows
        mixtures = []
        for listed in self._config.listed():
            told = next(row["moa"] for row in rows if row["id"] == f"moa/{listed.name}")
            mixtures.append(
                {
                    "name": listed.name,
                    "description": listed.description,
                    "source": listed.source if listed.source == "preset" else Path(listed.source).name,
                    "available": told["available"],
                    "why_not": told.get("why_not"),
                    "table": self._config.written(listed.name),
                }
            )
        singles = [row["id"] for row in rows if not row["id"].startswith("moa/")]
        return {
            "default": self._config.default,
            "models": singles,
            "mixtures": mixtures,
            "explained": EXPLAINED,
        }

    def mixture(self, name: str, table: MixtureTable) -> Mixture:
        """A mixture from a caller's table.

        Raises:
            Refusal: 400, the table makes no mixture; 404, a member is not there; 503, a member is not set up here.
        """
        for place, model in _members(table):
            try:
                self._catalogue.check_member(model)
            except ConfigError as error:
                refusal = refusal_of(error) if "/" in model else Refusal(400, str(error))
                refusal.param = f"{place}.model"
                raise refusal from None
        try:
            mixture = self._config.build(name, table)
        except ConfigError as error:
            field = re.match(rf"moa/{re.escape(name)}: (\w+) is ", str(error))
            param = f"mixture.{field[1]}" if field else "mixture"
            raise Refusal(400, str(error), param=param, code="invalid_value") from None
        finally:
            for _, model in _members(table):
                self._catalogue.forget(model)
        return mixture


def table_of(data: object, name: object = None, *, is_run: bool = False) -> tuple[str, MixtureTable]:
    """A caller's table, checked: its name, and the table itself.

    Args:
        data: the table as JSON; may hold its ``name``.
        name: what it is called otherwise.
        is_run: whether it is only run; it may then be called as one of ours that no file can name.

    Raises:
        Refusal: 400, with the field in ``param``.
    """
    if not isinstance(data, Mapping):
        raise Refusal(400, "'mixture' must be an object", param="mixture", code="invalid_value")
    fields = dict(data)
    param = "mixture.name" if "name" in fields else "name"
    name = fields.pop("name", name) or UNNAMED
    if not isinstance(name, str):
        raise Refusal(400, "a name is text", param=param, code="invalid_value")
    if (why := wrong_name(name)) and not (is_run and NAME.fullmatch(name)):
        raise Refusal(400, f"the name {name!r} {why}", param=param, code="invalid_value")
    if fields.get("prompt_file") is not None:
        message = "'prompt_file' is not accepted: give the text itself in 'prompt'"
        raise Refusal(400, message, param="mixture.prompt_file", code="invalid_value")
    try:
        table = MixtureTable.model_validate(fields)
    except ValidationError as error:
        where, told = problem_of(error, ("mixtures", name))
        place = _place("mixture", *where[2:])
        raise Refusal(400, f"{place}: {told}", param=place, code="invalid_value") from None
    for place, agent in _agents(table):
        for field in (agent.model_extra or {}) if isinstance(agent, AgentTable) else ():
            if field in FORBIDDEN or field in ("messages", "stream"):
                message = f"{field!r} is not accepted: the operator says where calls go"
                raise Refusal(400, message, param=f"{place}.{field}", code="invalid_value")
    return name, table


def _agents(table: MixtureTable) -> list[tuple[str, str | AgentTable]]:
    """Every agent, with its place in the table."""
    found: list[tuple[str, str | AgentTable]] = [
        (_place("mixture", "layers", number, place), agent)
        for number, layer in enumerate(table.layers)
        for place, agent in enumerate(layer)
    ]
    if table.aggregator is not None:
        found.append(("mixture.aggregator", table.aggregator))
        if isinstance(table.aggregator, AggregatorTable):
            found += [
                (_place("mixture", "aggregator", "fallbacks", place), agent)
                for place, agent in enumerate(table.aggregator.fallbacks)
            ]
    return found


def _members(table: MixtureTable) -> list[tuple[str, str]]:
    return [(place, agent if isinstance(agent, str) else agent.model) for place, agent in _agents(table)]


def _place(*parts: str | int) -> str:
    """A path into the body, as errors name it: ``mixture.layers[0][1].model``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
