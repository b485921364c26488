"""The input of a Responses request as messages of Chat Completions.

Items of one turn of the model (its reasoning, its message, its calls) become one assistant message, as Chat Completions has
it. Items that mean nothing to a model here (references to stored items, results of tools that OpenAI runs) are passed over.

https://platform.openai.com/docs/api-reference/responses/create (``input``)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from moa.server.dialects.conversation import check_message, list_of
from moa.server.dialects.functions import Tools
from moa.server.dialects.responses.tools import arguments_of
from moa.server.dialects.seal import unsealed

Item = Mapping[str, Any]
Message = dict[str, Any]

REFERENCE = re.compile(r"(?:msg|rs|fc|ctc)_([0-9a-f]{32})_[0-9]+")
"""The ID of an item of a response of this server, which holds the run's."""

REFERRED = "moa_run"
"""The field of an assistant's message that stands for the answer of a run, until the run is read."""

ROLES = ("assistant", "developer", "system", "user")


def messages_of(items: str | Sequence[Item], instructions: object, tools: Tools) -> list[Message]:
    """The messages of a request; ``instructions`` come first, as a system message."""
    conversation = Conversation(tools)
    if isinstance(instructions, str) and instructions:
        conversation.messages.append({"role": "system", "content": instructions})
    elif isinstance(instructions, list):
        conversation.add_all(instructions, "instructions")
    if isinstance(items, str):
        conversation.messages.append({"role": "user", "content": items})
    else:
        conversation.add_all(items, "input")
    return conversation.end()


class Conversation:
    """Collects messages, item by item."""

    def __init__(self, tools: Tools) -> None:
        self.messages: list[Message] = []
        self._tools = tools
        self._turn: Message | None = None
        self._images: list[Item] = []

    def add_all(self, items: Sequence[Item], field: str) -> None:
        """Add the items in a field of the request.

        Raises:
            RequestRejected: an item is malformed.
        """
        for number, item in enumerate(items):
            self._add(item, f"{field}[{number}]")

    def end(self) -> list[Message]:
        self._end_turn()
        self._end_results()
        return self.messages

    def _add(self, item: Item, place: str) -> None:
        kind = item.get("type") or ("message" if "role" in item else "")
        if kind == "message" and item.get("role") == "tool":  # some clients mix both APIs
            self._add_result({"call_id": item.get("tool_call_id"), "output": item.get("content")})
        elif kind == "message":
            check_message(item, place, ROLES)
            self._add_message(item)
            for call in list_of(item.get("tool_calls")):
                function = call.get("function") if isinstance(call, Mapping) else None
                if isinstance(function, Mapping) and item["role"] == "assistant":
                    self._add_call(call, function.get("name"), _arguments(function, "function_call"))
        elif kind == "reasoning":
            self._end_results()
            self._add_reasoning(item)
        elif kind in ("function_call", "custom_tool_call"):
            self._add_call(item, item.get("name"), _arguments(item, kind))
        elif isinstance(kind, str) and kind.endswith("_call") and isinstance(item.get("call_id"), str):
            self._add_call(
                item,
                kind.removesuffix("_call"),
                json.dumps(item.get("action") or item.get("operation") or item.get("arguments") or {}),
            )
        elif isinstance(kind, str) and kind.endswith("_output"):
            self._add_result(item)
        elif kind == "item_reference" and (known := REFERENCE.fullmatch(str(item.get("id")))):
            self._end_results()
            self._end_turn()
            self.messages.append({"role": "assistant", "content": None, REFERRED: known[1]})

    def _add_message(self, item: Item) -> None:
        self._end_results()
        role = item.get("role")
        content = parts_of(item.get("content"), "" if role == "assistant" else "\n\n")
        if role != "assistant":
            self._end_turn()
            self.messages.append({"role": role, "content": content})
            return
        if self._turn is not None and ("content" in self._turn or "tool_calls" in self._turn):
            self._end_turn()
        self._turn = {**(self._turn or {"role": "assistant"}), "content": content}

    def _add_reasoning(self, item: Item) -> None:
        if self._turn is not None and ("content" in self._turn or "tool_calls" in self._turn):
            self._end_turn()
        turn = self._turn = self._turn or {"role": "assistant"}
        texts = [
            str(part.get("text") or "")
            for name in ("summary", "content")
            for part in list_of(item.get(name))
            if isinstance(part, Mapping)
        ]
        for name, blocks in unsealed(item.get("encrypted_content")).items():
            turn[name] = [*turn.get(name, ()), *blocks]
        if text := "\n\n".join(filter(None, texts)):
            known = turn.get("reasoning_content")
            turn["reasoning_content"] = f"{known}\n\n{text}" if known else text

    def _add_call(self, item: Item, name: object, arguments: str) -> None:
        self._end_results()
        call_id, namespace = item.get("call_id") or item.get("id"), item.get("namespace")
        if not isinstance(call_id, str) or not isinstance(name, str) or not name:
            return
        function = self._tools.function(name, namespace if isinstance(namespace, str) else None)
        turn = self._turn = self._turn or {"role": "assistant"}
        call = {"id": call_id, "type": "function", "function": {"name": function, "arguments": arguments}}
        turn.setdefault("tool_calls", []).append(call)

    def _add_result(self, item: Item) -> None:
        self._end_turn()
        call_id, content = item.get("call_id"), parts_of(_output(item))
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        text = "\n\n".join(part["text"] for part in parts if part["type"] == "text")
        images = [part for part in parts if part["type"] != "text"]
        if isinstance(call_id, str) or text:
            self.messages.append({"role": "tool", "tool_call_id": str(call_id or ""), "content": text})
        self._images += images

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None and (turn.get("content") or "tool_calls" in turn):
            self.messages.append({**turn, "content": turn.get("content") or None})

    def _end_results(self) -> None:
        """Images of results follow them in a message of the user: a tool's message holds text only."""
        if self._images:
            self.messages.append({"role": "user", "content": self._images})
            self._images = []


def parts_of(content: object, separator: str = "\n\n") -> str | list[dict[str, Any]]:
    """The content of a message: a text where all parts are texts, which every server takes."""
    if isinstance(content, str):
        return content
    parts = [part for each in list_of(content) if isinstance(each, Mapping) and (part := _part(each))]
    if all(part["type"] == "text" for part in parts):
        return separator.join(part["text"] for part in parts)
    return parts


def _part(part: Item) -> dict[str, Any] | None:
    match part.get("type"):
        case "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text":
            return {"type": "text", "text": str(part.get("text") or "")}
        case "refusal":
            return {"type": "text", "text": str(part.get("refusal") or "")}
        case "input_image" | "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, Mapping) else image
            if not isinstance(url, str):
                return {"type": "text", "text": "[an image that is stored elsewhere]"}
            detail = {"detail": part["detail"]} if isinstance(part.get("detail"), str) else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case "input_file" | "file":
            names = ("file_data", "filename", "file_id")
            return {"type": "file", "file": {name: part[name] for name in names if isinstance(part.get(name), str)}}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
    return None


def _arguments(item: Item, kind: str) -> str:
    if kind == "custom_tool_call":
        return arguments_of(str(item.get("input") or ""))
    arguments = item.get("arguments")
    return arguments if isinstance(arguments, str) else json.dumps(arguments or {})


def _output(item: Item) -> object:
    """What a result holds: a text, parts, or what a shell wrote."""
    output = item.get("output")
    if output is None:
        return json.dumps(item["tools"]) if item.get("tools") else str(item.get("status") or "")
    if isinstance(output, list) and any(isinstance(each, Mapping) and "stdout" in each for each in output):
        return json.dumps(output)
    return output if isinstance(output, str | list) else json.dumps(output)
