"""A request for structured output: as a ``response_format`` where the agent's model may follow one, in words in any case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moa.messages import Request
from moa.mixture.agent import Agent
from moa.models import traits_of


def structured(agent: Agent, request: Request, name: str, schema: Mapping[str, Any]) -> Request:
    """The request with this schema; unchanged where the model does not follow one, since its words hold the form, too."""
    traits = traits_of(agent.model)
    if traits.composite or traits.profile.json_schema is False or "response_format" in traits.profile.refuses:
        return request
    named = {"name": name, "schema": schema, "strict": True}
    return request.replaced(response_format={"type": "json_schema", "json_schema": named})
