"""A model that says what it is told, at the pace it is told, and fails how it is told.

Notable decisions:
- It ships with the product: tests, documentation and simulations talk to it instead of to a paid endpoint.
- Time passes only in ``asyncio.sleep`` on the running loop, so a loop with a virtual clock can run it in no time.
- Each piece is due at a time counted from the start of the call, as with a server that writes on while nobody reads:
  a slow reader finds the pieces waiting and does not slow the model down.
- It keeps what it was asked and how often it was cut off, so that a test can see that a call was made, or stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias, Union

from moa.errors import CallRejected, StreamBroken
from moa.messages import Delta, Request, Usage, estimated_tokens, pieces_of, text_of
from moa.models import Continuation, Traits

Line: TypeAlias = Union[str, Exception, "Scripted"]
"""One answer: its text, an error to raise instead, or another script, which then answers with its own pace and end."""

Script: TypeAlias = Line | Callable[[Request], Line] | Sequence[Line | Callable[[Request], Line]]
"""The same answer to everything, an answer made from each request, or answers to be given in turn."""


class Scripted:
    """A model that answers from a script.

    ::

        Scripted("hello there")                                      # the same to everyone
        Scripted(lambda request: text_of(request.messages[-1]))      # an echo
        Scripted([RateLimited("scripted/a", "slow down"), "hello"])  # fails first, then answers
        Scripted("hello there", first_token=0.3, tokens_per_second=50)

    Attributes:
        requests: every request it was asked, in order.
        running: how many calls are being answered now.
        cancelled: how many calls were cut off (closed or cancelled) before they had said how they end.
    """

    def __init__(
        self,
        script: Script,
        *,
        name: str = "scripted/model",
        first_token: float = 0.0,
        tokens_per_second: float | None = None,
        finish_reason: str | None = "stop",
        fail_after: int | None = None,
        error: Exception | None = None,
        reasoning: str = "",
        tool_calls: Sequence[Mapping[str, Any]] = (),
        usage: Usage | None = None,
        continuation: Continuation | None = None,
    ) -> None:
        """
        Args:
            script: what to say; see :data:`Script`. Answers given in turn are given once each.
            name: ``provider/name``.
            first_token: seconds from the call to the first piece, or to the failure where nothing is said before it.
            tokens_per_second: pieces a second after the first; None says all at once.
            finish_reason: how the answer ends; ``stop`` becomes ``tool_calls`` where there are any. None ends the
                stream without a finish reason, which no sound model does.
            fail_after: how many pieces (of reasoning and text) to say before ``error`` is raised.
            error: what to raise; without ``fail_after``, before the first piece. By default a ``StreamBroken``.
            reasoning: what to think before speaking, in pieces like the text.
            tool_calls: whole tool calls to ask for after the text; their arguments arrive in pieces.
            usage: what to report; by default characters / 4, marked estimated.
            continuation: how it goes on with a text that it has begun, where a request holds its beginning; None: it says
                the whole text again.
        """
        self._script = script
        self._name = name
        self._first_token = first_token
        self._pause = 1 / tokens_per_second if tokens_per_second else 0.0
        self._finish_reason = "tool_calls" if tool_calls and finish_reason == "stop" else finish_reason
        self._fail_after = 0 if fail_after is None and error is not None else fail_after
        self._error = error or StreamBroken(name, "the connection was lost, as the script says")
        self._reasoning = reasoning
        self._tool_calls = tuple(tool_calls)
        self._usage = usage
        self._continuation = continuation
        self.requests: list[Request] = []
        self.running = 0
        self.cancelled = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def traits(self) -> Traits:
        return Traits(continuation=self._continuation)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Say the scripted answer.

        Raises:
            CallRejected: a script of answers in turn has no answer left.
            Exception: whatever the script says.
        """
        self.requests.append(request)
        self.running += 1
        ended = False
        try:
            line = self._line(request)
            if isinstance(line, Exception):
                await asyncio.sleep(self._first_token)
                raise line.with_traceback(None)
            rest = line if isinstance(line, Scripted) else self._rest(line, request)
            deltas = rest.stream(request) if isinstance(rest, Scripted) else self._said(rest, request)
            async with aclosing(deltas):
                async for delta in deltas:
                    ended = ended or delta.finish_reason is not None
                    yield delta
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += not ended
            raise
        finally:
            self.running -= 1

    def _line(self, request: Request) -> Line:
        line = self._script
        if isinstance(line, Sequence) and not isinstance(line, str):
            turn = len(self.requests) - 1
            if turn >= len(line):
                raise CallRejected(self._name, f"the script ends after {len(line)} answers")
            line = line[turn]
        return line(request) if callable(line) else line

    def _rest(self, text: str, request: Request) -> str:
        """What is left to say of a text whose beginning the request holds."""
        messages = request.messages
        if self._continuation == "prefix" and messages[-1]["role"] == "assistant":
            return text.removeprefix(text_of(messages[-1]))
        if self._continuation == "turns":
            begun = next((place for place, message in enumerate(messages) if "<response 1 " in text_of(message)), None)
            for message in messages[begun:] if begun is not None else ():
                if message["role"] == "assistant":
                    text = text.lstrip().removeprefix(text_of(message))
            return text.lstrip()
        return text

    async def _said(self, text: str, request: Request) -> AsyncGenerator[Delta, None]:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._first_token
        for said, delta in enumerate(self._words(text)):
            await asyncio.sleep(max(0.0, due - loop.time()))
            if said == self._fail_after:
                raise self._error.with_traceback(None)
            yield delta
            due += self._pause
        await asyncio.sleep(0 if text or self._reasoning else self._first_token)
        if self._fail_after is not None:
            raise self._error.with_traceback(None)
        for place, call in enumerate(self._tool_calls):
            for delta in _call_pieces(place, call):
                yield delta
        if self._finish_reason is not None:
            yield Delta(finish_reason=self._finish_reason)
        yield Delta(usage=self._usage or self._estimated(text, request))

    def _words(self, text: str) -> Iterator[Delta]:
        yield from (Delta(reasoning=piece) for piece in pieces_of(self._reasoning))
        yield from (Delta(text=piece) for piece in pieces_of(text))

    def _estimated(self, text: str, request: Request) -> Usage:
        asked_for = "".join(str(call.get("function", {}).get("arguments", "")) for call in self._tool_calls)
        thought = estimated_tokens(self._reasoning)
        return Usage(
            input_tokens=request.tokens,
            output_tokens=thought + estimated_tokens(text + asked_for),
            reasoning_tokens=thought,
            estimated=True,
        )


def _call_pieces(place: int, call: Mapping[str, Any]) -> Iterator[Delta]:
    """A tool call as servers stream it: first who is called, with empty arguments; then the arguments, bit by bit."""
    function = call.get("function", {})
    yield Delta(tool_calls=({**call, "index": place, "function": {**function, "arguments": ""}},))
    for piece in pieces_of(function.get("arguments", "")):
        yield Delta(tool_calls=({"index": place, "function": {"arguments": piece}},))
