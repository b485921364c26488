"""A model made from a plain Python function.

Notable decisions:
- The function takes the whole :class:`~moa.messages.Request`: an aggregator needs the references in it, and the settings
  (``temperature``, ``max_tokens``) are the function's to follow.
- A synchronous function runs in a thread of its own, so that it never blocks the other agents. The thread is a daemon and
  not one of a pool: many slow functions do not wait for each other, and the program can exit while one is running.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeAlias

from moa.errors import ConfigError, ModelError
from moa.messages import Cost, Delta, Request, Usage, estimated_tokens
from moa.models import Traits
from moa.models.refusals import one_line

Piece: TypeAlias = str | Delta
"""A part of an answer: text, or a delta with reasoning, tool calls, a finish reason, usage, …"""

Answering: TypeAlias = Callable[[Request], Piece | Iterator[Piece] | Awaitable[Piece] | AsyncIterable[Piece]]
"""A function that returns a whole answer or yields it in pieces, synchronous or asynchronous."""


class Function:
    """A model that calls a function.

    ::

        Function(lambda request: text_of(request.messages[-1]).upper(), name="mine/shout")

        async def search(request: Request) -> AsyncIterator[str]:
            for document in await find(text_of(request.messages[-1])):
                yield document

        Function(search)

    Args:
        function: takes the request; returns the answer as a string, or yields strings and
            :class:`deltas <moa.messages.Delta>`. A synchronous function runs in a thread and, when the call is cancelled, is
            stopped at its next piece; one that returns runs to its end, and the result is discarded. An asynchronous one
            runs in the event loop and must not block.
        name: ``provider/name``; by default ``function/`` and the function's own name.
        cost: US dollars per call; None if unknown. A delta with a cost overrides it.
        identity: everything that the answers depend on apart from the request, for caches: change it with the function.

    Raises:
        ConfigError: ``function`` cannot be called.
    """

    def __init__(
        self, function: Answering, *, name: str | None = None, cost: float | None = 0.0, identity: str = ""
    ) -> None:
        if not callable(function):
            raise ConfigError(f"Function needs a function that takes a Request, not {function!r}")
        self._function = function
        self._called = getattr(function, "__name__", type(function).__name__)
        self._name = name or f"function/{self._called.strip('<>')}"
        self._cost, self._identity = Cost(cost), identity

    @property
    def name(self) -> str:
        return self._name

    @property
    def traits(self) -> Traits:
        return Traits(identity=self._identity)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._called}, name={self._name!r})"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the function's answer. A finish reason (``stop``) and estimated usage are added where it yields none.

        Raises:
            ModelError: the function raised, or returned something other than strings and deltas; names the function. A
                ModelError of the function's own is raised as it is.
        """
        text: list[str] = []
        finished = counted = False
        try:
            async with aclosing(self._pieces(request)) as pieces:
                async for piece in pieces:
                    delta = self._delta(piece)
                    text += (delta.reasoning, delta.text)
                    finished = finished or delta.finish_reason is not None
                    counted = counted or delta.usage is not None
                    yield delta
        except Exception as error:
            raised = error.raised if isinstance(error, _Raised) else error
            if isinstance(raised, ModelError):
                raise raised from raised.__cause__
            reason = one_line(f"{self._called} raised {type(raised).__name__}: {raised}")
            raise ModelError(self.name, reason) from raised
        if not finished:
            yield Delta(finish_reason="stop")
        if not counted:
            usage = Usage(request.tokens, estimated_tokens("".join(text)), estimated=True)
            yield Delta(usage=usage, cost=self._cost)

    def _delta(self, piece: object) -> Delta:
        if isinstance(piece, str):
            return Delta(text=piece)
        if isinstance(piece, Delta):
            return piece if piece.usage is None or piece.cost is not None else piece.replaced(cost=self._cost)
        raise ModelError(
            self.name, f"{self._called} returned {type(piece).__name__} {piece!r:.100}; expected strings or Deltas"
        )

    async def _pieces(self, request: Request) -> AsyncGenerator[object, None]:
        function = self._function
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            async with aclosing(_awaited(function(request))) as pieces:
                async for piece in pieces:
                    yield piece
            return
        async with aclosing(_in_a_thread(function, request)) as results:
            async for result in results:
                # A function that ran in a thread may return a coroutine: a lambda, or an object with an async __call__.
                async with aclosing(_awaited(result)) as pieces:
                    async for piece in pieces:
                        yield piece


async def _awaited(result: object) -> AsyncGenerator[object, None]:
    """The pieces of a result that may have to be awaited."""
    if isinstance(result, Awaitable):
        result = await result
    if isinstance(result, AsyncGenerator):
        async with aclosing(result) as pieces:
            async for piece in pieces:
                yield piece
    elif isinstance(result, AsyncIterable):
        async for piece in result:
            yield piece
    else:
        yield result


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing that a thread sends."""

    error: BaseException | None = None


class _Raised(Exception):
    """Brings an exception out of a thread. Raised as they are, SystemExit and KeyboardInterrupt would end the event loop."""

    def __init__(self, raised: BaseException) -> None:
        self.raised = raised


async def _in_a_thread(function: Answering, request: Request) -> AsyncGenerator[object, None]:
    """What a synchronous function returns or yields, computed in a thread."""
    loop = asyncio.get_running_loop()
    results: asyncio.Queue[object] = asyncio.Queue()
    stopped = threading.Event()

    def send(result: object) -> None:
        with suppress(RuntimeError):  # the loop has closed, so nothing reads the results
            loop.call_soon_threadsafe(results.put_nowait, result)

    def run() -> None:
        try:
            result = function(request)
            for piece in result if isinstance(result, Iterator) else (result,):
                if stopped.is_set():
                    break
                send(piece)
        except BaseException as error:
            send(_End(error))
        else:
            send(_End())

    threading.Thread(target=copy_context().run, args=(run,), name="moa-function", daemon=True).start()
    try:
        while True:
            result = await results.get()
            if isinstance(result, _End):
                if result.error:
                    raise _Raised(result.error)
                return
            yield result
    finally:
        stopped.set()
