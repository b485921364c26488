"""The aggregator that may put a question to the proposers while it answers: ``when = "tool"``.

It is called at once, with :mod:`moa.mixture.private_tool` beside the caller's tools. If it calls that, the proposers are
called, and then the aggregator again, with their proposals as the tool's result. All its calls write one draft.

Notable decisions:
- The result is the proposals, not an answer made from them: the aggregator is the one that would make it, and so it reads
  what it would read under ``always``, for one call less.
- The proposers are called once for an answer. Several calls of the tool in one message are several questions to them; a
  later call gets no further proposals, and after :data:`MOST_CALLS` the aggregator gets them without the tool.
- A call beside one of the caller's tools is left out: the caller has to run its tool first, and the aggregator can call this
  one when it reads the result.
- Text before the call stays; what follows begins a paragraph.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from moa.answers import is_blank
from moa.finish_reasons import CUTS, finish_reason_of, is_known
from moa.messages import Delta, Message, Reference, Request
from moa.mixture.agent import Agent
from moa.mixture.asking import aggregator_request
from moa.mixture.fences import key_of
from moa.mixture.outcome import Consults
from moa.mixture.private_tool import PrivateTool, question_in
from moa.mixture.prompts import Layout, reference_block
from moa.mixture.schedules.protocol import Reading
from moa.models.tool_calls import ToolCallReader
from moa.pieces import joined_reasoning_details, joined_tool_calls, take_back

MOST_CALLS = 3
"""Messages of one answer that may call the tool."""

NONE = "None of the models has answered. Answer the request from what you know."

AGAIN = "The models have answered already; their responses are above. Answer the user's request now."

ANSWERED = ("have answered the user's latest request", "have answered your question")
"""What the default prompt says of the proposers, and what it says here."""

KEPT = ("reasoning_details", "thinking_blocks")
"""Fields of a message that its model needs back with the results of its calls."""

Ask = Callable[[Sequence[str]], Awaitable[tuple[Reference, ...]]]
"""Puts questions to the proposers; gives their proposals, or none."""


class Consultation:
    """One aggregator's answer, and its calls of the tool.

    Args:
        request: the caller's.
        ask: as :data:`Ask`.
    """

    def __init__(self, agent: Agent, request: Request, layout: Layout, ask: Ask) -> None:
        self._request, self._layout, self._ask = request, layout, ask
        self.tool = PrivateTool(request)
        self._offered = self.tool.added_to(request)
        self._exchange: list[tuple[Message, Sequence[str]]] = []
        """The aggregator's messages that called the tool, each with the IDs of these calls."""
        self._questions: list[str] = []
        self.agent = AskingAgent(agent.model, agent.name, agent.persona, agent.sampling, agent.sample, self)

    @property
    def is_over(self) -> bool:
        """Whether the aggregator has called the tool so often that it is not offered again."""
        return len(self._exchange) >= MOST_CALLS

    @property
    def has_text(self) -> bool:
        """Whether the aggregator wrote text before it called the tool."""
        return any(not is_blank(message["content"] or "") for message, _ in self._exchange)

    async def readings(self) -> AsyncGenerator[Reading, None]:
        """What the aggregator reads: nothing, and after each call of the tool the proposals."""
        yield Reading(())
        references = await self._ask(self._questions)
        while True:
            yield Reading(references)

    def make_request(self, references: Sequence[Reference], closing: str) -> Request:
        """The aggregator's next request."""
        if self.is_over:
            return aggregator_request(self.agent, self._request, self._layout, references, closing)
        request = aggregator_request(self.agent, self._offered, self._layout)
        messages = request.messages
        result = self._result(references, closing)
        for message, calls in self._exchange:
            messages.append(message)
            for call in calls:
                messages.append({"role": "tool", "tool_call_id": call, "content": result})
                result = AGAIN
        return request.replaced(messages=messages)

    def called(self, message: Message, calls: Sequence[Mapping[str, Any]]) -> None:
        """The aggregator's message called the tool.

        Args:
            message: without the calls.
            calls: of the tool, whole. Their arguments are written anew: the next request must hold valid ones, of a
                length that is bounded.
        """
        questions = [question_in(str(call.get("function", {}).get("arguments", ""))) for call in calls]
        self._questions += questions
        written = [
            {
                **{name: value for name, value in call.items() if name != "index"},
                "function": {
                    **call.get("function", {}),
                    "name": self.tool.name,
                    "arguments": json.dumps({"question": question}, ensure_ascii=False),
                },
            }
            for call, question in zip(calls, questions, strict=True)
        ]
        self._exchange.append(({**message, "tool_calls": written}, [str(call["id"]) for call in calls]))

    def _result(self, references: Sequence[Reference], closing: str) -> str:
        if not references:
            return f"{NONE}\n\n{closing}" if closing else NONE
        block = reference_block(references, key_of(self._request.messages), anonymous=self._layout.anonymous)
        prompt = self._layout.prompt.replace(*ANSWERED)
        return f"{prompt}\n\n{block}\n\n{closing}".rstrip()


@dataclass(frozen=True, slots=True)
class AskingAgent(Agent):
    """An aggregator whose calls of the private tool go to its consultation, and to nobody else."""

    consultation: Consultation | None = None

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """As the agent's, without the private calls.

        Raises:
            Consults: the answer calls the private tool, and none of the caller's.
        """
        assert self.consultation
        said = _Said(self.consultation.tool, ToolCallReader(request), may_ask=not self.consultation.is_over)
        gap = "\n\n" if self.consultation.has_text else ""
        async with aclosing(Agent.stream(self, request)) as deltas:
            async for delta in deltas:
                sifted = said.sifted(delta)
                if gap and not is_blank(sifted.text):
                    sifted, gap = sifted.replaced(text=gap + sifted.text), ""
                yield sifted
        if said.asks:
            self.consultation.called(said.message, joined_tool_calls(said.private))
            raise Consults


class _Said:
    """What an aggregator has streamed in one call."""

    def __init__(self, tool: PrivateTool, reader: ToolCallReader, *, may_ask: bool) -> None:
        self._tool, self._reader, self._may_ask = tool, reader, may_ask
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._extra: dict[str, list[Any]] = {}
        self._indices: dict[int, int | None] = {}
        """By a call's index in the stream, that among the caller's calls; None for the private tool's."""
        self.private: list[Mapping[str, Any]] = []
        self.asks = False

    def sifted(self, delta: Delta) -> Delta:
        """The delta without private calls; without a finish reason, too, where the message makes no other call."""
        take_back(self._text, self._reasoning, delta.thought)
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        for name in KEPT:
            if isinstance(blocks := (delta.extra or {}).get(name), list):
                self._extra[name] = joined_reasoning_details(self._extra.get(name, ()), blocks)
        if delta.tool_calls:
            delta = delta.replaced(tool_calls=self._callers(self._reader.read(delta.tool_calls)))
        reason = finish_reason_of(delta.finish_reason)
        if reason is None:
            return delta
        rest = self._callers(self._reader.rest(complete=reason not in CUTS))
        others = any(index is not None for index in self._indices.values())
        if self.private and not others and is_known(reason) and reason != "content_filter":
            self.asks = self._may_ask
            reason = None if self.asks else "length" if reason == "length" else "stop"
        return delta.replaced(tool_calls=(*delta.tool_calls, *rest), finish_reason=reason)

    @property
    def message(self) -> Message:
        """The message so far, without its calls."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._text).strip() or None, **self._extra}
        reasoning = "".join(self._reasoning)
        return {**message, "reasoning_content": reasoning} if reasoning else message

    def _callers(self, pieces: Any) -> tuple[Mapping[str, Any], ...]:
        """The pieces of calls of the caller's tools, counted without the private ones."""
        callers: list[Mapping[str, Any]] = []
        for piece in pieces:
            at = piece["index"]
            if at not in self._indices:
                private = self._tool.is_called((piece.get("function") or {}).get("name"))
                others = sum(index is not None for index in self._indices.values())
                self._indices[at] = None if private else others
            index = self._indices[at]
            if index is None:
                self.private.append(piece)
            else:
                callers.append({**piece, "index": index})
        return tuple(callers)
