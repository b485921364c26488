"""A mixture's table, written out: as JSON for the server, the store and the page, and as a moa.toml to keep."""

from __future__ import annotations

from typing import Any

import tomli_w

from moa.config.tables import AgentTable, AggregatorTable, MixtureTable


def table_object(table: MixtureTable) -> dict[str, Any]:
    """A table as JSON: agents are objects, and what is not set and has no default is left out."""
    aggregator = table.aggregator
    settings = table.model_dump(exclude_none=True, exclude={"layers", "aggregator", "description", "prompt_file"})
    answering: dict[str, Any] | None = None
    if aggregator is not None:
        fallbacks = aggregator.fallbacks if isinstance(aggregator, AggregatorTable) else []
        answering = {**_agent_object(aggregator), "fallbacks": [_agent_object(each) for each in fallbacks]}
    return {
        **({"description": table.description} if table.description else {}),
        "layers": [[_agent_object(agent) for agent in layer] for layer in table.layers],
        "aggregator": answering,
        **settings,
    }


def toml_of(name: str, table: MixtureTable) -> str:
    """A whole moa.toml with this mixture; what is as it would be anyway is left out."""
    written = table.model_dump(exclude_defaults=True, exclude={"layers", "aggregator"}, exclude_none=True)
    if table.schedule is not None:
        written["schedule"] = {"kind": table.schedule.kind, **written.get("schedule", {})}
    written["layers"] = [[_shortest(_agent_object(agent)) for agent in layer] for layer in table.layers]
    if table.aggregator is not None:
        aggregator = _agent_object(table.aggregator)
        if isinstance(table.aggregator, AggregatorTable) and table.aggregator.fallbacks:
            aggregator["fallbacks"] = [_shortest(_agent_object(each)) for each in table.aggregator.fallbacks]
        written["aggregator"] = _shortest(aggregator)
    order = ("description", "layers", "aggregator")
    ordered = {key: written[key] for key in order if key in written} | written
    return tomli_w.dumps({"mixtures": {name: ordered}})


def _agent_object(agent: str | AgentTable) -> dict[str, Any]:
    if isinstance(agent, str):
        return {"model": agent}
    fields = agent.model_dump(exclude_none=True, exclude={"fallbacks"})
    return {key: value for key, value in fields.items() if key != "name" or value}


def _shortest(agent: dict[str, Any]) -> Any:
    return agent["model"] if list(agent) == ["model"] else _without_none(agent)


def _without_none(value: Any) -> Any:
    """TOML has no null; a field that is null is one that is not sent."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value
