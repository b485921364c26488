"""The proposers of one run: their drafts, the tasks that write them, and the proposals that come of them.

Each proposer is a task of its own from the start. It waits for the drafts it reads, calls its model, and writes its own
draft; nothing else connects agents. Ending a draft from outside (a deadline, the cost limit) also cancels its task, so no
reader waits for a writer that is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from moa.answers import is_blank
from moa.closing import cancelled
from moa.errors import ScheduleError
from moa.messages import Reference, Request
from moa.mixture.agent import Agent
from moa.mixture.asides import Asides
from moa.mixture.asking import first_seed, proposer_request
from moa.mixture.budget import Budget
from moa.mixture.calls import Calls
from moa.mixture.draft import Draft
from moa.mixture.early_end import Settled, end_early
from moa.mixture.events import Event, Noticed
from moa.mixture.moderator import Moderator
from moa.mixture.plan import Plan
from moa.mixture.private_tool import with_question
from moa.mixture.probe import Probe, probe_of
from moa.mixture.schedules.checked import CheckedSchedule
from moa.mixture.schedules.drafts import references_of
from moa.mixture.schedules.protocol import Reading, single_reading
from moa.mixture.shortage import shortage, with_repeating
from moa.mixture.silence import drop_silent
from moa.mixture.subsets import chosen_by
from moa.mixture.writer import Writer
from moa.models import traits_of
from moa.models.hedge import Hedged
from moa.models.refusals import one_line
from moa.tracebacks import traceback_of

log = logging.getLogger("moa")


class Proposing:
    """The layers before the answer.

    Args:
        schedule: the schedule that applies to this request, which may differ from the plan's.
        kept: proposals of an earlier run; their agents are not called again.
        seed: the run's own, from which the seeds of samples count on.
        writes: whether the answer is written, and not selected.
        settled: whether proposals of the last layer that are still written cannot change the answer; None: they may.
        emit: receives the events.

    Attributes:
        started: whether any proposer was started.
        late: whether the deadline has passed.
        agreement: the proposal that represents those that agree; None until a layer, or its first members do.
        agreeing: the proposals that the answer is then made from.
    """

    def __init__(
        self,
        plan: Plan,
        request: Request,
        schedule: CheckedSchedule,
        kept: Sequence[Reference],
        *,
        seed: int,
        writes: bool,
        settled: Settled | None = None,
        asides: Asides,
        calls: Calls,
        budget: Budget,
        emit: Callable[[Event], None],
    ) -> None:
        self._plan, self._request, self._schedule = plan, request, schedule
        self._calls, self._budget, self._emit, self._seed = calls, budget, emit, seed
        self._settled = settled
        self._residual = writes and plan.reads == "all-layers"
        self._moderator = Moderator(plan, asides, emit, writes=writes)
        self._now = asyncio.get_running_loop().time
        self._layers = [
            [(agent, Draft(name, number)) for name, agent in layer.items()]
            for number, layer in enumerate(plan.layers, 1)
        ]
        self._kept = {
            (reference.layer, reference.agent): reference for reference in kept if not is_blank(reference.text)
        }
        self._tasks: dict[Draft, asyncio.Task[None]] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self.started = False
        self.agreement: Reference | None = None
        self.agreeing: tuple[Reference, ...] = ()
        self._probe: Probe | None = None
        self._closed: str | None = None
        self._short_of_money = self.late = False
        self._schedule_error: ScheduleError | None = None

    async def readings(self) -> AsyncGenerator[Reading, None]:
        """What the aggregator can answer from, as the schedule gives it; the last reading is complete.

        Raises:
            RunError: too few proposals.
            ScheduleError: a mistake in the schedule, for any of the agents.
        """
        if not self.started:
            self._start()
        if self._probe:
            await self._probe.decided()
        async with aclosing(self._schedule.readings(self._drafts, self._give_up)) as readings:
            async for reading in readings:
                yield await self._last(reading) if reading.last else reading

    def ask(self, questions: Sequence[str]) -> None:
        """Put these questions to the proposers, after the conversation. Only before they are started."""
        self._request = with_question(self._request, questions)

    def leave(self) -> None:
        """The answer is complete: drop the proposers that still write."""
        for draft in self._tasks:
            self._give_up(draft, "the answer was complete without it")

    async def end(self) -> None:
        """Cancel the tasks of all proposers."""
        await cancelled(*self._watchers, *self._tasks.values())
        await self._moderator.end()

    def pass_deadline(self, seconds: float) -> None:
        """The run's deadline has passed."""
        self.late = True
        self._close(f"the {seconds:g} s deadline passed")

    # -- their tasks -------------------------------------------------------------------------------------------------

    @property
    def _drafts(self) -> list[list[Draft]]:
        return [[draft for _, draft in layer] for layer in self._layers]

    def _start(self) -> None:
        self.started = True
        drafts = self._drafts
        for agent, draft in (seated for layer in self._layers for seated in layer):
            if reference := self._kept.get((draft.layer, draft.agent)):
                self._calls.recall(draft, agent.model, reference)
        if self._plan.when == "disagree":
            self._probe = probe_of(self._plan, self._request, drafts[0], self._patient(0), self._give_up)
            self._watchers.append(asyncio.create_task(self._compare_first(self._probe)))
        for number, layer in enumerate(self._layers):
            for agent, draft in layer:
                if draft.ended:
                    continue
                if self._schedule.hedge is not None and not traits_of(agent.model).composite:
                    agent = replace(agent, model=Hedged(agent.model, self._schedule.hedge))
                task = asyncio.create_task(self._propose(agent, draft, drafts[:number]))
                task.add_done_callback(partial(self._end_draft, draft))
                self._tasks[draft] = task
            if self._plan.patience is not None:
                self._watchers.append(asyncio.create_task(self._drop_silent(number, self._plan.patience)))
        if self._settled and drafts:
            skip = partial(self._give_up, skipped=True)
            early = end_early(drafts[-1], self._plan.min_proposals, self._settled, skip, self._notice)
            self._watchers.append(asyncio.create_task(early))

    async def _drop_silent(self, number: int, patience: float) -> None:
        """Drop agents of a layer, counted from 0, that stay silent."""
        if self._probe:
            await self._probe.decided()
        before = self._drafts[number - 1] if number else ()
        exempt, needed = self._patient(number), self._plan.min_proposals
        await drop_silent(
            self._drafts[number], before, patience=patience, needed=needed, exempt=exempt, give_up=self._give_up
        )

    def _patient(self, number: int) -> set[Draft]:
        """The drafts of a layer, counted from 0, whose agents may be silent for as long as they like."""
        return {draft for agent, draft in self._layers[number] if traits_of(agent.model).may_be_silent}

    async def _compare_first(self, probe: Probe) -> None:
        """Call the first members of the first layer, and the others where those differ."""
        await probe.run()
        if probe.agreement:
            self.agreement, self.agreeing = probe.agreement, probe.references
            self._notice(f"{' and '.join(each.agent for each in self.agreeing)} agree; no other proposer is called")
            for draft in self._tasks:
                self._give_up(draft, "the first proposals agree")

    def _give_up(self, draft: Draft, reason: str, *, skipped: bool = False) -> None:
        """Drop a draft that a schedule does not wait for, and cancel its task."""
        if not draft.ended:
            if draft not in self._tasks:
                raise ValueError(f"give_up was called with a draft of {draft.agent} that this run did not make")
            self._calls.drop(draft, reason, skipped=skipped or bool(self.agreeing))
            self._tasks[draft].cancel()

    def _end_draft(self, draft: Draft, task: asyncio.Task[None]) -> None:
        """End the draft of a task that ended without doing so: otherwise its readers would wait for ever."""
        if not task.cancelled() and (raised := task.exception()):
            if isinstance(raised, ScheduleError):
                self._schedule_error = raised
            else:
                log.error("the task of %s failed\n%s", draft.agent, traceback_of(raised))
                self._notice(
                    one_line(f"{draft.agent} (layer {draft.layer}) failed: {type(raised).__name__}: {raised}"),
                    degrades=True,
                )
        if not draft.ended:
            self._calls.drop(draft, "its task failed; see the log" if not task.cancelled() else "it was cancelled")

    # -- the proposals -----------------------------------------------------------------------------------------------

    def _exit_early(self, agreement: Reference) -> None:
        """Answer from this proposal alone."""
        self.agreement, self.agreeing = agreement, (agreement,)
        self._notice(f"the proposals of layer {agreement.layer} agree; the layers after it are skipped")

    def _final(self, references: tuple[Reference, ...]) -> tuple[Reference, ...]:
        """What the answer is made from, given the last layer's proposals.

        That is the agreement, if there is one. Where proposing was closed early, or the money ran out, it is the
        deepest layer with a proposal.

        Raises:
            RunError: too few proposals.
            ScheduleError: the schedule made a mistake for one of the proposers.
        """
        if self._schedule_error:
            raise self._schedule_error
        if not self.agreeing and (agreement := self._schedule.agreed(self._drafts)):
            self._exit_early(agreement)
        if self.agreeing:
            return self.agreeing
        cut_short = self._closed or self._short_of_money
        if cut_short:
            references = next((usable for layer in reversed(self._drafts) if (usable := references_of(layer))), ())
        if len(references) < (needed := 1 if cut_short else self._plan.min_proposals):
            references = with_repeating(self._drafts, references, needed, partial(self._notice, degrades=True))
        if len(references) < needed:
            raise shortage(self._drafts, self._plan.min_proposals, self._closed if self.late else None)
        return references

    async def _last(self, reading: Reading) -> Reading:
        """What the aggregator reads at last: of the last layer what the moderator keeps, and earlier layers where it reads
        those, too."""
        references = self._final(reading.references)
        if not self.agreeing:
            references = await self._moderator.read_last(self._request, self._drafts, references)
        return Reading(references)

    def _close(self, reason: str) -> None:
        """Stop all proposers. Text so far is used, marked as cut; a proposer without text is dropped."""
        live = [draft for layer in self._layers for _, draft in layer if not draft.ended]
        if not self.started or not live or self._closed:
            return
        self._closed = reason
        self._notice(f"proposals were cut short: {reason}", degrades=True)
        for draft in live:
            if not is_blank(draft.text):
                self._calls.finish(draft, reason)
            else:
                self._calls.drop(draft, f"had produced no text when {reason}")
            self._tasks[draft].cancel()

    # -- one of them -------------------------------------------------------------------------------------------------

    async def _propose(self, agent: Agent, draft: Draft, before: Sequence[Sequence[Draft]]) -> None:
        make_request = partial(proposer_request, agent, self._request, self._plan.refining, self._seed)
        stop, question = self._spare_for_the_aggregator, self._request.question
        writer = Writer(self._calls, agent, draft, "proposer", make_request, stop, question=question)
        try:
            await writer.write(self._proposer_readings(agent, draft, before))
        except _Skipped as skipped:
            self._calls.drop(draft, str(skipped), skipped=bool(self.agreeing))

    async def _proposer_readings(
        self, agent: Agent, draft: Draft, before: Sequence[Sequence[Draft]]
    ) -> AsyncGenerator[Reading, None]:
        """What a proposer reads; raises _Skipped where it must not be called."""
        plan, first = self._plan, True
        seed, place = first_seed(agent, self._request, self._seed), [*plan.layers[draft.layer - 1]].index(draft.agent)
        choose = chosen_by(plan.reads, seed, draft, before, place)
        if self._probe:
            await (self._probe.decided() if before else self._probe.admitted(draft))
        readings = self._schedule.readings(before, self._give_up) if before else single_reading(())
        async with aclosing(readings):
            async for reading in readings:
                if not self.agreeing and (agreement := self._schedule.agreed(before)):
                    self._exit_early(agreement)
                if self.agreeing:
                    raise _Skipped("the proposals of a layer before suffice")
                if before:
                    if reading.last and len(reading.references) < plan.min_proposals:
                        raise _Skipped("too few proposals in the layer before")
                    references = await self._passing(reading.references)
                    reading = replace(reading, references=self._moderator.undropped(choose(references)))
                lengths = [len(reference.text) for reference in reading.references]
                if first and (reason := self._reason_to_skip(agent, draft)):
                    self._notice(f"{draft.agent} is skipped: {reason}", degrades=True)
                    raise _Skipped(f"skipped: {reason}")
                first = False
                if not len(draft) and self._budget.exceeded(agent.model, lengths):
                    raise self._skipped_for_cost()
                yield reading

    async def _passing(self, references: tuple[Reference, ...]) -> tuple[Reference, ...]:
        """The proposals of a layer that go on to the next one; raises _Skipped where the moderator ends the run."""
        passing = await self._moderator.passing(self._request, references)
        if self._moderator.ended and not self.agreeing:
            self.agreeing = self._moderator.ended
            self._notice(f"the moderator ends the run after layer {references[0].layer}; the others are skipped")
        if self.agreeing:
            raise _Skipped("the moderator has ended the run")
        return passing

    def _skipped_for_cost(self) -> _Skipped:
        limit = f"the cost limit of ${self._plan.max_cost:g}"
        if not self._short_of_money:
            self._short_of_money = True
            self._notice(f"proposals are missing: {limit} left no money for them", degrades=True)
        return _Skipped(f"{limit} was reached")

    def _reason_to_skip(self, agent: Agent, draft: Draft) -> str:
        """Why a proposer is not called although it could be; empty where its layer needs it."""
        others = [other for other, _ in self._layers[draft.layer - 1] if not traits_of(other.model).skip]
        return traits_of(agent.model).skip if len(others) >= self._plan.min_proposals else ""

    def _spare_for_the_aggregator(self) -> None:
        """Stop proposing when the money left is what the aggregator needs."""
        if self._plan.max_cost is None:
            return
        read = self._layers if self._residual else self._layers[-1:]
        lengths = [len(draft) for layer in read for _, draft in layer]
        if self._budget.exceeded(self._plan.aggregator.model, lengths, room=1.0):
            self._close(f"the cost limit of ${self._plan.max_cost:g} was near")

    def _notice(self, message: str, *, degrades: bool = False) -> None:
        self._emit(Noticed(at=self._now(), message=message, degrades=degrades))


class _Skipped(Exception):
    """A proposer must not be called, for this reason."""
