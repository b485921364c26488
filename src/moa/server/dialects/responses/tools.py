"""The tools of a Responses request as those of Chat Completions, and the calls of them back again.

Models know functions only. A ``custom`` tool, which takes a text, becomes a function of one string; the tools of a
``namespace`` become functions with the namespace in their names. Tools that OpenAI's own servers run (web search, file
search, code interpreter, …) are left out: no model here could run them.

https://platform.openai.com/docs/api-reference/responses/create (``tools``, ``tool_choice``)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moa.server.dialects.functions import Origin, Tools, check_tool

INPUT = "input"
"""The only parameter of the function that stands for a custom tool."""


def tools_of(tools: Sequence[Mapping[str, Any]]) -> Tools:
    """The tools of a request.

    Raises:
        Refusal: 400, a tool that a model can call is malformed.
    """
    result = Tools()
    for place, tool, namespace in _each(tools):
        check_tool(tool, "parameters", place)
        result.add(Origin(tool["name"], namespace, custom=tool["type"] == "custom"), _described(tool))
    return result


def _each(tools: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any], str | None]]:
    """Each tool that a model can call, with its place and its namespace."""
    for number, tool in enumerate(tools):
        place, kind, inner = f"tools[{number}]", tool.get("type"), tool.get("tools")
        if kind in ("function", "custom"):
            # Some clients send the form of Chat Completions here too.
            nested = tool.get(kind)
            yield place, {**nested, "type": kind} if isinstance(nested, Mapping) else tool, None
        elif kind == "namespace" and isinstance(inner, list):
            for index, each in enumerate(inner):
                if isinstance(each, Mapping) and each.get("type") in ("function", "custom"):
                    yield f"{place}.tools[{index}]", each, str(tool.get("name") or "") or None


def _described(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool["type"] == "function":
        return {key: tool[key] for key in ("description", "parameters", "strict") if tool.get(key) is not None}
    parameters = {"type": "object", "properties": {INPUT: {"type": "string"}}, "required": [INPUT]}
    return {"description": _custom_description(tool), "parameters": parameters}


def _custom_description(tool: Mapping[str, Any]) -> str:
    description = str(tool.get("description") or "")
    grammar = tool.get("format")
    definition = grammar.get("definition") if isinstance(grammar, Mapping) else None
    return f"{description}\n\n{INPUT!r} must follow this grammar:\n\n{definition}" if definition else description


def choice_of(choice: object, tools: Tools) -> object:
    """``tool_choice`` in the form of Chat Completions; None where the choice is free."""
    if not isinstance(choice, Mapping):
        return choice
    kind, name = choice.get("type"), choice.get("name")
    if kind in ("function", "custom") and isinstance(name, str):
        namespace = choice.get("namespace")
        function = tools.function(name, namespace if isinstance(namespace, str) else None)
        return {"type": "function", "function": {"name": function}}
    if kind == "allowed_tools":
        return choice.get("mode")
    return None


def call_item(call: Mapping[str, Any], tools: Tools) -> dict[str, Any]:
    """The head of an output item for a tool call: its type, call ID, name and namespace."""
    custom = isinstance(call.get("custom"), Mapping)
    name = str((call.get("custom" if custom else "function") or {}).get("name") or "")
    origin = tools.origin(name)
    kind = "custom_tool_call" if custom or origin.custom else "function_call"
    namespace = {"namespace": origin.namespace} if origin.namespace else {}
    return {"type": kind, "call_id": str(call.get("id") or ""), "name": origin.name, **namespace}


def arguments_in(piece: Mapping[str, Any]) -> str:
    """The arguments in a piece of a tool call, or the input of a custom tool."""
    function, custom = piece.get("function") or {}, piece.get("custom") or {}
    return str(function.get("arguments") or custom.get("input") or "")


def input_of(arguments: str) -> str:
    """The input of a custom tool from the arguments of its function; arguments of another form as they are."""
    try:
        value = json.loads(arguments)
    except ValueError:
        return arguments
    text = value.get(INPUT) if isinstance(value, dict) else value
    return text if isinstance(text, str) else arguments


def arguments_of(text: str) -> str:
    """The arguments of the function that stands for a custom tool."""
    return json.dumps({INPUT: text}, ensure_ascii=False)
