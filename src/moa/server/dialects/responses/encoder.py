"""The answer to a Responses request: one object, or events that build it.

https://platform.openai.com/docs/api-reference/responses/object and …/responses-streaming
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from moa.messages import Delta, Usage
from moa.server.connection import COMMENT
from moa.server.dialects.dialect import Result, moa_object, usage_of
from moa.server.dialects.functions import Tools
from moa.server.dialects.responses.output import Event, Item, Message, Reasoning, ToolCall
from moa.server.dialects.seal import has_blocks
from moa.server.encoding import event_frame, json_bytes
from moa.server.failures import Refusal

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of answers that end early, as ``incomplete_details.reason``."""


NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
}
"""The fields of Chat Completions that have another name here."""


class ResponsesEncoder:
    """See :class:`~moa.server.dialects.dialect.Encoder`.

    Args:
        model: as the request names it.
        echo: fields of the request that the response repeats.
        tools: the request's.
        explain: send the attribution.
    """

    def __init__(self, model: str, echo: Mapping[str, Any], tools: Tools, *, explain: bool = False) -> None:
        self._model, self._echo, self._tools, self._explain = model, echo, tools, explain
        self._run_id, self._created = "", 0
        self._opened = False
        self._events = 0
        self._items: list[Item] = []
        self._open = set[int]()
        self._statuses = dict[int, str]()
        self._current: int | None = None
        self._calls: dict[int, tuple[int, ToolCall]] = {}

    def start(self, run_id: str, at: float | None = None) -> None:
        self._run_id, self._created = run_id, int(at or time.time())

    def keep_alive(self) -> bytes:
        if not self._run_id:
            return COMMENT
        return self._opening() or self._frames([self._lifecycle("response.in_progress", "in_progress")])

    def progress(self, text: str, index: int) -> bytes:
        return self._opening() + self._frames(self._reason(text, {}))

    def delta(self, delta: Delta, index: int) -> bytes:
        return self._opening() + self._frames(self._added(delta))

    def end(self, results: Sequence[Result]) -> bytes:
        return self._opening() + self._frames(self._ended(results))

    def error(self, refusal: Refusal) -> bytes:
        # SDKs raise on the first event, Codex reads the second. OpenAI's servers send both.
        refusal = refusal.about(NAMES)
        fields = {"type": refusal.kind, "code": refusal.code, "message": refusal.message, "param": refusal.param}
        error = {"code": refusal.code or "server_error", "message": refusal.message}
        self._statuses |= dict.fromkeys(self._open, "incomplete")
        failed = self._lifecycle("response.failed", "failed", error=error)
        return self._opening() + self._frames([{**fields, "type": "error", "error": fields}, failed])

    def whole(self, results: Sequence[Result]) -> bytes:
        answer, extra = results[0].answer, results[0].extra
        calls = tuple({**call, "index": index} for index, call in enumerate(answer.tool_calls))
        delta = Delta(reasoning=answer.reasoning, text=answer.text, tool_calls=calls, extra=extra)
        *_, last = [*self._added(delta), *self._ended(results)]
        return json_bytes(last["response"])

    def unfinished(self, status: str, **fields: Any) -> bytes:
        """The body of a response without an answer."""
        return json_bytes(self._lifecycle("", status, **fields)["response"])

    def _opening(self) -> bytes:
        """The first events of the stream; nothing when they were sent."""
        if self._opened:
            return b""
        self._opened = True
        first = ("response.created", "response.in_progress")
        return self._frames(self._lifecycle(event, "in_progress") for event in first)

    def _frames(self, events: Iterable[Event]) -> bytes:
        frames = []
        for event in events:
            frames.append(event_frame({**event, "sequence_number": self._events}))
            self._events += 1
        return b"".join(frames)

    def _added(self, delta: Delta) -> Iterator[Event]:
        """The events of one piece of the answer."""
        extra = delta.extra or {}
        if delta.reasoning or has_blocks(extra):
            yield from self._reason(delta.reasoning, extra)
        before = ""
        if delta.thought and isinstance(message := self._last, Message):
            message.take_back(delta.thought)
            before = "\n\n"
        if delta.text:
            logprobs = (extra.get("logprobs") or {}).get("content") or ()
            yield from self._say(lambda message: message.add(delta.text, logprobs, before=before))
        if isinstance(refusal := extra.get("refusal"), str) and refusal:
            yield from self._say(lambda message: message.refuse(refusal))
        if isinstance(self._last, Message) and isinstance(annotations := extra.get("annotations"), list):
            self._last.annotate(annotations)
        for piece in delta.tool_calls:
            yield from self._call(piece)

    @property
    def _last(self) -> Reasoning | Message | None:
        """The reasoning or the message that is being written."""
        item = None if self._current is None else self._items[self._current]
        return None if isinstance(item, ToolCall) else item

    def _reason(self, text: str, extra: Mapping[str, Any]) -> Iterator[Event]:
        item = self._last
        if not isinstance(item, Reasoning):
            item = Reasoning(self._next_id)
            yield from self._begun(item)
        item.blocks.add(extra)
        yield from self._placed(self._current, item.add(text))

    def _say(self, write: Callable[[Message], Iterator[Event]]) -> Iterator[Event]:
        item = self._last
        if not isinstance(item, Message):
            item = Message(self._next_id)
            yield from self._begun(item)
        yield from self._placed(self._current, write(item))

    def _call(self, piece: Mapping[str, Any]) -> Iterator[Event]:
        """Add to a call; calls stay open to the end, since their pieces may take turns."""
        index = int(piece.get("index") or 0)
        if index not in self._calls:
            call = ToolCall(self._next_id, piece, self._tools)
            yield from self._begun(call)
            self._calls[index] = (len(self._items) - 1, call)
        place, call = self._calls[index]
        yield from self._placed(place, call.add(piece))

    @property
    def _next_id(self) -> str:
        return f"{self._run_id}_{len(self._items)}"

    def _begun(self, item: Item) -> Iterator[Event]:
        """Close the reasoning or message that is open, and open an item."""
        yield from self._closed()
        place = len(self._items)
        self._items.append(item)
        self._open.add(place)
        self._current = None if isinstance(item, ToolCall) else place
        yield {"type": "response.output_item.added", "output_index": place, "item": item.item("in_progress")}

    def _placed(self, place: int | None, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            yield {**event, "output_index": place, "item_id": self._items[place or 0].id}

    def _closed(self, places: Iterable[int] | None = None, status: str = "completed") -> Iterator[Event]:
        """Close the items in these places; without places, the reasoning or message that is open."""
        if places is None:
            places = () if self._current is None else (self._current,)
        for place in places:
            item = self._items[place]
            yield from self._placed(place, item.closing())
            yield {"type": "response.output_item.done", "output_index": place, "item": item.item(status)}
            self._open.discard(place)
            self._statuses[place] = status

    def _ended(self, results: Sequence[Result]) -> Iterator[Event]:
        answer = results[0].answer
        reason = INCOMPLETE.get(answer.finish_reason or "")
        status = "incomplete" if reason else "completed"
        if not any(isinstance(item, Message | ToolCall) for item in self._items):
            yield from self._say(lambda message: message.add(""))
        yield from self._closed(sorted(self._open), status)
        yield self._lifecycle(
            f"response.{status}",
            status,
            incomplete_details={"reason": reason} if reason else None,
            completed_at=None if reason else int(time.time()),
            usage=_usage(usage_of(results)),
            moa=moa_object(results, explain=self._explain),
        )

    def _lifecycle(self, event: str, status: str, **fields: Any) -> Event:
        """An event with the whole response as it is now."""
        response = {
            "id": f"resp_{self._run_id}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": [item.item(self._statuses.get(place, "in_progress")) for place, item in enumerate(self._items)],
            "usage": None,
            **self._echo,
            **fields,
        }
        return {"type": event, "response": response}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
