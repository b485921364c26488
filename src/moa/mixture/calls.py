"""The calls of one run: each writes a draft, and comes from its start to exactly one of three ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace

from moa.errors import MoaError, ModelError
from moa.messages import Delta, Reference, Request
from moa.mixture.agent import TOKEN_LIMITS, Agent
from moa.mixture.budget import Budget
from moa.mixture.continuation import Asking, Conversation
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
from moa.mixture.schedules.protocol import Reading
from moa.mixture.seam import Restarted, Seam
from moa.models import traits_of

log = logging.getLogger("moa")

CUTS = {"length": "its max_tokens were used up", "content_filter": "the upstream's content filter"}
"""Finish reasons of a text that ends before its model was done."""


class Calls:
    """Makes calls, ends drafts, and tells of both.

    Args:
        emit: takes the events.
        budget: counts what calls cost.
    """

    def __init__(self, emit: Callable[[Event], None], budget: Budget) -> None:
        self._emit, self._budget = emit, budget
        self._now = asyncio.get_running_loop().time
        self._started: set[Draft] = set()

    async def write(
        self,
        agent: Agent,
        draft: Draft,
        role: str,
        asking: Asking,
        readings: AsyncIterator[Reading],
        over: Callable[[], str | None],
    ) -> None:
        """Write a draft, by one call or, where readings grow, by several that continue each other.

        The draft has ended when this returns, unless it is cancelled; no failure of the model raises.

        Args:
            role: as in :class:`~moa.messages.Call`.
            asking: makes the request from references.
            readings: what the agent reads; errors of theirs pass through.
            over: asked after each delta; a reason ends the draft there.
        """
        way = traits_of(agent.model).continuation
        conversation, seam = Conversation(asking, way), Seam()
        warming: asyncio.Task[None] | None = None
        try:
            async for reading in readings:
                await _called_off(warming)
                if reading.warm:
                    warming = asyncio.create_task(self._warm(agent, draft, asking(reading.references, "")))
                    continue
                if not reading.last and way is None:
                    continue  # this model cannot go on with what it has begun: it waits for the last reading
                request = conversation.request(reading.references, seam.said, last=reading.last)
                seam.join(exact=way == "prefix")
                try:
                    await self._step(agent, draft, role, request, reading, seam, over)
                except Restarted:
                    complete = [later async for later in readings][-1:] or [reading]
                    await self._resume(agent, draft, role, conversation, complete[0], seam, over)
                if draft.ended:
                    return
        finally:
            await _called_off(warming)

    async def _resume(
        self,
        agent: Agent,
        draft: Draft,
        role: str,
        conversation: Conversation,
        reading: Reading,
        seam: Seam,
        over: Callable[[], str | None],
    ) -> None:
        """One full call that is told its opening. What was written so far has been read by others and stands."""
        self._emit(Noticed(at=self._now(), message=f"{draft.agent} lost its thread, and goes on in one call"))
        seam.join(exact=False)
        with suppress(Restarted):
            request = conversation.resumed(reading.references, seam.said)
            await self._step(agent, draft, role, request, reading, seam, over)
        if not draft.ended:
            error = ModelError(agent.model.name, "it began its answer anew where it was to go on")
            self.drop(draft, str(error), error)

    async def _warm(self, agent: Agent, draft: Draft, request: Request) -> None:
        """Have a prompt read ahead. What comes of it is not looked at; what it cost is the draft's."""
        self._budget.open(draft, agent.model, request)
        short = request.without(TOKEN_LIMITS).replaced(max_tokens=1)
        try:
            async with aclosing(agent.model.stream(short)) as deltas:
                async for delta in deltas:
                    draft.usage, draft.cost = delta.usage or draft.usage, delta.cost or draft.cost
        except Exception:
            log.debug("%s could not be warmed", agent.model.name, exc_info=True)
        finally:
            self._budget.pause(draft)

    async def _step(
        self,
        agent: Agent,
        draft: Draft,
        role: str,
        request: Request,
        reading: Reading,
        seam: Seam,
        over: Callable[[], str | None],
    ) -> None:
        """One call. Ends the draft, unless the reading's room was used up or a better reading waits.

        Raises:
            Restarted: it does not go on where it stopped.
        """
        self._begin(agent, draft, role, request, reading.references)
        growing = reading.room is not None
        stopped: str | None = None
        paused = False
        error: MoaError | None = None
        try:
            async with aclosing(agent.model.stream(request)) as deltas:
                async for delta in deltas:
                    if delta.text and (told := seam.feed(delta.text, whole_words=growing)) != delta.text:
                        delta = replace(delta, text=told)
                    self._take(draft, delta)
                    if delta.speaks:
                        stopped = over()
                    paused = (
                        growing and bool(len(draft)) and (len(draft) >= (reading.room or 0) or reading.superseded())
                    )
                    if stopped or paused or draft.ended:
                        break
                else:
                    self._take(draft, Delta(text=seam.end()))
        except MoaError as raised:
            error = raised
        except Restarted:
            self._budget.pause(draft)
            raise
        except Exception as raised:
            log.warning("%s raised while answering", agent.model.name, exc_info=True)
            error = ModelError(agent.model.name, f"{type(raised).__name__}: {raised}")
        if draft.ended:
            return
        if paused and not draft.finish_reason and not stopped and not error:
            self._budget.pause(draft)
            return
        if error is None and stopped is None and draft.finish_reason is None:
            error = ModelError(agent.model.name, "its stream ended without a finish reason")
        if error:
            self.drop(draft, str(error), error)
        elif not draft.text.strip() and not (role == "aggregator" and draft.tool_calls):
            self.drop(draft, _silence(draft))
        elif stopped:
            self._emit(Noticed(at=self._now(), message=f"{draft.agent} was stopped: {stopped}", degrades=True))
            draft.finish_reason = "length"
            self.finish(draft, stopped)
        else:
            self.finish(draft, CUTS.get(draft.finish_reason or ""))

    def _begin(self, agent: Agent, draft: Draft, role: str, request: Request, references: Sequence[Reference]) -> None:
        self._budget.open(draft, agent.model, request)
        names = tuple(reference.agent for reference in references)
        at, name, layer = self._now(), draft.agent, draft.layer
        if draft in self._started:
            self._emit(AgentContinued(at=at, agent=name, layer=layer, references=names))
            return
        self._started.add(draft)
        self._emit(AgentStarted(at=at, agent=name, layer=layer, model=agent.model.name, role=role, references=names))

    def _take(self, draft: Draft, delta: Delta) -> None:
        draft.append(delta)
        if delta.speaks:
            self._emit(AgentSaid(at=self._now(), agent=draft.agent, layer=draft.layer, delta=delta))

    def finish(self, draft: Draft, cut: str | None) -> None:
        """End a draft that is of use; ``cut`` says why it ends early."""
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
        """End a draft that nobody is to read. Where its call had not begun there is nothing to tell of."""
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


def _silence(draft: Draft) -> str:
    thought = " after thinking" if draft.reasoning else ""
    why = f" ({draft.finish_reason})" if draft.finish_reason not in (None, "stop") else ""
    return f"it said nothing{thought}{why}"


async def _called_off(task: asyncio.Task[None] | None) -> None:
    if task:
        task.cancel()
        await asyncio.wait([task])
