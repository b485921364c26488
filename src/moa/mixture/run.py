"""One run of a mixture: from the question over its proposers to the answer, and the events that tell of it."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from moa.errors import AggregatorFailed, ModelError, RunError
from moa.messages import Reference, Request
from moa.mixture.budget import Budget
from moa.mixture.calls import Calls
from moa.mixture.draft import Draft
from moa.mixture.events import (
    AnswerBegan,
    Event,
    Noticed,
    RunFailed,
    RunFinished,
    RunStarted,
    Selected,
)
from moa.mixture.memory import turn_of
from moa.mixture.prompts import SELECT
from moa.mixture.proposing import Proposing, asking_from
from moa.mixture.schedules.barrier import Barrier
from moa.mixture.schedules.checked import CheckedSchedule
from moa.mixture.schedules.protocol import Reading, single_reading
from moa.mixture.selection import chosen, most_central
from moa.mixture.writer import Writer

if TYPE_CHECKING:
    from moa.mixture.mixture import Mixture

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
        self._schedule = self._active_schedule(CheckedSchedule(mixture.schedule))
        self._proposing = Proposing(
            mixture, request, self._schedule, kept, calls=self._calls, budget=self._budget, emit=self._emit
        )
        self._begun = False

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
            alarm = asyncio.get_running_loop().call_later(
                mixture.deadline, self._proposing.pass_deadline, mixture.deadline
            )
        try:
            await self._answer()
        except RunError as error:
            self._emit(RunFailed(at=self._now(), error=error))
        else:
            self._emit(RunFinished(at=self._now()))
        finally:
            if alarm:
                alarm.cancel()
            await self._proposing.end()

    def _load_prices(self) -> None:
        """Read the price list, once in a process, while the first upstreams make us wait: it takes half a second."""
        prices = self._mixture.prices
        listed = any(prices.is_listed(agent.model.name) for agent in self._mixture.agents)
        if listed and "genai_prices" not in sys.modules:
            asyncio.get_running_loop().run_in_executor(None, prices.load)

    def _active_schedule(self, schedule: CheckedSchedule) -> CheckedSchedule:
        """The mixture's schedule, or the barrier where the request or the mixture cannot use the schedule."""
        mixture = self._mixture
        if schedule.grows and (mixture.exact or mixture.aggregate != "synthesize" or self._acts):
            return CheckedSchedule(Barrier())
        if schedule.warm and (mixture.references != "user" or mixture.aggregate != "synthesize"):
            return CheckedSchedule(Barrier())
        return schedule

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
                turn = turn_of(mixture.proposal_identity, messages[: at + 1])
            if turn and goes_on:
                self._given = mixture.memory.recall(turn)
        if self._given is not None or not mixture.layers:
            references = tuple(self._given or ())
            self._begin_answer(references, recalled=self._given is not None and not self._proposing.started)
            yield Reading(references)
            return
        async with aclosing(self._proposing.readings()) as readings:
            async for reading in readings:
                if reading.last:
                    self._given = reading.references
                    if turn:
                        mixture.memory.keep(turn, reading.references)
                    self._begin_answer(reading.references)
                yield reading

    def _begin_answer(self, references: tuple[Reference, ...], *, recalled: bool = False) -> None:
        if not self._begun:
            self._begun = True
            self._emit(AnswerBegan(at=self._now(), references=references, recalled=recalled))

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
        elif CheckedSchedule(mixture.schedule).grows and not self._schedule.grows:
            self._notice("what comes late decides here, so the proposals are waited for")
        if self._schedule.grows or self._schedule.warm:
            await self._synthesize()
            return
        async with aclosing(self._readings()) as readings:
            proposals = [reading async for reading in readings][-1].references
        way = "synthesize" if self._acts or not proposals else mixture.aggregate
        if self._proposing.agreement and self._schedule.exits_with == "central" and not self._acts:
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
            readings = self._readings() if proposals is None else single_reading(proposals)
            async with aclosing(readings):
                asking = asking_from(self._mixture, agent.as_aggregator(self._request))
                writer = Writer(self._calls, agent, draft, "aggregator", asking, self._answer_overspent)
                await writer.write(readings)
            if draft.usable:
                self._proposing.leave()
                return
            failures.append(draft)
            if not self._restart and (draft.text or draft.tool_calls):
                break
        causes = [f"{draft.agent}: {draft.dropped}" for draft in failures]
        errors = [draft.error for draft in failures if isinstance(draft.error, ModelError)]
        raise AggregatorFailed("the aggregator failed", causes, errors)

    async def _rank(self, proposals: Sequence[Reference]) -> None:
        agent, draft = self._mixture.aggregator, Draft("ranker", self._mixture.depth)
        asking = asking_from(self._mixture, agent.as_ranker(self._request), prompt=SELECT)
        writer = Writer(self._calls, agent, draft, "ranker", lambda references, _: asking(references, ""), lambda: None)
        await writer.write(single_reading(proposals))
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

    # -- events ------------------------------------------------------------------------------------------------------

    def _emit(self, event: Event) -> None:
        self._queue.put_nowait(event)

    def _notice(self, message: str, *, degrades: bool = False) -> None:
        self._emit(Noticed(at=self._now(), message=message, degrades=degrades))
