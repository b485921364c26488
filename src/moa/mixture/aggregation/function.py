"""A custom aggregation: a plain Python function of the request and the proposals.

A function returns a text, which becomes the answer, or the index of the proposal that becomes the answer. Events report it
as an agent of the last layer, with the function's name and the model ``python/<name>``, whose calls cost nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import operator
import threading
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import copy_context

from moa.answers import is_blank
from moa.errors import AggregatorFailed, ConfigError, ModelError
from moa.messages import Cost, Delta, Reference, Request, Usage
from moa.mixture.agent import Agent
from moa.mixture.aggregation.protocol import Aggregation, Running
from moa.mixture.events import AgentFailed, AgentFinished, AgentSaid, AgentStarted, Seat
from moa.models.refusals import one_line
from moa.tracebacks import traceback_of

log = logging.getLogger("moa")

Choice = str | int
AggregateFunction = Callable[[Request, Sequence[Reference]], Choice | Awaitable[Choice]]
RankerFunction = Callable[[Request, Sequence[Reference]], int | Awaitable[int]]


class ByFunction(Aggregation):
    """The answer is what a function returns.

    Args:
        function: called as ``function(request, proposals)``; sync or async. A sync function runs in a thread, so it may
            block; closing the run does not stop it. Proposals have ``agent``, ``text``, ``layer`` and ``cut``.
        ranks: the function must return an index, and its role is ``ranker``.

    Raises:
        ConfigError: it is a class, or does not take two arguments.
    """

    needs_aggregator = False

    def __init__(self, function: AggregateFunction, *, ranks: bool = False) -> None:
        self.function, self._ranks = function, ranks
        self.role = "ranker" if ranks else "aggregator"
        # An agent's name may not contain < or >, as in <lambda>.
        self.name = getattr(function, "__name__", type(function).__name__).strip("<>")
        self._model = f"python/{self.name}"
        self._unique = uuid.uuid4().hex
        if not callable(function):
            raise ConfigError(f"the {self.role} is {function!r}; expected a function of the request and the proposals")
        if inspect.isclass(function):
            raise ConfigError(f"the {self.role} {self.name} is a class; pass an instance: {self.name}(…)")
        try:
            inspect.signature(function).bind(None, None)
        except TypeError:
            raise ConfigError(
                f"the {self.role} {self.name} must take two arguments: the request and the proposals"
            ) from None
        except ValueError:  # a function written in C may have no signature
            pass

    @property
    def identity(self) -> str:
        """Unique, because a function may have changed since an answer was cached."""
        return f"{self._model} {self._unique}"

    def seats(self, aggregators: Mapping[str, Agent], layer: int) -> tuple[Seat, ...]:
        return (Seat(agent=self.name, layer=layer, model=self._model, role=self.role),)

    async def answer(self, run: Running, proposals: Sequence[Reference]) -> None:
        agent, layer = self.name, run.depth
        names = tuple(proposal.agent for proposal in proposals)
        run.emit(
            AgentStarted(at=run.now(), agent=agent, layer=layer, model=self._model, role=self.role, references=names)
        )
        try:
            choice = self._checked(await self._call(run.request, proposals), len(proposals))
        except Exception as caught:
            raised = caught.raised if isinstance(caught, _Raised) else caught
            if isinstance(raised, _WrongChoice):
                reason = str(raised)
            else:
                log.warning("%s raised\n%s", self._model, traceback_of(raised))
                reason = one_line(f"{type(raised).__name__}: {raised}")
            error = ModelError(self._model, reason)
            run.emit(AgentFailed(at=run.now(), agent=agent, layer=layer, error=error, usage=Usage(), cost=Cost()))
            raise AggregatorFailed(f"the {self.role} failed", [f"{agent}: {error}"], [error]) from raised
        if isinstance(choice, str):
            run.emit(AgentSaid(at=run.now(), agent=agent, layer=layer, delta=Delta(text=choice), role="aggregator"))
        run.emit(
            AgentFinished(at=run.now(), agent=agent, layer=layer, finish_reason="stop", usage=Usage(), cost=Cost())
        )
        if not isinstance(choice, str):
            run.select(proposals[choice], f"chosen by {agent}")

    async def _call(self, request: Request, proposals: Sequence[Reference]) -> object:
        """Call the function: on the event loop where it is async, otherwise in a thread."""
        if inspect.iscoroutinefunction(self.function):
            return await self.function(request, proposals)
        returned = await _in_a_thread(self.function, request, proposals)
        return await returned if inspect.isawaitable(returned) else returned

    def _checked(self, returned: object, count: int) -> Choice:
        """A text, or an index that exists."""
        if isinstance(returned, str) and not self._ranks:
            if is_blank(returned):
                raise _WrongChoice("it returned an empty text")
            return returned
        try:
            if isinstance(returned, bool):
                raise TypeError
            index = operator.index(returned)  # type: ignore[arg-type]
        except TypeError:
            text = "" if self._ranks else "a text or "
            raise _WrongChoice(f"it returned {returned!r:.80}; expected {text}the index of a proposal") from None
        if not 0 <= index < count:
            raise _WrongChoice(f"it returned the index {index}; expected 0 to {count - 1}")
        return index


async def _in_a_thread(function: Callable[..., object], *args: object) -> object:
    """Call a function in a thread of its own. A daemon, so a program can exit while it runs."""
    returned: Future[object] = Future()
    returned.set_running_or_notify_cancel()  # from here on a cancelled wait leaves the function its result

    def call() -> None:
        try:
            returned.set_result(function(*args))
        except BaseException as error:
            returned.set_exception(_Raised(error))

    threading.Thread(target=copy_context().run, args=(call,), name="moa-aggregation", daemon=True).start()
    return await asyncio.wrap_future(returned)


class _Raised(Exception):
    """Brings an exception out of a thread. Raised as they are, SystemExit and KeyboardInterrupt would end the event loop;
    StopIteration would leave the run waiting, since no asyncio future takes it."""

    def __init__(self, raised: BaseException) -> None:
        self.raised = raised


class _WrongChoice(Exception):
    """A function returned something that names no answer."""
