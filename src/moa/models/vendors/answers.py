"""One answer of a vendor: events of ``pydantic-ai`` in, deltas out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from moa.errors import StreamBroken
from moa.finish_reasons import COMPLETE, finish_reason_of, is_known
from moa.messages import Delta, Request, Usage, estimated_tokens
from moa.models.tool_calls import ToolCallReader, ends_early
from moa.models.vendors.requests import arguments_of, custom_tools
from moa.prices import Prices

if TYPE_CHECKING:
    from pydantic_ai.models import StreamedResponse


class AnswerReader:
    """Reads one answer.

    Attributes:
        stream: what ``pydantic-ai`` has collected so far; None before the answer is opened.
        began: whether there was any text, reasoning or tool call.
        first_call: the ID of the first tool call; empty where there is none.
    """

    def __init__(self, model: str, request: Request) -> None:
        self.began = False
        self.stream: StreamedResponse | None = None
        self._model, self._request = model, request
        self._calls = ToolCallReader(request)
        self.first_call = ""
        self._places = dict[int, int]()  # the index of a tool call by that of its part
        self._custom = custom_tools(request)
        self._inputs = dict[int, list[str]]()  # the arguments of custom tools' calls by the index of their part
        self._begun = dict[int, Mapping[str, Any]]()  # these calls without their input
        self._said: list[str] = []

    def read(self, event: Any) -> Delta | None:
        """The delta of an event; None where it holds nothing of the answer."""
        piece = getattr(event, "part" if event.event_kind == "part_start" else "delta", None)
        if event.event_kind not in ("part_start", "part_delta") or piece is None:
            return None
        kind = getattr(piece, "part_kind", None) or piece.part_delta_kind
        text = getattr(piece, "content" if event.event_kind == "part_start" else "content_delta", None) or ""
        calls: tuple[Mapping[str, Any], ...] = ()
        if kind.replace("_", "-") == "tool-call":
            calls, text = self._call(event.index, piece), ""
        delta = Delta(
            text=text if kind == "text" else "", reasoning=text if kind == "thinking" else "", tool_calls=calls
        )
        self.began = self.began or delta.speaks
        self._said.append(
            delta.text + delta.reasoning + "".join(each["function"].get("arguments", "") for each in calls)
        )
        return delta if delta.speaks else None

    def _call(self, index: int, piece: Any) -> tuple[Mapping[str, Any], ...]:
        place = self._places.setdefault(index, len(self._places))
        started = hasattr(piece, "part_kind")
        function = {
            "name": piece.tool_name if started else piece.tool_name_delta,
            "arguments": arguments_of(piece.args if started else piece.args_delta),
        }
        if not started and not function["name"] and not function["arguments"]:
            return ()
        self.first_call = self.first_call or piece.tool_call_id or ""
        if index in self._inputs or (started and function["name"] in self._custom):
            self._begun.setdefault(index, {"index": place, "id": piece.tool_call_id, "name": function["name"]})
            self._inputs.setdefault(index, []).append(function["arguments"])
            self.began = True
            return ()
        raw = {"index": place, "id": piece.tool_call_id, "type": "function", "function": function}
        return tuple(self._calls.read([raw]))

    def end(self) -> Delta:
        """The stream has ended: the finish reason, and what completes the tool calls.

        Raises:
            StreamBroken: there is no finish reason, or one that means no end, or a tool call is not whole.
        """
        assert self.stream is not None
        name, response = self._model, self.stream.get()
        reason = finish_reason_of((response.provider_details or {}).get("finish_reason") or response.finish_reason)
        if reason is None:
            raise StreamBroken(name, "the answer ended without a finish reason")
        if not is_known(reason):
            raise StreamBroken(name, f"the answer broke off: its server ended it with the reason {reason!r}")
        custom = [piece for index in self._inputs for piece in self._calls.read([self._custom_call(index)])]
        rest = (*custom, *self._calls.rest(complete=reason in COMPLETE))
        if reason in COMPLETE:
            if half := self._calls.half:
                raise StreamBroken(name, f"the answer broke off: {half}")
            reason = "tool_calls" if self._calls else "stop"
        refusal = (response.provider_details or {}).get("refusal")
        return Delta(tool_calls=rest, finish_reason=reason, extra={"refusal": str(refusal)} if refusal else None)

    def _custom_call(self, index: int) -> dict[str, Any]:
        """A custom tool's call, whose input a vendor gives as an argument.

        Raises:
            StreamBroken: the input is not whole.
        """
        arguments, begun = "".join(self._inputs[index]), self._begun[index]
        if ends_early(arguments):
            raise StreamBroken(
                self._model, f"the answer broke off: {begun['name']!r} is called in the middle of its input"
            )
        custom = {"name": begun["name"], "input": _input_in(arguments)}
        return {"index": begun["index"], "id": begun["id"], "type": "custom", "custom": custom}

    def bill(self, prices: Prices) -> Delta:
        """The usage as reported, or estimated; the cost too where some input was written to the vendor's cache."""
        spent = self.stream.usage if self.stream else None
        if spent is None or not (spent.input_tokens or spent.output_tokens):
            prompt, said = self._request.tokens, estimated_tokens("".join(self._said))
            return Delta(usage=Usage(prompt, said, estimated=True))
        thought = (
            spent.output_reasoning_tokens
            or spent.details.get("reasoning_tokens")
            or spent.details.get("thoughts_tokens")
        )
        usage = Usage(
            spent.input_tokens, spent.output_tokens, spent.cache_read_tokens, min(thought or 0, spent.output_tokens)
        )
        if not spent.cache_write_tokens:
            return Delta(usage=usage)
        cost = prices.price(self._model, usage, cache_write_tokens=spent.cache_write_tokens)
        return Delta(usage=usage, cost=None if cost.dollars is None else cost)


def _input_in(arguments: str) -> str:
    """The text in ``{"input": …}``; arguments of another form as they are."""
    try:
        given = json.loads(arguments)["input"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return arguments
    return given if isinstance(given, str) else arguments
