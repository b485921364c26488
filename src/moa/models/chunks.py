"""The chunks of a Chat Completions answer: events in, deltas out.

Notable decisions:
- Servers differ in what they leave out, null or add. A chunk that says nothing is passed over; only what cannot be
  read as a chunk at all ends the answer.
- What this project does not read of a choice passes through in ``extra``.
- Usage is kept until the end, since some servers count in every chunk.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from moa.errors import ModelError, StreamBroken
from moa.messages import Cost, Delta, Request, Usage, estimated_tokens, text_of
from moa.models.refusals import refused, status_of
from moa.models.sse import ServerEvent

_READ_OF_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "error"})
_READ_OF_DELTA = frozenset({"role", "content", "reasoning_content", "reasoning", "tool_calls"})


class AnswerReader:
    """One answer as far as it has been read: chunks in, deltas out, and what they come to."""

    def __init__(self, model: str, words: Callable[[object], str]) -> None:
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.spoke = self.done = False
        self._model, self._words = model, words
        self._cost: Cost | None = None
        self._said: list[str] = []
        self._tool_calls = 0

    def deltas(self, events: Iterable[ServerEvent]) -> Iterator[Delta]:
        """The deltas of chunks that came together. Pieces of text among them are one: each delta costs its way through
        every fold and sink, and nobody can have seen the one before the other.

        Raises:
            ModelError: as :meth:`read`, after what was said before.
        """
        together: Delta | None = None
        try:
            for event in events:
                if event.data == "[DONE]":
                    self.done = True
                    break
                delta = self.read(event)
                if delta is None:
                    continue
                if together is not None and _only_text(together) and _only_text(delta):
                    together = Delta(together.text + delta.text)
                    continue
                if together is not None:
                    yield together
                together = delta
        except ModelError:
            if together is not None:
                yield together
            raise
        if together is not None:
            yield together

    def read(self, event: ServerEvent) -> Delta | None:
        """The delta of a chunk, None where it holds none.

        Raises:
            ModelError: the event is an error, or no chunk at all.
        """
        if not event.data:
            return None
        try:
            chunk = json.loads(event.data)
            error = chunk.get("error") or ((event.name == "error" or chunk.get("object") == "error") and chunk)
            if not error:
                if usage := chunk.get("usage"):
                    self.usage, self._cost = _usage(usage), _cost(usage)
                choice = _first(chunk.get("choices") or ())
                error = choice.get("error")
                if not error:
                    return self._delta(choice, choice.get("delta") or choice.get("message") or {})
        except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
            # Whatever shape the server made up, it comes to the same: this is not the API's.
            error = event.data if event.name == "error" else "it sent something that is no part of an answer"
        raise self._failure(error)

    def _delta(self, choice: Mapping[str, Any], said: Mapping[str, Any]) -> Delta | None:
        text = said.get("content") or ""
        reasoning = said.get("reasoning_content") or said.get("reasoning") or ""
        if not isinstance(reasoning, str):
            reasoning = ""
        if not isinstance(text, str):
            text, reasoning = _joined(text, "text"), reasoning + _joined(text, "thinking")
        tool_calls = tuple(self._numbered(said["tool_calls"])) if said.get("tool_calls") else ()
        finish_reason = None if self.finish_reason else choice.get("finish_reason") or None
        extra = None
        for fields, read in ((choice, _READ_OF_CHOICE), (said, _READ_OF_DELTA)):
            for key, value in fields.items():
                if key not in read and value is not None and value not in ("", [], {}):
                    extra = {**(extra or {}), key: value}
        if not (text or reasoning or tool_calls or finish_reason or extra):
            return None
        delta = Delta(text, reasoning, tool_calls, finish_reason, extra=extra)
        self._said += (reasoning, text)
        self.spoke = self.spoke or delta.speaks
        self.finish_reason = self.finish_reason or finish_reason
        return delta

    def _numbered(self, pieces: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """The pieces with an ``index`` each. Servers that send calls whole may leave it out: an id begins a call.

        Raises:
            ValueError: a piece is none.
        """
        for piece in pieces:
            function = piece.get("function") or {}
            if isinstance(function.get("arguments"), Mapping):  # some servers send the object instead of its text
                function = {**function, "arguments": json.dumps(function["arguments"])}
                piece = {**piece, "function": function}
            self._said += (value for value in function.values() if isinstance(value, str))
            if piece.get("index") is None:
                self._tool_calls += 1 if piece.get("id") or not self._tool_calls else 0
                piece = {**piece, "index": self._tool_calls - 1}
            if type(piece["index"]) is not int or not all(isinstance(value, str | None) for value in function.values()):
                raise ValueError("no piece of a tool call")
            yield piece

    def _failure(self, error: object) -> ModelError:
        words = self._words(error)
        status = status_of(error)
        if status is not None and not self.spoke:
            return refused(self._model, status, words)
        return StreamBroken(self._model, f"the answer broke off: {words}", status=status)

    def bill(self, request: Request) -> Delta:
        """The usage as reported; where it was not, as estimated from what was asked and what was said."""
        if self.usage is None:
            asked = "".join(text_of(message) for message in request.messages)
            self.usage = Usage(estimated_tokens(asked), estimated_tokens("".join(self._said)), estimated=True)
        return Delta(usage=self.usage, cost=self._cost)


def _only_text(delta: Delta) -> bool:
    return not (delta.reasoning or delta.tool_calls or delta.finish_reason or delta.extra)


class WholeBody:
    """Stands where an event splitter does when a server answers in one piece: the body is the one event."""

    def __init__(self) -> None:
        self._packets: list[bytes] = []

    def feed(self, packet: bytes) -> list[ServerEvent]:
        self._packets.append(packet)
        return []

    def end(self) -> list[ServerEvent]:
        return [ServerEvent(b"".join(self._packets).decode("utf-8", "replace"))]


def _first(choices: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    for choice in choices:
        if not choice.get("index"):
            return choice
    return {}


def _joined(parts: Any, kind: str) -> str:
    """The text of all parts of a kind, with the parts inside them: https://docs.mistral.ai/capabilities/reasoning"""
    if isinstance(parts, str):
        return parts
    return "".join(_joined(part.get(kind) or "", "text") for part in parts if part.get("type") == kind)


def _usage(reported: Mapping[str, Any]) -> Usage:
    """Tokens as the API counts them: https://platform.openai.com/docs/api-reference/chat/object (``usage``)."""
    asked = reported.get("prompt_tokens_details") or {}
    said = reported.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=int(reported.get("prompt_tokens") or 0),
        output_tokens=int(reported.get("completion_tokens") or 0),
        # https://api-docs.deepseek.com/guides/kv_cache
        cached_tokens=int(asked.get("cached_tokens") or reported.get("prompt_cache_hit_tokens") or 0),
        reasoning_tokens=int(said.get("reasoning_tokens") or 0),
    )


def _cost(reported: Mapping[str, Any]) -> Cost | None:
    """OpenRouter says what a call cost, in dollars: https://openrouter.ai/docs/use-cases/usage-accounting"""
    dollars = reported.get("cost")
    return Cost(float(dollars)) if isinstance(dollars, int | float) else None
