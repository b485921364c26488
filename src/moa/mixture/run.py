"""One run of a mixture, from outside: the events as they happen, and the answer so far."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from moa.closing import AsyncClosing, cancelled
from moa.errors import RunError
from moa.messages import Answer, Call, Reference, Request
from moa.mixture.answering import Answering
from moa.mixture.estimates import with_estimates
from moa.mixture.events import Event, RunFailed, RunFinished, RunStarted
from moa.mixture.fold import Fold
from moa.mixture.plan import Plan
from moa.mixture.schedules.checked import CheckedSchedule

GRACE = 0.7
"""Seconds that closing a run may take where a custom model ignores its cancellation."""


SEEDS = 2**30
"""How many seeds a run may draw its own from: servers take 31 bits and more."""


class Run(AsyncGenerator[Event, None], AsyncClosing):
    """One answer to one request. Iterate it once, for every event; close it to cancel every call in flight.

    ::

        async with mixture.run("Why is the sky blue?") as run:
            async for event in run:
                print(event)
        print(run.answer)

    A run without an answer ends with ``RunFailed`` and raises nothing, except a ScheduleError for a bug in a custom
    schedule. Nothing is called before the first event is awaited.

    Args:
        restart: whether a fallback may start the answer again after an aggregator broke off in the middle of it. A reader
            that shows text as it comes cannot take it back, so it passes False.
        proposals: proposals for the aggregator; with them no proposer is called.
        kept: proposals of an earlier run; their agents are not called again.

    Attributes:
        unread: the events that had happened when the run was closed and had not been read. :attr:`answer` counts them.
    """

    def __init__(
        self,
        plan: Plan,
        request: Request,
        *,
        restart: bool = True,
        proposals: Sequence[Reference] | None = None,
        kept: Sequence[Reference] = (),
    ) -> None:
        self._plan, self._request = plan, request
        self._restart, self._proposals, self._kept = restart, proposals, kept
        self._fold = Fold()
        self._events = self._run()
        self.unread: tuple[Event, ...] = ()

    @property
    def answer(self) -> Answer:
        """The answer so far, from the events read so far. After a run without an answer, its ``error`` is set."""
        return self._fold.answer

    def call(self, layer: int, agent: str) -> Call | None:
        """One agent's call so far, without the cost of looking at all others; None where it has not begun."""
        return self._fold.call(layer, agent)

    @property
    def estimated_answer(self) -> Answer:
        """The answer so far, with an estimate of the usage and cost of each call that is in flight or was cut off."""
        return with_estimates(self.answer, self._request, self._plan.prices)

    async def asend(self, value: None) -> Event:
        """The next event."""
        event = await self._events.asend(value)
        self._fold.add(event)
        return event

    async def athrow(self, *error: Any) -> Event:
        """Raise an error inside the run, which cancels every call in flight and raises the error again."""
        return await self._events.athrow(*error)

    async def aclose(self) -> None:
        """Cancel every call in flight; returns when all have ended. Does nothing after the last event.

        A call of a custom model that ignores its cancellation is left to itself after :data:`GRACE` seconds.
        """
        await self._events.aclose()

    async def _run(self) -> AsyncGenerator[Event, None]:
        """The events of a task that works. The queue has no limit, so a slow reader does not slow the models down."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        run_id = uuid.uuid4()
        answering = Answering(
            self._plan,
            self._request,
            restart=self._restart,
            proposals=self._proposals,
            kept=self._kept,
            seed=run_id.int % SEEDS,
            emit=queue.put_nowait,
        )
        work = asyncio.create_task(_work(self._plan, answering, run_id.hex))
        work.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            await work
        finally:
            answering.close()
            self._keep_unread(queue)
            await cancelled(work, grace=GRACE)

    def _keep_unread(self, queue: asyncio.Queue[Event | None]) -> None:
        waiting = (queue.get_nowait() for _ in range(queue.qsize()))
        self.unread = tuple(event for event in waiting if event is not None)
        for event in self.unread:
            self._fold.add(event)


async def _work(plan: Plan, answering: Answering, run_id: str) -> None:
    """Emit a run's first event, all between, and its last."""
    loop = asyncio.get_running_loop()
    answering.emit(
        RunStarted(
            at=loop.time(),
            run_id=run_id,
            mixture=plan.name,
            schedule=repr(CheckedSchedule(plan.schedule)),
            started=time.time(),
            seats=plan.seats,
        )
    )
    _load_prices(plan)
    for name in answering.unbounded:
        answering.notice(f"max_cost cannot stop {name} while it writes: its price is unknown")
    alarm = None if plan.deadline is None else loop.call_later(plan.deadline, answering.pass_deadline, plan.deadline)
    try:
        await answering.answer()
    except RunError as error:
        await answering.end()  # first, since nothing is read after the last event
        answering.emit(RunFailed(at=loop.time(), error=error))
    else:
        answering.emit(RunFinished(at=loop.time()))
    finally:
        if alarm:
            alarm.cancel()
        await answering.end()


def _load_prices(plan: Plan) -> None:
    """Read the price list in a thread, once a process, while the first upstreams respond: it takes half a second."""
    listed = any(plan.prices.is_listed(agent.model.name) for agent in plan.agents)
    if listed and "genai_prices" not in sys.modules:
        asyncio.get_running_loop().run_in_executor(None, plan.prices.load)
