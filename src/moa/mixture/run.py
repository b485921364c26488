"""One run of a mixture: its drafts, the tasks that write them, and the events that tell of it.

Every proposer is a task of its own from the start. It waits for the drafts it reads, asks its model, and writes its own
draft; nothing else ties agents together. Ending a draft from outside (a deadline, the cost limit) and cancelling its task
are one step, so a reader never waits for a writer that is gone.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from moa.errors import AggregatorFailed, DeadlinePassed, ModelError, NoProposals, RunError
from moa.messages import Delta, Request
from moa.mixture.agent import Agent
from moa.mixture.budget import Budget
from moa.mixture.calls import Calls
from moa.mixture.draft import Draft
from moa.mixture.events import (
    AgentRecalled,
    AnswerBegan,
    Event,
    Noticed,
    RunFailed,
    RunFinished,
    RunStarted,
    Selected,
)
from moa.mixture.memory import turn_of
from moa.mixture.prompts import SELECT, Reference, with_references
from moa.mixture.schedule import Barrier, EarlyExit, Reading, Schedule, reference_of
from moa.mixture.selection import chosen, most_central
from moa.models.wrappers import Hedged

if TYPE_CHECKING:
    from moa.mixture.mixture import Mixture

log = logging.getLogger("moa")

LEAST_ROOM = 0.25
"""What the money left must buy for an aggregation to be worth starting, as a share of the proposals' mean length."""


class Run:
    """One answer of one mixture to one request. :meth:`events` can be read once.

    Args:
        restart: whether a fallback may start the answer anew after an aggregator broke off in the middle of it. A reader
            that shows words as they come cannot take them back, and says no.
        proposals: what the aggregator is to read, where that is there already; None to ask the proposers.
        kept: proposals of an earlier run, whose agents are not asked again.
    """

    def __init__(
        self,
        mixture: Mixture,
        request: Request,
        *,
        restart: bool,
        proposals: Sequence[Reference] | None = None,
        kept: Sequence[Reference] = (),
    ) -> None:
        self._mixture, self._request, self._restart, self._given = mixture, request, restart, proposals
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._budget = Budget(mixture.prices, mixture.max_cost)
        self._calls = Calls(self._emit, self._budget)
        self._now: Callable[[], float] = asyncio.get_running_loop().time
        self._schedule = self._schedule_in_force()
        self._layers = [
            [(agent, Draft(name, number)) for name, agent in layer.items()]
            for number, layer in enumerate(mixture.layers, 1)
        ]
        self._kept = {(reference.layer, reference.agent): reference for reference in kept if reference.text.strip()}
        self._tasks: dict[Draft, asyncio.Task[None]] = {}
        self._agreement: Reference | None = None
        self._closed: str | None = None
        self._late = self._begun = False

    async def events(self) -> AsyncGenerator[Event, None]:
        """Run, and tell. Closing the generator cancels every call at once."""
        work = asyncio.create_task(self._work())
        work.add_done_callback(lambda _: self._queue.put_nowait(None))
        try:
            while (event := await self._queue.get()) is not None:
                yield event
            await work
        finally:
            work.cancel()
            await asyncio.wait([work])

    # -- the run as a whole ------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        mixture = self._mixture
        self._emit(
            RunStarted(
                at=self._now(),
                run_id=uuid.uuid4().hex,
                mixture=mixture.name,
                schedule=repr(mixture.schedule),
                started=time.time(),
                seats=mixture.seats,
            )
        )
        self._load_prices()
        for name in self._budget.unbounded(agent.model for agent in mixture.agents):
            self._notice(f"max_cost cannot stop {name} while it writes: no price is known for it")
        alarm = None
        if mixture.deadline is not None:
            alarm = asyncio.get_running_loop().call_later(mixture.deadline, self._pass_deadline, mixture.deadline)
        try:
            await self._answer()
        except RunError as error:
            self._fail(error)
        else:
            self._emit(RunFinished(at=self._now()))
        finally:
            if alarm:
                alarm.cancel()
            for task in self._tasks.values():
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks.values())

    def _load_prices(self) -> None:
        """Read the price list, once in a process, while the first upstreams make us wait: it takes half a second."""
        prices = self._mixture.prices
        listed = any(prices.is_listed(agent.model.name) for agent in self._mixture.agents)
        if listed and "genai_prices" not in sys.modules:
            asyncio.get_running_loop().run_in_executor(None, prices.load)

    def _schedule_in_force(self) -> Schedule:
        """The mixture's, or the barrier where what comes late decides what is said first."""
        mixture = self._mixture
        if mixture.schedule.grows and (mixture.exact or mixture.aggregate != "synthesize" or self._acts):
            return Barrier()
        warms = isinstance(mixture.schedule, Barrier) and mixture.schedule.warm
        if warms and (mixture.references != "user" or mixture.aggregate != "synthesize"):
            return Barrier()
        return mixture.schedule

    @property
    def _acts(self) -> bool:
        """Whether tools or a response format are asked for."""
        return any(self._request.body.get(field) for field in ("tools", "response_format"))

    async def _readings(self) -> AsyncGenerator[Reading, None]:
        """What the aggregator reads: what was given, what the turn's proposers said when it began, or what they say now.

        Raises:
            RunError: too few proposals.
        """
        mixture, messages, at = self._mixture, self._request.messages, self._request.last_user
        turn = None
        if self._given is None and mixture.layers and mixture.fanout == "turn" and at is not None:
            goes_on = at + 1 < len(messages)
            calls_tools = any(self._request.body.get(field) for field in ("tools", "functions"))
            if goes_on or calls_tools:  # otherwise nobody comes back to this turn
                turn = turn_of(mixture.identity, messages[: at + 1])
            if turn and goes_on:
                self._given = mixture.memory.recall(turn)
        if self._given is not None or not self._layers:
            references = tuple(self._given or ())
            self._begin_answer(references, recalled=self._given is not None and not self._tasks)
            yield Reading(references)
            return
        if not self._tasks:
            self._start_proposers()
        async with aclosing(self._schedule.readings(self._drafts, self._give_up)) as readings:
            async for reading in readings:
                if reading.room is not None or reading.warm:
                    yield reading
                    continue
                references = self._complete(reading.references)
                if turn:
                    mixture.memory.keep(turn, references)
                self._given = references
                self._begin_answer(references)
                yield Reading(references)

    def _begin_answer(self, references: tuple[Reference, ...], *, recalled: bool = False) -> None:
        if not self._begun:
            self._begun = True
            self._emit(AnswerBegan(at=self._now(), references=references, recalled=recalled))

    @property
    def _drafts(self) -> list[list[Draft]]:
        return [[draft for _, draft in layer] for layer in self._layers]

    def _start_proposers(self) -> None:
        drafts = self._drafts
        for agent, draft in (seated for layer in self._layers for seated in layer):
            reference = self._kept.get((draft.layer, draft.agent))
            if reference and not draft.ended:
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
            log.error("the task of %s broke", draft.agent, exc_info=raised)
        if not draft.ended:
            self._calls.drop(draft, "its task broke; see the log" if not task.cancelled() else "it was cancelled")

    def _agreed(self, layers: Sequence[Sequence[Draft]]) -> bool:
        """Whether the proposals of one of these layers agree; the first that do are then what is answered from."""
        for number, layer in enumerate(layers, 1):
            if self._agreement:
                break
            if all(draft.ended for draft in layer):
                texts = [draft.text for draft in layer if draft.usable]
                if self._schedule.agree(texts):
                    usable = [draft for draft in layer if draft.usable]
                    self._agreement = reference_of(usable[most_central(texts)])
                    self._notice(f"the proposals of layer {number} agree; what comes behind it is left out")
        return self._agreement is not None

    def _complete(self, references: tuple[Reference, ...]) -> tuple[Reference, ...]:
        """The last layer's proposals, or the deepest there are where proposing was closed early; raises RunError."""
        mixture = self._mixture
        if self._agreed(self._drafts) and self._agreement:
            return (self._agreement,)
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

    def _fail(self, error: RunError) -> None:
        self._emit(RunFailed(at=self._now(), error=error))

    def _pass_deadline(self, seconds: float) -> None:
        self._late = True
        self._close_proposing(f"the deadline of {seconds:g} s came")

    def _close_proposing(self, reason: str) -> None:
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

    # -- one agent ---------------------------------------------------------------------------------------------------

    async def _propose(self, agent: Agent, draft: Draft, before: Sequence[Sequence[Draft]]) -> None:
        asked = agent.as_proposer(self._request)
        try:
            await self._calls.write(
                agent,
                draft,
                "proposer",
                partial(self._asked, asked),
                self._proposer_readings(agent, before),
                self._spare_for_the_aggregator,
            )
        except _Idle as idle:
            self._calls.drop(draft, str(idle))

    async def _proposer_readings(
        self, agent: Agent, before: Sequence[Sequence[Draft]]
    ) -> AsyncGenerator[Reading, None]:
        """What a proposer reads; raises _Idle where it is not to be asked."""
        mixture = self._mixture
        readings = self._schedule.readings(before, self._give_up) if before else _nothing_to_read()
        async with aclosing(readings):
            async for reading in readings:
                if self._agreed(before):
                    raise _Idle("the proposals before it agree")
                if (
                    before
                    and reading.room is None
                    and not reading.warm
                    and len(reading.references) < mixture.min_proposals
                ):
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
            self._close_proposing(f"the cost limit of ${self._mixture.max_cost:g} was near")

    def _answer_overspent(self) -> str | None:
        over = self._budget.exceeded(self._mixture.aggregator.model)
        return f"the cost limit of ${self._mixture.max_cost:g} was reached" if over else None

    # -- the answer --------------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        mixture = self._mixture
        if mixture.aggregate != "synthesize" and self._acts:
            self._notice(
                f"asked for tools or a response format, {mixture.name} writes its answer instead of selecting it"
            )
        elif mixture.schedule.grows and not self._schedule.grows:
            self._notice("what comes late decides here, so the proposals are waited for")
        if self._schedule.grows or (isinstance(self._schedule, Barrier) and self._schedule.warm):
            await self._synthesize()
            return
        async with aclosing(self._readings()) as readings:
            proposals = [reading async for reading in readings][-1].references
        way = "synthesize" if self._acts or not proposals else mixture.aggregate
        schedule = mixture.schedule
        if self._agreement and isinstance(schedule, EarlyExit) and schedule.answer == "central" and not self._acts:
            self._select(proposals, "the proposals agree")
        elif way == "central":
            self._select(proposals, "most like the other proposals")
        elif proposals and self._budget.exceeded(
            mixture.aggregator.model, [proposal.text for proposal in proposals], room=LEAST_ROOM
        ):
            self._notice(
                f"the cost limit of ${mixture.max_cost:g} leaves no aggregation; a proposal stands in", degrades=True
            )
            self._select(proposals, "most like the other proposals")
        elif way == "select":
            await self._rank(proposals)
        else:
            await self._synthesize(proposals)

    async def _synthesize(self, proposals: Sequence[Reference] | None = None) -> None:
        """Have the answer written, from these proposals or, where there are none yet, as they come."""
        failures: list[Draft] = []
        for name, agent in self._mixture.aggregators.items():
            draft = Draft(name, self._mixture.depth)
            asked = agent.as_aggregator(self._request)
            readings = self._readings() if proposals is None else _only(proposals)
            async with aclosing(readings):
                await self._calls.write(
                    agent,
                    draft,
                    "aggregator",
                    partial(self._asked, asked),
                    readings,
                    self._answer_overspent,
                )
            if draft.usable:
                for proposal in self._tasks:
                    self._give_up(proposal, "the answer was complete without it")
                return
            failures.append(draft)
            if not self._restart and (draft.text or draft.tool_calls):
                break
        causes = [f"{draft.agent}: {draft.dropped}" for draft in failures]
        errors = [draft.error for draft in failures if isinstance(draft.error, ModelError)]
        raise AggregatorFailed("the aggregator failed", causes, errors)

    async def _rank(self, proposals: Sequence[Reference]) -> None:
        agent, draft = self._mixture.aggregator, Draft("ranker", self._mixture.depth)
        asked = agent.as_ranker(self._request)

        def asking(references: Sequence[Reference], closing: str) -> Request:
            return self._with_references(asked, references, prompt=SELECT, closing="")

        await self._calls.write(agent, draft, "ranker", asking, _only(proposals), lambda: None)
        choice = chosen(draft.text, len(proposals)) if draft.usable else None
        if choice is None:
            self._notice("the ranker named no proposal; the most central one stands in", degrades=True)
            self._select(proposals, "most like the other proposals")
        else:
            self._select(proposals, f"chosen by {agent.label}", choice)

    def _select(self, proposals: Sequence[Reference], reason: str, choice: int | None = None) -> None:
        texts = [proposal.text for proposal in proposals]
        mine = proposals[most_central(texts) if choice is None else choice]
        self._emit(Selected(at=self._now(), agent=mine.agent, layer=mine.layer, text=mine.text, reason=reason))

    def _asked(self, request: Request, references: Sequence[Reference], closing: str) -> Request:
        return self._with_references(request, references, closing=closing)

    def _with_references(
        self, request: Request, references: Sequence[Reference], *, prompt: str | None = None, closing: str
    ) -> Request:
        mixture = self._mixture
        return with_references(
            request,
            references,
            prompt=mixture.prompt if prompt is None else prompt,
            place=mixture.references,
            anonymous=mixture.anonymous,
            closing=closing,
        )

    # -- events ------------------------------------------------------------------------------------------------------

    def _emit(self, event: Event) -> None:
        self._queue.put_nowait(event)

    def _notice(self, message: str, *, degrades: bool = False) -> None:
        self._emit(Noticed(at=self._now(), message=message, degrades=degrades))


class _Idle(Exception):
    """A proposer is not to be asked, for this reason."""


async def _only(references: Sequence[Reference]) -> AsyncGenerator[Reading, None]:
    yield Reading(tuple(references))


def _nothing_to_read() -> AsyncGenerator[Reading, None]:
    return _only(())
