"""A mixture's table, written out: as JSON for the server, the store and the page, and as a moa.toml to keep."""

from __future__ import annotations

from typing import Any

import tomli_w

from moa.config.tables import AgentTable, MixtureTable


def table_object(table: MixtureTable) -> dict[str, Any]:
    """A table as JSON: agents are objects, defaults are written out, and fields without a value are left out."""
    aggregator: dict[str, Any] | None = None
    if table.aggregator is not None:
        fallbacks = [agent_object(each) for each in table.fallbacks]
        aggregator = {**agent_object(table.aggregator), "fallbacks": fallbacks}
    return {
        **({"description": table.description} if table.description else {}),
        "layers": [[agent_object(agent) for agent in layer] for layer in table.layers],
        "aggregator": aggregator,
        **table.model_dump(exclude_none=True, exclude={"layers", "aggregator", "description", "prompt_file"}),
    }


def toml_of(name: str, table: MixtureTable) -> str:
    """A whole moa.toml with this mixture. Fields that have their default are left out."""
    fields = table.model_dump(exclude_defaults=True, exclude={"layers", "aggregator"}, exclude_none=True)
    if table.schedule is not None:
        fields["schedule"] = {"kind": table.schedule.kind, **fields.get("schedule", {})}
    fields["layers"] = [[_shortest(agent_object(agent)) for agent in layer] for layer in table.layers]
    if table.aggregator is not None:
        aggregator = agent_object(table.aggregator)
        if table.fallbacks:
            aggregator["fallbacks"] = [_shortest(agent_object(each)) for each in table.fallbacks]
        fields["aggregator"] = _shortest(aggregator)
    order = ("description", "layers", "aggregator")
    ordered = {key: fields[key] for key in order if key in fields} | fields
    return tomli_w.dumps({"mixtures": {name: ordered}})


def agent_object(agent: str | AgentTable) -> dict[str, Any]:
    """An agent as JSON: its model, and the other fields that are set."""
    if isinstance(agent, str):
        return {"model": agent}
    fields = agent.model_dump(exclude_none=True, exclude={"fallbacks"})
    return {key: value for key, value in fields.items() if key != "name" or value}


def _shortest(agent: dict[str, Any]) -> Any:
    """The name of the model if the agent has no other field, else the table."""
    return agent["model"] if list(agent) == ["model"] else _without_none(agent)


def _without_none(value: Any) -> Any:
    """The value without its None. TOML has no null, and a sampling field that is null is not sent."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value
