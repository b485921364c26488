"""A model that follows a script: its text, its pace, its failures.

Notable decisions:
- It ships with the product: tests, documentation and simulations call it instead of a paid endpoint.
- Time passes only in ``asyncio.sleep`` on the running loop, so a loop with a virtual clock can run it in no time.
- Each piece is due at a time counted from the start of the call, like a server that writes whether or not its client
  reads: a slow reader finds the pieces waiting and does not slow the model down.
- It records its requests and how many calls were cancelled, so that a test can check both.
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
"""One answer: its text, an error to raise instead, or another scripted model, which answers with its own pace and end."""

Script: TypeAlias = Line | Callable[[Request], Line] | Sequence[Line | Callable[[Request], Line]]
"""One answer to every request, a function from the request to the answer, or a list with one answer per call."""


class Scripted:
    """A model that answers from a script.

    ::

        Scripted("hello there")                                      # the same answer to everything
        Scripted(lambda request: text_of(request.messages[-1]))      # an echo
        Scripted([RateLimited("scripted/a", "slow down"), "hello"])  # fails first, then answers
        Scripted("hello there", first_token=0.3, tokens_per_second=50)

    Attributes:
        requests: every request, in order.
        running: calls in flight.
        cancelled: calls that were closed or cancelled before their finish reason.
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
            script: the answers; see :data:`Script`. A list gives each of its answers once.
            name: ``provider/name``.
            first_token: seconds from the call to the first piece, or to the failure where no piece comes before it.
            tokens_per_second: pieces per second after the first, about a token each; None streams all at once.
            finish_reason: ``stop`` becomes ``tool_calls`` where there are any. None ends the stream without a finish reason,
                as a broken server does.
            fail_after: raise ``error`` after this many pieces (of reasoning and text).
            error: the error to raise; without ``fail_after``, before the first piece. By default a ``StreamBroken``.
            reasoning: streamed before the text, in pieces like the text.
            tool_calls: whole tool calls, streamed after the text; their arguments arrive in pieces.
            usage: the usage to report; by default characters / 4, marked estimated.
            continuation: how it continues a text whose beginning the request holds; None: it streams the whole text again.
        """
        self._script = script
        self._name = name
        self._first_token = first_token
        self._pause = 1 / tokens_per_second if tokens_per_second else 0.0
        self._finish_reason = "tool_calls" if tool_calls and finish_reason == "stop" else finish_reason
        self._fail_after = 0 if fail_after is None and error is not None else fail_after
        self._error = error or StreamBroken(name, "the connection was lost, as scripted")
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
        """Stream the scripted answer.

        Raises:
            CallRejected: a script with one answer per call has no answer left.
            Exception: the script's error.
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
            deltas = rest.stream(request) if isinstance(rest, Scripted) else self._streamed(rest, request)
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
        """The rest of a text whose beginning the request holds."""
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

    async def _streamed(self, text: str, request: Request) -> AsyncGenerator[Delta, None]:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._first_token
        for number, delta in enumerate(self._words(text)):
            await asyncio.sleep(max(0.0, due - loop.time()))
            if number == self._fail_after:
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
        arguments = "".join(str(call.get("function", {}).get("arguments", "")) for call in self._tool_calls)
        reasoning_tokens = estimated_tokens(self._reasoning)
        return Usage(
            input_tokens=request.tokens,
            output_tokens=reasoning_tokens + estimated_tokens(text + arguments),
            reasoning_tokens=reasoning_tokens,
            estimated=True,
        )


def _call_pieces(place: int, call: Mapping[str, Any]) -> Iterator[Delta]:
    """A tool call as servers stream it: first the function's name with empty arguments, then the arguments in pieces."""
    function = call.get("function", {})
    yield Delta(tool_calls=({**call, "index": place, "function": {**function, "arguments": ""}},))
    for piece in pieces_of(function.get("arguments", "")):
        yield Delta(tool_calls=({"index": place, "function": {"arguments": piece}},))
