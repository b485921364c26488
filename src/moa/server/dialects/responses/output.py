"""The items of a response's output while they are written: reasoning, a message, a tool call.

Each item gives the events that open it, add to it and close it. Clients such as Codex read the closing event only
(``response.output_item.done``), so an item is whole there.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moa.server.dialects.functions import Tools
from moa.server.dialects.responses.tools import arguments_in, call_item, input_of
from moa.server.dialects.seal import Sealed

Event = dict[str, Any]
"""An event of the stream, without ``sequence_number``, ``output_index`` and ``item_id``."""


class Reasoning:
    """What the panel proposed and what the answering model thought, as a reasoning item with one summary.

    Attributes:
        id: the item's ID.
        blocks: a vendor's own blocks of reasoning, which the client sends back unread.
    """

    def __init__(self, number: str) -> None:
        self.id = f"rs_{number}"
        self._text: list[str] = []
        self.blocks = Sealed()

    def item(self, status: str = "completed") -> dict[str, Any]:
        text = "".join(self._text)
        summary = [{"type": "summary_text", "text": text}] if text else []
        seal = {"encrypted_content": str(self.blocks)} if self.blocks else {}
        return {"id": self.id, "type": "reasoning", "status": status, "summary": summary, **seal}

    def add(self, text: str) -> Iterator[Event]:
        if not text:
            return
        if not self._text:
            part = {"type": "summary_text", "text": ""}
            yield {"type": "response.reasoning_summary_part.added", "summary_index": 0, "part": part}
        self._text.append(text)
        yield {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": text}

    def closing(self) -> Iterator[Event]:
        if self._text:
            text = "".join(self._text)
            part = {"type": "summary_text", "text": text}
            yield {"type": "response.reasoning_summary_text.done", "summary_index": 0, "text": text}
            yield {"type": "response.reasoning_summary_part.done", "summary_index": 0, "part": part}


class Message:
    """The answer's text, or its refusal, as a message with one part for each."""

    def __init__(self, number: str) -> None:
        self.id = f"msg_{number}"
        self._parts: list[tuple[str, list[str]]] = []
        self._logprobs: list[Any] = []
        self._annotations: list[Any] = []

    def item(self, status: str = "completed") -> dict[str, Any]:
        content = [self._part(kind, "".join(pieces)) for kind, pieces in self._parts]
        return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content}

    def add(self, text: str, logprobs: Sequence[Any] = (), *, before: str = "") -> Iterator[Event]:
        """Add to the text; ``before`` is shown in front of it while it streams, and is no part of the item."""
        yield from self._add("output_text", text, before, {"logprobs": [*logprobs]})
        self._logprobs += logprobs

    def refuse(self, text: str) -> Iterator[Event]:
        yield from self._add("refusal", text, "", {})

    def annotate(self, annotations: Sequence[Any]) -> None:
        """Add citations, in the form of Chat Completions."""
        for each in annotations:
            if isinstance(each, Mapping) and isinstance(cited := each.get(str(each.get("type"))), Mapping):
                self._annotations.append({"type": each["type"], **cited})

    def take_back(self, characters: int) -> None:
        """The end of the text was no part of the answer: the closing events do not have it."""
        for kind, pieces in reversed(self._parts):
            if kind == "output_text":
                text = "".join(pieces)
                pieces[:] = [text[: max(0, len(text) - characters)]]
                return

    def closing(self) -> Iterator[Event]:
        for index, (kind, pieces) in enumerate(self._parts):
            text = "".join(pieces)
            part = self._part(kind, text)
            done: Event = {"content_index": index}
            if kind == "refusal":
                yield {"type": "response.refusal.done", **done, "refusal": text}
            else:
                yield {"type": "response.output_text.done", **done, "text": text, "logprobs": part["logprobs"]}
            yield {"type": "response.content_part.done", **done, "part": part}

    def _add(self, kind: str, text: str, before: str, fields: Mapping[str, Any]) -> Iterator[Event]:
        if not self._parts or self._parts[-1][0] != kind:
            self._parts.append((kind, []))
            place = {"content_index": len(self._parts) - 1}
            yield {"type": "response.content_part.added", **place, "part": self._part(kind, "", empty=True)}
        self._parts[-1][1].append(text)
        place = {"content_index": len(self._parts) - 1}
        yield {"type": f"response.{kind}.delta", **place, "delta": before + text, **fields}

    def _part(self, kind: str, text: str, *, empty: bool = False) -> dict[str, Any]:
        if kind == "refusal":
            return {"type": kind, "refusal": text}
        annotations, logprobs = ([], []) if empty else (self._annotations, self._logprobs)
        return {"type": kind, "text": text, "annotations": annotations, "logprobs": logprobs}


class ToolCall:
    """A call of one of the client's tools.

    Args:
        number: makes the item's ID.
        first: the first piece of the call, with its ID and name.
        tools: the request's.
    """

    def __init__(self, number: str, first: Mapping[str, Any], tools: Tools) -> None:
        self._head, self._arguments = call_item(first, tools), [""]
        self.id = f"{'fc' if self._is_function else 'ctc'}_{number}"

    @property
    def _is_function(self) -> bool:
        return bool(self._head["type"] == "function_call")

    def item(self, status: str = "completed") -> dict[str, Any]:
        return {"id": self.id, "status": status, **self._head, **self._input("".join(self._arguments))}

    def add(self, piece: Mapping[str, Any]) -> Iterator[Event]:
        if delta := arguments_in(piece):
            self._arguments.append(delta)
            if self._is_function:
                yield {"type": "response.function_call_arguments.delta", "delta": delta}

    def closing(self) -> Iterator[Event]:
        fields = self._input("".join(self._arguments))
        if self._is_function:
            yield {"type": "response.function_call_arguments.done", "name": self._head["name"], **fields}
        else:
            # Until here the input was inside a JSON string.
            yield {"type": "response.custom_tool_call_input.delta", "delta": fields["input"]}
            yield {"type": "response.custom_tool_call_input.done", **fields}

    def _input(self, arguments: str) -> dict[str, str]:
        return {"arguments": arguments} if self._is_function else {"input": input_of(arguments)}


Item = Reasoning | Message | ToolCall
