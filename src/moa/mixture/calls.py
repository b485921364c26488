"""The record of one run's calls: each call is announced, its cost counted, and it ends as finished, failed or dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from moa.errors import MoaError
from moa.messages import Delta, Reference, Request
from moa.mixture.budget import Budget
from moa.mixture.draft import Draft
from moa.mixture.events import (
    AgentContinued,
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentSaid,
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

    def begin(self, draft: Draft, model: Model, role: str, request: Request, references: Sequence[Reference]) -> None:
        """Record that a call begins: the first of its draft, or one that continues the draft.

        Args:
            role: as in :class:`~moa.answers.Call`.
        """
        self.count(draft, model, request)
        draft.finish_reason = None
        names = tuple(reference.agent for reference in references)
        at, name, layer = self._now(), draft.agent, draft.layer
        if draft in self._started:
            self._emit(AgentContinued(at=at, agent=name, layer=layer, references=names))
            return
        self._started.add(draft)
        self._emit(AgentStarted(at=at, agent=name, layer=layer, model=model.name, role=role, references=names))

    def count(self, draft: Draft, model: Model, request: Request) -> None:
        """Start to count the cost of a call, until :meth:`pause`, :meth:`finish` or :meth:`drop`."""
        self._budget.open(draft, model, request)

    def append(self, draft: Draft, role: str, delta: Delta) -> None:
        """Append a delta to a draft, and emit its text, reasoning, tool calls and further fields."""
        draft.append(delta)
        if delta.speaks or delta.extra:
            self._emit(AgentSaid(at=self._now(), agent=draft.agent, layer=draft.layer, delta=delta, role=role))

    def pause(self, draft: Draft) -> None:
        """Record that a call has ended and that another one will continue the draft."""
        self._budget.pause(draft)

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

    def drop(self, draft: Draft, reason: str, error: MoaError | None = None) -> None:
        """End an unusable draft: as failed if there is an error, otherwise as dropped. No event if no call had begun."""
        draft.drop(reason, error)
        if draft not in self._started:
            return
        usage, cost = self._budget.close(draft, refused=error is not None)
        at, agent, layer, calls = self._now(), draft.agent, draft.layer, draft.calls
        if error:
            event: Event = AgentFailed(
                at=at, agent=agent, layer=layer, error=error, usage=usage, cost=cost, calls=calls
            )
        else:
            event = AgentDropped(at=at, agent=agent, layer=layer, reason=reason, usage=usage, cost=cost, calls=calls)
        self._emit(event)

    def notice(self, message: str, *, degrades: bool = False) -> None:
        """Emit a remark for the user; ``degrades``: the answer is worse for it."""
        self._emit(Noticed(at=self._now(), message=message, degrades=degrades))
