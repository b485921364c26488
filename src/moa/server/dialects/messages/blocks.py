"""The messages of an Anthropic request as messages of Chat Completions.

A message holds blocks. Those of a tool's results become messages of their own; thinking that this server wrote is taken
apart again (see :mod:`moa.server.dialects.seal`). Blocks of tools that Anthropic's own servers run are passed over.

https://platform.claude.com/docs/en/api/messages (``messages``, ``system``, ``tools``, ``tool_choice``)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moa.server.dialects.conversation import check_message, list_of
from moa.server.dialects.functions import Origin, Tools, check_tool
from moa.server.dialects.seal import unsealed
from moa.server.failures import Refusal

Block = Mapping[str, Any]
Message = dict[str, Any]

ROLES = ("assistant", "system", "user")

RUN_BY_ANTHROPIC = ("web_search", "web_fetch", "code_execution", "tool_search", "mcp_toolset")
"""How the types of tools begin that Anthropic's servers run: they are left out, since no model here could run them."""

CHOICES = {"any": "required", "auto": "auto", "none": "none"}
"""Choices among all tools, and their names in Chat Completions."""


def messages_of(messages: Sequence[Mapping[str, Any]], system: object, tools: Tools) -> list[Message]:
    """The messages of a request; the system prompt comes first.

    Raises:
        RequestRejected: a message is malformed.
    """
    result: list[Message] = []
    if prompt := text_of(system):
        result.append({"role": "system", "content": prompt})
    for number, message in enumerate(messages):
        check_message(message, f"messages[{number}]", ROLES)
        role, content = message.get("role"), message.get("content")
        blocks = blocks_of(content)
        known = [block for block in blocks if isinstance(block, Mapping)]
        if role == "assistant":
            result += _assistant(known, tools)
        elif role == "user":
            result += _user(known)
        else:
            result.append({"role": role, "content": text_of(content)})
    return result


def text_of(content: object) -> str:
    """The text of a system prompt or a tool's result, in a string or in blocks."""
    if isinstance(content, str):
        return content
    texts = (block.get("text") for block in list_of(content) if isinstance(block, Mapping))
    return "\n\n".join(text for text in texts if isinstance(text, str) and text)


def blocks_of(content: object) -> list[Any]:
    """The blocks of some content; a text is one block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list_of(content)


def _assistant(blocks: Sequence[Block], tools: Tools) -> Iterator[Message]:
    message: Message = {}
    texts, thoughts = [], []
    for block in blocks:
        match block.get("type"):
            case "text":
                texts.append(str(block.get("text") or ""))
            case "thinking" | "redacted_thinking":
                thoughts.append(str(block.get("thinking") or ""))
                for name, known in unsealed(block.get("signature") or block.get("data")).items():
                    message[name] = [*message.get(name, ()), *known]
            case "tool_use" if block.get("name"):
                arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
                function = {"name": tools.function(str(block.get("name") or "")), "arguments": arguments}
                call = {"id": str(block.get("id") or ""), "type": "function", "function": function}
                message.setdefault("tool_calls", []).append(call)
    if reasoning := "\n\n".join(filter(None, thoughts)):
        message["reasoning_content"] = reasoning
    text = "".join(texts)
    if text or "tool_calls" in message:
        yield {"role": "assistant", "content": text or None, **message}


def _user(blocks: Sequence[Block]) -> Iterator[Message]:
    """The results of tools, then the user's own message with the images among the results."""
    parts: list[dict[str, Any]] = []
    for block in blocks:
        if block.get("type") != "tool_result":
            parts += _parts([block])
            continue
        content = block.get("content")
        given = _parts(blocks_of(content))
        text = "\n\n".join(part["text"] for part in given if part["type"] == "text")
        if block.get("is_error"):
            text = f"Error: {text}"
        yield {"role": "tool", "tool_call_id": str(block.get("tool_use_id") or ""), "content": text}
        parts += [part for part in given if part["type"] != "text"]
    if all(part["type"] == "text" for part in parts):
        if text := "\n\n".join(part["text"] for part in parts):
            yield {"role": "user", "content": text}
    else:
        yield {"role": "user", "content": parts}


def _parts(blocks: Sequence[Any]) -> list[dict[str, Any]]:
    return [part for block in blocks if isinstance(block, Mapping) for part in _part(block)]


def _part(block: Block) -> Iterator[dict[str, Any]]:
    source = block.get("source")
    source = source if isinstance(source, Mapping) else {}
    match block.get("type"):
        case "text":
            yield {"type": "text", "text": str(block.get("text") or "")}
        case "image":
            yield _image(source)
        case "document":
            yield from _document(block, source)
        case "tool_reference":  # a search among tools, which all models have anyway
            yield {"type": "text", "text": f"[the tool {block.get('tool_name')} is available]"}
        case "search_result":
            head = "\n".join(str(block[name]) for name in ("title", "source") if isinstance(block.get(name), str))
            yield {"type": "text", "text": f"{head}\n{text_of(block.get('content'))}"}


def _image(source: Block) -> dict[str, Any]:
    if source.get("type") == "base64":
        return {
            "type": "image_url",
            "image_url": {"url": f"data:{source.get('media_type')};base64,{source.get('data')}"},
        }
    if isinstance(source.get("url"), str):
        return {"type": "image_url", "image_url": {"url": source["url"]}}
    return {"type": "text", "text": "[an image that is stored elsewhere]"}


def _document(block: Block, source: Block) -> Iterator[dict[str, Any]]:
    names = [block[name] for name in ("title", "context") if isinstance(block.get(name), str)]
    match source.get("type"):
        case "text":
            yield {"type": "text", "text": "\n".join([*names, str(source.get("data") or "")])}
        case "content":
            content = source.get("content")
            yield from ({"type": "text", "text": name} for name in names)
            yield from _parts(blocks_of(content))
        case "base64":
            data = f"data:{source.get('media_type')};base64,{source.get('data')}"
            yield {"type": "file", "file": {"filename": names[0] if names else "document.pdf", "file_data": data}}
        case _:
            place = source.get("url") or source.get("file_id")
            yield {"type": "text", "text": "\n".join([*names, f"[a document at {place}]"])}


def tools_of(tools: Sequence[Mapping[str, Any]]) -> Tools:
    """The tools of a request.

    Raises:
        Refusal: 400, a tool is malformed.
    """
    result = Tools()
    for number, tool in enumerate(tools):
        if not str(tool.get("type") or "").startswith(RUN_BY_ANTHROPIC):
            check_tool(tool, "input_schema", f"tools[{number}]")
            result.add(Origin(tool["name"]), _described(tool))
    return result


def _described(tool: Mapping[str, Any]) -> dict[str, Any]:
    description = tool.get("description")
    return {
        **({"description": description} if description else {}),
        "parameters": tool.get("input_schema") or {"type": "object"},
        **({"strict": True} if tool.get("strict") is True else {}),
    }


def choice_of(choice: Mapping[str, Any] | None, tools: Tools) -> object:
    """``tool_choice`` in the form of Chat Completions.

    Raises:
        Refusal: 400, there is no such choice.
    """
    if choice is None:
        return None
    kind, name = choice.get("type"), choice.get("name")
    if kind == "tool" and isinstance(name, str):
        return {"type": "function", "function": {"name": tools.function(name)}}
    if kind not in CHOICES:
        what = "'tool_choice' must have a 'type': auto, any, none, or tool, which needs a 'name'"
        raise Refusal(400, what, param="tool_choice")
    return CHOICES[kind]
