"""The chunks of a Chat Completions answer: events in, deltas out.

Notable decisions:
- Servers omit, null and add different fields. A chunk without content is skipped; only data that is no chunk at all ends
  the answer.
- Fields of a choice that this project does not read pass through in ``extra``.
- ``[DONE]`` after text or tool calls ends the answer even without a finish reason: some servers send no reasons. A stream
  that merely stops is broken.
- A complete reason beside reasoning, before any text, may end the reasoning alone; it counts once the stream has ended.
- Usage is held back until the end, since some servers report it in every chunk.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from moa.answers import INSTEAD_OF_TEXT
from moa.errors import ModelError, StreamBroken
from moa.finish_reasons import COMPLETE, finish_reason_of, is_known
from moa.messages import Call, Cost, Delta, Request, Usage, estimated_tokens, text_of
from moa.models.refusals import broken_by, message_of
from moa.models.remote_calls import calls_in
from moa.models.sse import ServerEvent
from moa.models.tool_calls import ToolCallReader, ends_early
from moa.models.usage import Bill, bill_in, finite

_READ_OF_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "error", "usage"})
_READ_OF_DELTA = frozenset({"role", "content", "reasoning_content", "reasoning", "tool_calls"})
_OF_RESPONSE = ("service_tier", "system_fingerprint")
"""Fields of a chunk that say which tier and which build answered. They pass through once, with the first delta."""

_OF_ANSWER = INSTEAD_OF_TEXT | {"logprobs", "reasoning_details", "thinking_blocks"}
"""Unread fields that a model's own words are in. Others may be a server's, with what it knows of the call."""


class AnswerReader:
    """Reads one answer: chunks in, deltas out, and the totals so far.

    Attributes:
        finish_reason: as reported so far.
        began: whether there was any text, reasoning or tool call.
        done: whether ``[DONE]`` arrived.
    """

    def __init__(self, model: str, request: Request, redacted: Callable[[Any], Any] = lambda value: value) -> None:
        """
        Args:
            model: its name, for errors.
            request: the request that is answered.
            redacted: takes a JSON value of the server's and returns it without secrets.
        """
        self.finish_reason: str | None = None
        self.began = self.done = False
        self._model, self._request, self._redacted = model, request, redacted
        self._bill = Bill()
        self._calls: tuple[Call, ...] = ()
        self._output: list[str] = []  # for an estimate of the usage
        self._tool_calls = ToolCallReader(request)
        self._function_call: list[str] = []  # its arguments; https://platform.openai.com/docs/api-reference/chat/object
        self._has_text = self._has_function_call = self._has_deltas = False
        self._of_response: dict[str, Any] | None = {}  # None once a delta had them
        self._pending_reason: str | None = None
        self._complaint: object = None  # data with a message and without choices: an error, if no answer comes
        self._broken: str | None = None  # a finish reason that means neither complete nor cut

    def deltas(self, events: Iterable[ServerEvent]) -> Iterator[Delta]:
        """The deltas of chunks that arrived together. Adjacent texts among them become one delta: every delta costs time in
        every fold and sink, and a reader gains nothing from receiving these apart.

        Raises:
            ModelError: as :meth:`read`, after the deltas before it.
        """
        merged: Delta | None = None
        try:
            for event in events:
                if event.data.strip() == "[DONE]":
                    self.done = True
                    continue
                if self.done:
                    self.read_late(event)
                    continue
                delta = self.read(event)
                if delta is None:
                    continue
                if merged is not None and _only_text(merged) and _only_text(delta):
                    merged = Delta(merged.text + delta.text)
                    continue
                if merged is not None:
                    yield merged
                merged = delta
        except ModelError:
            if merged is not None:
                yield merged
            raise
        if merged is not None:
            yield merged
        if self.done:
            yield from self.end()

    def end(self) -> Iterator[Delta]:
        """The stream has ended: the finish reason, where the chunks left it open.

        Raises:
            StreamBroken: there is none, or a tool call is not whole.
        """
        if self.finish_reason is not None:
            return
        reason = self._pending_reason
        if reason is None and self.done and (self._has_text or self._tool_calls or self._has_function_call):
            reason = "stop"
        if reason is None and self._complaint is not None and not self.began:
            raise self._failure(self._complaint)
        if reason is None:
            raise StreamBroken(self._model, "the answer ended without a finish reason")
        self._pending_reason = None
        yield Delta(tool_calls=tuple(self._finish(reason)), finish_reason=self.finish_reason)

    def read(self, event: ServerEvent) -> Delta | None:
        """The delta of a chunk; None where the chunk is empty.

        Raises:
            ModelError: the event is an error, or not a chunk.
        """
        if not event.data:
            return None
        try:
            chunk = json.loads(event.data)
            error = chunk.get("error") or ((event.name == "error" or chunk.get("object") == "error") and chunk)
            if not error:
                choice = _first(chunk.get("choices") or ())
                self._bill = self._bill.updated(bill_in(chunk, choice))
                if "moa" in chunk:
                    self._calls = calls_in(chunk)
                if self._of_response is not None:
                    self._of_response |= {
                        name: chunk[name] for name in _OF_RESPONSE if isinstance(chunk.get(name), str)
                    }
                if not choice and message_of(chunk):
                    self._complaint = chunk
                error = choice.get("error")
                if not error:
                    delta = self._delta(choice, self._message(choice))
                    if self._broken is None:
                        return delta
                    error = f"its server ended it with the reason {self._broken!r}"
        except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
            # Whatever shape the server invented, it is not the API's.
            error = event.data if event.name == "error" else f"it sent data that is not part of an answer: {event.data}"
        raise self._failure(error)

    def _message(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a chunk adds. Some servers stream deltas, and repeat the whole message in the last chunk, or in each."""
        delta: Mapping[str, Any] = choice.get("delta") or {}
        self._has_deltas = self._has_deltas or bool(delta)
        return delta if self._has_deltas else choice.get("message") or {}

    def _delta(self, choice: Mapping[str, Any], message: Mapping[str, Any]) -> Delta | None:
        text = message.get("content") or ""
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
        if not isinstance(reasoning, str):
            reasoning = ""
        parts: dict[str, Any] = {}
        if not isinstance(text, str):
            text, thinking, parts = _parts_of(text)
            reasoning += thinking
        tool_calls = tuple(self._tool_calls.read(message["tool_calls"])) if message.get("tool_calls") else ()
        extra = parts or None
        for fields, read in ((choice, _READ_OF_CHOICE), (message, _READ_OF_DELTA)):
            for key, value in fields.items():
                if key not in read and not _is_empty(value):
                    extra = {
                        **(extra or {}),
                        key: finite(value) if key in _OF_ANSWER else self._redacted(finite(value)),
                    }
        self._has_text = self._has_text or bool(text)
        if isinstance(function := (extra or {}).get("function_call"), Mapping):
            self._has_function_call = True
            self._function_call.append(str(function.get("arguments") or ""))
        finish_reason = None
        if (reported := finish_reason_of(choice.get("finish_reason"))) and not self.finish_reason:
            ends_reasoning = reported in COMPLETE and reasoning and not (self._has_text or self._tool_calls)
            if ends_reasoning:
                self._pending_reason = reported
            elif is_known(reported):
                tool_calls += self._finish(reported)
                finish_reason = self.finish_reason
            else:
                self._broken = reported
        if not (text or reasoning or tool_calls or finish_reason or extra):
            return None
        if self._of_response:
            extra, self._of_response = {**(extra or {}), **self._redacted(self._of_response)}, None
        delta = Delta(text, reasoning, tool_calls, finish_reason, extra=extra)
        self._output += (reasoning, text, *_texts(tool_calls))
        self.began = self.began or delta.speaks
        return delta

    def _finish(self, reason: str) -> tuple[Mapping[str, Any], ...]:
        """Set the finish reason; returns pieces that complete the tool calls.

        Raises:
            StreamBroken: the answer counts as complete, and a tool call is not whole.
        """
        rest = self._tool_calls.rest(complete=reason in COMPLETE)
        if reason in COMPLETE:
            half = self._tool_calls.half
            if ends_early("".join(self._function_call)):
                half = "a function call ends in the middle of its arguments"
            if half:
                raise StreamBroken(self._model, f"the answer broke off: {half}")
            reason = "function_call" if self._has_function_call else "stop"
            reason = "tool_calls" if self._tool_calls else reason
        self.finish_reason = reason
        return rest

    def _failure(self, error: object) -> ModelError:
        error = self._redacted(error)
        return broken_by(self._model, message_of(error), error, began=self.began)

    def read_late(self, event: ServerEvent) -> None:
        """Read the usage in a chunk that comes after ``[DONE]``; anything else in it is ignored."""
        with suppress(ValueError, TypeError, AttributeError, RecursionError):
            self._bill = self._bill.updated(bill_in(json.loads(event.data), {}))

    @property
    def usage(self) -> Usage | None:
        """The usage as reported so far."""
        return self._bill.usage

    def bill(self) -> Delta:
        """The usage and the calls as reported; what is missing is estimated from the prompt and the output so far."""
        bill, notice = self._bill, ""
        if bill.doubt:
            notice = f"{self._model} reports an impossible {bill.doubt}; its cost is unknown"
            bill = Bill(cost=Cost(None))
        prompt = estimated_tokens("".join(text_of(message) for message in self._request.messages))
        output = estimated_tokens("".join(self._output))
        usage = bill.usage
        if usage is None:
            usage = Usage(prompt, max(output, bill.total - prompt), estimated=True)
        elif not usage.input_tokens and prompt:
            usage = replace(usage, input_tokens=prompt, estimated=True)
        elif not usage.output_tokens and output:
            usage = replace(usage, output_tokens=output, estimated=True)
        return Delta(usage=usage, cost=bill.cost, calls=self._calls, notice=notice)


def _texts(pieces: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for piece in pieces:
        yield from (value for value in (piece.get("function") or {}).values() if isinstance(value, str))


def _only_text(delta: Delta) -> bool:
    return not (delta.reasoning or delta.tool_calls or delta.finish_reason or delta.extra)


def _first(choices: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    for choice in choices:
        if not choice.get("index"):
            return choice
    return {}


_TEXT = ("", "text", "output_text")
_REASONING = {"thinking": "thinking", "reasoning": "text", "reasoning_text": "text"}


def _parts_of(content: Any) -> tuple[str, str, dict[str, Any]]:
    """The text and the reasoning of a content in parts, and its refusal and images as fields of a message.

    https://docs.mistral.ai/capabilities/reasoning, https://openrouter.ai/docs/features/multimodal/image-generation
    """
    text, reasoning, refusal, images = "", "", "", []
    for part in [content] if isinstance(content, Mapping) else content:
        kind = "" if isinstance(part, str) else part.get("type") or ""
        if isinstance(part, str):
            text += part
        elif kind in _TEXT:
            text += part.get("text") or ""
        elif kind in _REASONING:
            inner = part.get(_REASONING[kind]) or ""
            reasoning += inner if isinstance(inner, str) else _parts_of(inner)[0]
        elif kind == "refusal":
            refusal += part.get("refusal") or ""
        elif kind == "image_url":
            images.append(part)
    fields = {"refusal": refusal, "images": images}
    return text, reasoning, {name: value for name, value in fields.items() if value}


def _is_empty(value: object) -> bool:
    """Whether a field says nothing, also by having only fields that say nothing: ``{"name": "", "arguments": null}``."""
    if isinstance(value, Mapping):
        return all(map(_is_empty, value.values()))
    return value is None or value in ("", [])
