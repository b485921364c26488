"""The functions that models receive for a client's tools, and the tools behind them.

A function's name is shorter and plainer than a tool's may be: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from moa.server.failures import Refusal

MOST_OF_NAME = 64
"""Characters that a function's name may have: letters, digits, underscores and hyphens."""

DIGEST = 8
"""Characters of the digest that ends the name of a function whose tool has a name that no function may have."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a function comes from: the name of the client's tool, its namespace, and whether it is a custom tool."""

    name: str
    namespace: str | None = None
    custom: bool = False


@dataclass(slots=True)
class Tools:
    """The functions that models receive, in the form of Chat Completions, and the tools behind them.

    Attributes:
        functions: each under a name of its own.
    """

    functions: list[Mapping[str, Any]] = field(default_factory=list)
    _origins: dict[str, Origin] = field(default_factory=dict)
    _names: dict[tuple[str, str | None], str] = field(default_factory=dict)

    def add(self, origin: Origin, fields: Mapping[str, Any]) -> None:
        """Add the function of a tool with these further fields; the second tool of one name is left out."""
        if (origin.name, origin.namespace) in self._names:
            return
        name = _name(origin.name, origin.namespace, self._origins)
        self._origins[name] = origin
        self._names[origin.name, origin.namespace] = name
        self.functions.append({"type": "function", "function": {"name": name, **fields}})

    def origin(self, name: str) -> Origin:
        """The tool behind a function; a name that the request does not define is a function of that name."""
        return self._origins.get(name) or Origin(name)

    def function(self, name: str, namespace: str | None = None) -> str:
        """The name of the function that stands for a tool."""
        return self._names.get((name, namespace)) or _name(name, namespace, ())


def _name(name: str, namespace: str | None, taken: Iterable[str]) -> str:
    """The same name for the same tool in each request, as far as no other tool takes it."""
    whole = f"{namespace}__{name}" if namespace else name
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", whole)
    if plain == whole and len(plain) <= MOST_OF_NAME and plain not in taken:
        return plain
    digest = sha256(repr((namespace, name)).encode()).hexdigest()[:DIGEST]
    return f"{plain[: MOST_OF_NAME - DIGEST - 1]}_{digest}"


def check_tool(tool: Mapping[str, Any], schema: str, place: str) -> None:
    """Check the fields of a tool.

    Args:
        schema: the name of the field for its JSON schema.
        place: of the tool in the request, such as ``tools[0]``.

    Raises:
        Refusal: 400, with the field in ``param``.
    """
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise Refusal(400, f"'{place}.name' must be a text that is not empty", param=f"{place}.name")
    if not isinstance(tool.get("description"), str | None):
        raise Refusal(400, f"'{place}.description' must be a text", param=f"{place}.description")
    parameters = tool.get(schema)
    if not isinstance(parameters, Mapping | None):
        raise Refusal(400, f"'{place}.{schema}' must be a JSON schema, an object", param=f"{place}.{schema}")
    if not isinstance((parameters or {}).get("properties"), Mapping | None):
        what = f"{place}.{schema}.properties"
        raise Refusal(400, f"'{what}' must be an object", param=what)
