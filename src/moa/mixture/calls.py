"""The record of one run's calls: each call is announced, its cost counted, and it ends as finished, failed or dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from moa.errors import MoaError
from moa.messages import Attempt, Call, Delta, Reference, Request
from moa.mixture.budget import Budget
from moa.mixture.draft import Draft
from moa.mixture.events import (
    AgentContinued,
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentRecalled,
    AgentSaid,
    AgentSkipped,
    AgentSpent,
    AgentStarted,
    Event,
    Noticed,
)
from moa.models import Model


class Calls:
    """Starts and ends the drafts of a run, keeps the budget, and emits an event for each change.

    Args:
        emit: takes the events.
        budget: counts what calls cost.
    """

    def __init__(self, emit: Callable[[Event], None], budget: Budget) -> None:
        self._emit, self._budget = emit, budget
        self._now = asyncio.get_running_loop().time
        self._started: set[Draft] = set()
        self._closed = False
        self.tests: dict[str, asyncio.Lock] = {}
        """A lock for each model, by its identity, so that one agent at a time tests what it can do."""

    def close(self) -> None:
        """The run is being closed: from now on no call begins."""
        self._closed = True

    def begin(self, draft: Draft, model: Model, role: str, request: Request, references: Sequence[Reference]) -> None:
        """Record that a call begins: the first of its draft, or one that continues the draft.

        Args:
            role: as in :class:`~moa.answers.Call`.

        Raises:
            asyncio.CancelledError: the run is being closed. (A model may have swallowed the cancellation of the last call.)
        """
        if self._closed or ((task := asyncio.current_task()) and task.cancelling()):
            raise asyncio.CancelledError
        self._budget.open(draft, model, request)
        draft.finish_reason = None
        names = tuple(reference.agent for reference in references)
        at, name, layer = self._now(), draft.agent, draft.layer
        if draft in self._started:
            self._emit(AgentContinued(at=at, agent=name, layer=layer, references=names))
            return
        self._started.add(draft)
        self._emit(AgentStarted(at=at, agent=name, layer=layer, model=model.name, role=role, references=names))

    def recall(self, draft: Draft, model: Model, reference: Reference) -> None:
        """End a draft with the proposal of an earlier run; no call is made."""
        draft.append(Delta(text=reference.text))
        draft.finish("it was cut short in an earlier run" if reference.cut else None)
        at, agent, layer, text, cut = self._now(), draft.agent, draft.layer, reference.text, reference.cut
        self._emit(AgentRecalled(at=at, agent=agent, layer=layer, model=model.name, text=text, cut=cut))

    def warm(self, draft: Draft, model: Model, request: Request) -> None:
        """Record that a call begins that only warms a cache, until :meth:`pause`."""
        self._budget.open(draft, model, request)
        self._spent(draft, in_flight=True)

    def affords(self, model: Model, request: Request, times: int = 1) -> bool:
        """Whether the cost limit allows to send this request so many times more."""
        return self._budget.affords(model, request, times)

    def append(self, draft: Draft, role: str, delta: Delta) -> None:
        """Append a delta to a draft, and emit its text, reasoning, tool calls and further fields, and what it reports as
        spent before the draft's end."""
        draft.append(delta)
        warms = draft not in self._started
        if delta.attempt:
            self._spent(draft, self._budget.add(draft, delta.attempt), in_flight=warms)
        elif delta.in_flight and warms:
            self._spent(draft, in_flight=True)
        if delta.calls and delta.finish_reason is None:
            self._spent(draft, calls=delta.calls)
        if delta.speaks or delta.extra:
            self._emit(AgentSaid(at=self._now(), agent=draft.agent, layer=draft.layer, delta=delta, role=role))

    def pause(self, draft: Draft, reason: str, error: Exception | None = None, *, part: bool = False) -> None:
        """Record that a call has ended, for this reason, and that another one will follow it; ``part``: its text stays."""
        self._spent(draft, self._budget.pause(draft, reason, part=part, free=_is_free(error)))

    def finish(self, draft: Draft, cut: str | None) -> None:
        """End a usable draft; ``cut`` is the reason if it ends early."""
        draft.finish(cut)
        usage, cost = self._budget.close(draft)
        self._emit(
            AgentFinished(
                at=self._now(),
                agent=draft.agent,
                layer=draft.layer,
                finish_reason=draft.finish_reason,
                usage=usage,
                cost=cost,
                cut=cut,
                calls=draft.calls,
            )
        )

    def drop(self, draft: Draft, reason: str, error: MoaError | None = None, *, skipped: bool = False) -> None:
        """End an unusable draft: as failed if there is an error, otherwise as dropped. If no call had begun, there
        is no event unless it is ``skipped``.

        Args:
            skipped: as in :class:`~moa.mixture.events.AgentDropped`.
        """
        draft.drop(reason, error)
        if draft not in self._started:
            if skipped:
                self._emit(AgentSkipped(at=self._now(), agent=draft.agent, layer=draft.layer, reason=reason))
            return
        usage, cost = self._budget.close(draft, free=_is_free(error))
        at, agent, layer, calls = self._now(), draft.agent, draft.layer, draft.calls
        if error:
            event: Event = AgentFailed(
                at=at, agent=agent, layer=layer, error=error, usage=usage, cost=cost, calls=calls
            )
        else:
            event = AgentDropped(
                at=at, agent=agent, layer=layer, reason=reason, usage=usage, cost=cost, calls=calls, skipped=skipped
            )
        self._emit(event)

    def _spent(
        self, draft: Draft, attempt: Attempt | None = None, calls: tuple[Call, ...] = (), *, in_flight: bool = False
    ) -> None:
        usage, cost = self._budget.so_far(draft, in_flight=in_flight)
        at, agent, layer = self._now(), draft.agent, draft.layer
        self._emit(AgentSpent(at=at, agent=agent, layer=layer, usage=usage, cost=cost, attempt=attempt, calls=calls))

    def notice(self, message: str, *, degrades: bool = False) -> None:
        """Emit a remark for the user; ``degrades``: the answer is worse for it."""
        self._emit(Noticed(at=self._now(), message=message, degrades=degrades))


def _is_free(error: Exception | None) -> bool:
    """Whether a call that ended with this error is not billed; None where it had no error."""
    return isinstance(error, MoaError) and not error.billable
