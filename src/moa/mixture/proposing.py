"""The proposers of one run: their drafts, the tasks that write them, and what they come to.

Every proposer is a task of its own from the start. It waits for the drafts it reads, asks its model, and writes its own
draft; nothing else ties agents together. Ending a draft from outside (a deadline, the cost limit) and cancelling its task
are one step, so a reader never waits for a writer that is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from moa.errors import DeadlinePassed, ModelError, NoProposals, ScheduleError
from moa.messages import Delta, Reference, Request
from moa.mixture.agent import Agent
from moa.mixture.budget import Budget
from moa.mixture.calls import Calls
from moa.mixture.continuation import Asking
from moa.mixture.draft import Draft
from moa.mixture.events import AgentRecalled, Event, Noticed
from moa.mixture.prompts import with_references
from moa.mixture.schedules.checked import CheckedSchedule
from moa.mixture.schedules.drafts import reference_of
from moa.mixture.schedules.protocol import Reading, single_reading
from moa.mixture.selection import most_central
from moa.mixture.writer import Writer
from moa.models.hedge import Hedged

if TYPE_CHECKING:
    from moa.mixture.mixture import Mixture

log = logging.getLogger("moa")


class Proposing:
    """The layers before the answer.

    Args:
        schedule: the one in force, which need not be the mixture's.
        kept: proposals of an earlier run, whose agents are not asked again.
        emit: takes the events.

    Attributes:
        started: whether any proposer was asked.
        agreement: the proposal that stands for a layer whose proposals agree, where the schedule looks for that.
    """

    def __init__(
        self,
        mixture: Mixture,
        request: Request,
        schedule: CheckedSchedule,
        kept: Sequence[Reference],
        *,
        calls: Calls,
        budget: Budget,
        emit: Callable[[Event], None],
    ) -> None:
        self._mixture, self._request, self._schedule = mixture, request, schedule
        self._calls, self._budget, self._emit = calls, budget, emit
        self._now = asyncio.get_running_loop().time
        self._layers = [
            [(agent, Draft(name, number)) for name, agent in layer.items()]
            for number, layer in enumerate(mixture.layers, 1)
        ]
        self._kept = {(reference.layer, reference.agent): reference for reference in kept if reference.text.strip()}
        self._tasks: dict[Draft, asyncio.Task[None]] = {}
        self.started = False
        self.agreement: Reference | None = None
        self._closed: str | None = None
        self._late = False
        self._schedule_error: ScheduleError | None = None

    async def readings(self) -> AsyncGenerator[Reading, None]:
        """What there is to answer from, as the schedule has it; the last is complete.

        Raises:
            RunError: too few proposals.
            ScheduleError: a mistake in the schedule, for any of the agents.
        """
        if not self.started:
            self._start()
        async with aclosing(self._schedule.readings(self._drafts, self._give_up)) as readings:
            async for reading in readings:
                yield Reading(self._complete(reading.references)) if reading.last else reading

    def leave(self) -> None:
        """The answer is complete: nobody waits for those who still write."""
        for draft in self._tasks:
            self._give_up(draft, "the answer was complete without it")

    async def end(self) -> None:
        """However the run ended, no task of its proposers is left."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def pass_deadline(self, seconds: float) -> None:
        """The run's deadline came."""
        self._late = True
        self._close(f"the deadline of {seconds:g} s came")

    # -- their tasks -------------------------------------------------------------------------------------------------

    @property
    def _drafts(self) -> list[list[Draft]]:
        return [[draft for _, draft in layer] for layer in self._layers]

    def _start(self) -> None:
        self.started = True
        drafts = self._drafts
        for agent, draft in (seated for layer in self._layers for seated in layer):
            reference = self._kept.get((draft.layer, draft.agent))
            if reference:
                self._recall(agent, draft, reference)
        for number, layer in enumerate(self._layers):
            for agent, draft in layer:
                if draft.ended:
                    continue
                if self._schedule.hedge is not None:
                    agent = replace(agent, model=Hedged(agent.model, self._schedule.hedge))
                task = asyncio.create_task(self._propose(agent, draft, drafts[:number]))
                task.add_done_callback(partial(self._see_to, draft))
                self._tasks[draft] = task

    def _recall(self, agent: Agent, draft: Draft, reference: Reference) -> None:
        """An earlier run's proposal is this one's, too."""
        draft.append(Delta(text=reference.text))
        draft.finish("it was cut short in an earlier run" if reference.cut else None)
        self._emit(
            AgentRecalled(
                at=self._now(),
                agent=draft.agent,
                layer=draft.layer,
                model=agent.model.name,
                text=reference.text,
                cut=reference.cut,
            )
        )

    def _give_up(self, draft: Draft, reason: str) -> None:
        """A schedule does not wait for this one."""
        if not draft.ended:
            self._calls.drop(draft, reason)
            self._tasks[draft].cancel()

    def _see_to(self, draft: Draft, task: asyncio.Task[None]) -> None:
        """However a proposer's task ended, its draft ends too: no reader waits for ever."""
        if not task.cancelled() and (raised := task.exception()):
            if isinstance(raised, ScheduleError):
                self._schedule_error = raised
            else:
                log.error("the task of %s broke", draft.agent, exc_info=raised)
        if not draft.ended:
            self._calls.drop(draft, "its task broke; see the log" if not task.cancelled() else "it was cancelled")

    def _agreed(self, layers: Sequence[Sequence[Draft]]) -> bool:
        """Whether the proposals of one of these layers agree; the first that do are then what is answered from."""
        for number, layer in enumerate(layers, 1):
            if self.agreement:
                break
            if all(draft.ended for draft in layer):
                texts = [draft.text for draft in layer if draft.usable]
                if self._schedule.agree(texts):
                    usable = [draft for draft in layer if draft.usable]
                    self.agreement = reference_of(usable[most_central(texts)])
                    self._notice(f"the proposals of layer {number} agree; what comes behind it is left out")
        return self.agreement is not None

    def _complete(self, references: tuple[Reference, ...]) -> tuple[Reference, ...]:
        """The last layer's proposals, or the deepest there are where proposing was closed early; raises RunError."""
        mixture = self._mixture
        if self._schedule_error:
            raise self._schedule_error
        if self._agreed(self._drafts) and self.agreement:
            return (self.agreement,)
        layers = [tuple(reference_of(draft) for _, draft in layer if draft.usable) for layer in self._layers]
        if self._closed:
            references = next((layer for layer in reversed(layers) if layer), ())
        if len(references) >= (1 if self._closed else mixture.min_proposals):
            return references
        short = next(
            (number for number, drafts in enumerate(layers, 1) if len(drafts) < mixture.min_proposals), len(layers)
        )
        lost = [draft for layer in self._layers[:short] for _, draft in layer if draft.dropped]
        causes = [f"{draft.agent} (layer {draft.layer}): {draft.dropped}" for draft in lost]
        errors = [draft.error for draft in lost if isinstance(draft.error, ModelError)]
        if self._late:
            raise DeadlinePassed(f"nothing to answer from when {self._closed}", causes, errors)
        count = len(layers[short - 1])
        reason = f"only {count} usable proposals in layer {short}, and {mixture.min_proposals} are needed"
        raise NoProposals(reason if count else f"no usable proposal in layer {short}", causes, errors)

    def _close(self, reason: str) -> None:
        """No proposer writes on. What is written stands, marked as cut; what has not begun to speak is dropped."""
        live = [(agent, draft) for layer in self._layers for agent, draft in layer if not draft.ended]
        if not live or self._closed:
            return
        self._closed = reason
        self._notice(f"proposals were cut short: {reason}", degrades=True)
        for _, draft in live:
            if draft.text.strip():
                self._calls.finish(draft, reason)
            else:
                self._calls.drop(draft, f"had written nothing when {reason}")
            self._tasks[draft].cancel()

    # -- one of them -------------------------------------------------------------------------------------------------

    async def _propose(self, agent: Agent, draft: Draft, before: Sequence[Sequence[Draft]]) -> None:
        asking = asking_from(self._mixture, agent.as_proposer(self._request))
        writer = Writer(self._calls, agent, draft, "proposer", asking, self._spare_for_the_aggregator)
        try:
            await writer.write(self._proposer_readings(agent, before))
        except _Idle as idle:
            self._calls.drop(draft, str(idle))

    async def _proposer_readings(
        self, agent: Agent, before: Sequence[Sequence[Draft]]
    ) -> AsyncGenerator[Reading, None]:
        """What a proposer reads; raises _Idle where it is not to be asked."""
        mixture = self._mixture
        readings = self._schedule.readings(before, self._give_up) if before else single_reading(())
        async with aclosing(readings):
            async for reading in readings:
                if self._agreed(before):
                    raise _Idle("the proposals before it agree")
                if before and reading.last and len(reading.references) < mixture.min_proposals:
                    raise _Idle("too few proposals in the layer before")
                if self._budget.exceeded(agent.model, [reference.text for reference in reading.references]):
                    raise _Idle(f"the cost limit of ${mixture.max_cost:g} was reached")
                yield reading

    def _spare_for_the_aggregator(self) -> None:
        """Close proposing where it has used up what the aggregator needs."""
        if self._mixture.max_cost is None:
            return
        texts = [draft.text for _, draft in self._layers[-1]]
        if self._budget.exceeded(self._mixture.aggregator.model, texts, room=1.0):
            self._close(f"the cost limit of ${self._mixture.max_cost:g} was near")

    def _notice(self, message: str, *, degrades: bool = False) -> None:
        self._emit(Noticed(at=self._now(), message=message, degrades=degrades))


class _Idle(Exception):
    """A proposer is not to be asked, for this reason."""


def asking_from(mixture: Mixture, request: Request, *, prompt: str | None = None) -> Asking:
    """What makes an agent's request from references, as the mixture has them put in."""

    def asking(references: Sequence[Reference], closing: str) -> Request:
        return with_references(
            request,
            references,
            prompt=mixture.prompt if prompt is None else prompt,
            place=mixture.references,
            anonymous=mixture.anonymous,
            closing=closing,
        )

    return asking
