"""One run of a mixture, from inside: which schedule and which aggregation apply, the proposals, and the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from moa.analysis import Analysis
from moa.answers import estimated_tokens
from moa.errors import AggregatorFailed, RunError, model_errors
from moa.messages import Reference, Request
from moa.mixture.agent import Agent
from moa.mixture.aggregation import Central, Synthesize
from moa.mixture.asides import Asides
from moa.mixture.asking import aggregator_request
from moa.mixture.budget import Budget
from moa.mixture.calls import Calls
from moa.mixture.continuation import MakeRequest
from moa.mixture.deliberation import Consultation
from moa.mixture.demands import Demands
from moa.mixture.draft import Draft
from moa.mixture.events import AnswerBegan, Event, Noticed, Selected
from moa.mixture.plan import Plan
from moa.mixture.private_tool import why_not
from moa.mixture.prompts import Layout, conversation_text
from moa.mixture.proposing import Proposing
from moa.mixture.schedules.protocol import Reading, single_reading
from moa.mixture.substitutes import acts, schedule_for, substitutes
from moa.mixture.turn import continues_a_turn, turn_of_request
from moa.mixture.votes import Votes
from moa.mixture.writer import Writer
from moa.models import traits_of

LEAST_ROOM = 0.25
"""The answer that the remaining money must pay for, as a share of the proposals' mean length; otherwise a proposal is the
answer."""


class Answering:
    """The work of one run. Aggregations see it as a :class:`~moa.mixture.aggregation.Running`.

    Args:
        restart, proposals, kept: as in :class:`~moa.mixture.run.Run`.
        seed: the run's own, from which the seeds of samples count on.
        emit: receives every event.
    """

    def __init__(
        self,
        plan: Plan,
        request: Request,
        *,
        restart: bool,
        proposals: Sequence[Reference] | None,
        kept: Sequence[Reference],
        seed: int,
        emit: Callable[[Event], None],
    ) -> None:
        self._plan, self._restart, self._proposals = plan, restart, proposals
        self.request, self.emit = request, emit
        self.now: Callable[[], float] = asyncio.get_running_loop().time
        self._aggregation = plan.aggregation
        self._acts = acts(request)
        self._schedule = schedule_for(plan, request)
        self._demands = Demands(plan, request)
        overhead = estimated_tokens(conversation_text(request.messages)) + estimated_tokens(plan.prompt)
        self._budget = Budget(plan.prices, plan.max_cost, overhead)
        self._calls = Calls(emit, self._budget)
        self.asides = Asides(plan.aggregator, request, plan.layout, plan.patience, self._calls, self._budget)
        self._draft: Draft | None = None  # the aggregator's
        self._turn, self._kept, self._asked = turn_of_request(plan, request), kept, False
        self.votes = Votes(request, emit)
        self._proposing = Proposing(
            plan,
            request,
            self._schedule,
            kept,
            seed=seed,
            writes=self._acts or plan.aggregation.writes,
            settled=partial(plan.aggregation.settled, self) if plan.aggregation.ends_early and not self._acts else None,
            asides=self.asides,
            calls=self._calls,
            budget=self._budget,
            emit=emit,
        )

    @property
    def unbounded(self) -> list[str]:
        """The models that ``max_cost`` cannot stop while they write, because their prices are unknown."""
        return self._budget.unbounded(agent.model for agent in self._plan.agents)

    def pass_deadline(self, seconds: float) -> None:
        """The run's deadline has passed: the answer is made from the proposals so far."""
        self._proposing.pass_deadline(seconds)
        self.asides.pass_deadline(seconds)

    async def answer(self) -> None:
        """Get the proposals, then the answer.

        Raises:
            RunError: there is no answer.
        """
        for message, degrades in substitutes(self._plan, self.request, continues=bool(self._kept)):
            self.notice(message, degrades=degrades)
        self._demands.check_plan()
        self._recall()
        if self._reads_early or self._consults(self._plan.aggregator):
            try:
                await self._write(self._readings)
            except _WriterNotNeeded:
                await self._answer_from(self._proposals or ())
        else:
            await self._answer_from(await self._complete())
        if self._proposals is None:  # the aggregator did not ask the proposers, or has turned out to be unable to
            if why := why_not(self._plan.aggregator, self.request):
                self.notice(f"the proposers were not called: {why}", degrades=True)
            self._begin_answer(())
        if missing := self._demands.missing(self._draft):
            self.notice(missing, degrades=True)
        self._proposing.leave()

    def close(self) -> None:
        """Let no agent make another call, until :meth:`end` has cancelled them."""
        self._calls.close()

    async def end(self) -> None:
        """Cancel all proposers; returns when none is left, whatever ended the run."""
        await self._proposing.end()

    # -- what applies to this request ------------------------------------------------------------------------------------

    @property
    def _reads_early(self) -> bool:
        """Whether the aggregator is called before the proposals are complete: to write, or to warm its prefix cache."""
        if self._schedule.grows:
            return not self._schedule_selects  # a text that the user has read cannot be replaced by a proposal
        return self._schedule.warm

    @property
    def _selects_agreement(self) -> bool:
        """Whether a proposal becomes the answer once the proposals of a layer, or its first members, agree."""
        return self._schedule_selects or (self._plan.when == "disagree" and not self._acts)

    @property
    def _schedule_selects(self) -> bool:
        exits = self._schedule.exits and self._schedule.exits_with == "central"
        return exits and not self._acts and not self._asked  # what the aggregator asks need not be what the user asks

    # -- the proposals ---------------------------------------------------------------------------------------------------

    def _recall(self) -> None:
        """Take proposals that exist already: the caller's, the turn's, or none at all for a mixture without layers."""
        given = self._proposals
        if given is None and self._turn and continues_a_turn(self.request):
            given = self._plan.memory.recall(self._turn)
        if given is not None or not self._plan.layers:
            self._begin_answer(tuple(given or ()), recalled=given is not None)

    async def _readings(self) -> AsyncGenerator[Reading, None]:
        """What the aggregator reads: the proposals that exist, or those of the proposers as the schedule gives them.

        Raises:
            RunError: too few proposals.
        """
        if self._proposals is not None:
            yield Reading(tuple(self._proposals))
            return
        async with aclosing(self._proposing.readings()) as readings:
            async for reading in readings:
                if reading.last:
                    if self._turn:
                        self._plan.memory.keep(self._turn, reading.references)
                    self._begin_answer(reading.references)
                    if self._reads_early and not self._asked and self._needs_no_writer(reading.references):
                        raise _WriterNotNeeded
                yield reading

    async def _complete(self) -> tuple[Reference, ...]:
        """The complete proposals."""
        async with aclosing(self._readings()) as to_read:
            return [reading async for reading in to_read][-1].references

    async def _ask(self, questions: Sequence[str]) -> tuple[Reference, ...]:
        """Put the aggregator's questions to the proposers. Without any proposal it answers alone.

        Raises:
            _WriterNotNeeded: a proposal is the answer, since the money left pays for no other.
        """
        self._asked = True
        if self._proposing.late:
            self.notice("the deadline passed before the proposers were called", degrades=True)
            return ()
        self._proposing.ask(questions)
        try:
            references = await self._complete()
        except RunError as error:
            self.notice(f"the aggregator asked the proposers in vain: {error}", degrades=True)
            return ()
        if self._draft is not None and not self._draft.text and self._cannot_pay_for_an_answer(references):
            self._calls.drop(self._draft, "the cost limit leaves no money for its answer")
            raise _WriterNotNeeded
        return references

    def _consults(self, agent: Agent) -> bool:
        """Whether an aggregator is called before the proposers, and may ask them."""
        may_wait = self._plan.when == "tool" and self._proposals is None and not self._kept
        return may_wait and why_not(agent, self.request) is None

    def _begin_answer(self, references: tuple[Reference, ...], *, recalled: bool = False) -> None:
        self._proposals = references
        self.emit(AnswerBegan(at=self.now(), references=references, recalled=recalled, turn=self._turn or ""))

    # -- the answer ------------------------------------------------------------------------------------------------------

    async def _answer_from(self, proposals: Sequence[Reference]) -> None:
        """The answer from complete proposals."""
        self._demands.check_plan()  # the server of a proposer may have refused images meanwhile
        selects = not self._aggregation.writes
        aggregation = Synthesize() if selects and (self._acts or not proposals) else self._aggregation
        if self._proposing.agreement and self._selects_agreement and aggregation.needs_aggregator:
            self.select(self._proposing.agreement, "the proposals agree")
        elif aggregation.needs_aggregator and self._cannot_pay_for_an_answer(proposals):
            limit = f"the cost limit of ${self._plan.max_cost:g}"
            self.notice(f"{limit} leaves no money for the aggregator; a proposal is the answer", degrades=True)
            deepest = max(proposal.layer for proposal in proposals)
            await Central().answer(self, [proposal for proposal in proposals if proposal.layer == deepest])
        else:
            await aggregation.answer(self, proposals)

    def _needs_no_writer(self, proposals: Sequence[Reference]) -> bool:
        """Whether a proposal is the answer although the aggregator, which may have warmed its cache, waits to write."""
        if self._proposing.agreement and self._selects_agreement:
            return True
        return not (self._draft and self._draft.text) and self._cannot_pay_for_an_answer(proposals)

    def _cannot_pay_for_an_answer(self, proposals: Sequence[Reference]) -> bool:
        lengths = [len(proposal.text) for proposal in proposals]
        return bool(lengths) and self._budget.exceeded(self._plan.aggregator.model, lengths, room=LEAST_ROOM)

    async def _write(self, readings: Callable[[], AsyncGenerator[Reading, None]], layout: Layout | None = None) -> None:
        """Let the aggregator write from these readings; after a failure, the next fallback."""
        failures: list[Draft] = []
        aggregators = self._aggregators_to_call()
        left = len(aggregators)
        for name, agent in aggregators.items():
            draft, left = Draft(name, self.depth), left - 1
            self._draft = draft
            make_request: MakeRequest = partial(aggregator_request, agent, self.request, layout or self.layout)
            asking = Consultation(agent, self.request, self.layout, self._ask) if self._consults(agent) else None
            if asking:
                agent, make_request = asking.agent, asking.make_request
            async with aclosing(asking.readings() if asking else readings()) as to_read:
                writer = Writer(
                    self._calls,
                    agent,
                    draft,
                    "aggregator",
                    make_request,
                    self._overspent,
                    self._plan.patience,
                    question=self.request.question,
                    replaceable=partial(self._may_start_over, draft, left),
                    check=partial(self._demands.check, agent.model),
                )
                await writer.write(to_read)
            if draft.taken_back and not self._restart:
                self.notice(
                    f"the answer of {name} began with reasoning: it has a closing tag without an opening one",
                    degrades=True,
                )
            if draft.usable:
                return
            failures.append(draft)
            if not self._may_start_over(draft, left):
                break
        causes = [f"{draft.agent}: {draft.dropped}" for draft in failures]
        raise AggregatorFailed("the aggregator failed", causes, model_errors(draft.error for draft in failures))

    def _aggregators_to_call(self) -> Mapping[str, Agent]:
        """The aggregator and its fallbacks, without those that keep failing; all of them where all do."""
        skipped = {name: reason for name, agent in self.aggregators.items() if (reason := traits_of(agent.model).skip)}
        if len(skipped) == len(self.aggregators):
            return self.aggregators
        for name, reason in skipped.items():
            self.notice(f"{name} is skipped: {reason}", degrades=True)
        return {name: agent for name, agent in self.aggregators.items() if name not in skipped}

    def _may_start_over(self, draft: Draft, left: int) -> bool:
        """Whether a fallback may answer instead of a draft; so many fallbacks are left."""
        return left > 0 and (self._restart or not (draft.text or draft.tool_calls))

    def _overspent(self) -> str | None:
        """Why the aggregator must stop, if it must."""
        if not self._budget.exceeded(self._plan.aggregator.model):
            return None
        return f"the cost limit of ${self._plan.max_cost:g} was reached"

    # -- as an aggregation sees it ---------------------------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        return self._plan.layout

    @property
    def aggregators(self) -> Mapping[str, Agent]:
        return self._plan.aggregators

    @property
    def layers(self) -> Sequence[Mapping[str, Agent]]:
        return self._plan.layers

    @property
    def depth(self) -> int:
        return self._plan.depth

    @property
    def continues(self) -> bool:
        return continues_a_turn(self.request)

    async def write(self, proposals: Sequence[Reference], analysis: Analysis | None = None) -> None:
        layout = replace(self.layout, analysis=analysis.text) if analysis else self.layout
        await self._write(partial(single_reading, proposals), layout)

    def may_write(self, proposals: Sequence[Reference]) -> bool:
        return self._plan.has_aggregator and not self._cannot_pay_for_an_answer(proposals)

    async def call(
        self, agent: Agent, name: str, role: str, make_request: MakeRequest, proposals: Sequence[Reference]
    ) -> Draft:
        draft = Draft(name, self.depth)
        writer = Writer(self._calls, agent, draft, role, make_request, lambda: None, self._plan.patience)
        await writer.write(single_reading(proposals))
        return draft

    def select(self, proposal: Reference, reason: str) -> None:
        agent, layer, cut = proposal.agent, proposal.layer, proposal.cut
        if cut:
            self.notice(f"the proposal of {agent} is the answer, and it ends early", degrades=True)
        self.emit(Selected(at=self.now(), agent=agent, layer=layer, text=proposal.text, reason=reason, cut=cut))

    def notice(self, message: str, *, degrades: bool = False) -> None:
        self.emit(Noticed(at=self.now(), message=message, degrades=degrades))


class _WriterNotNeeded(Exception):
    """The aggregator, which has written nothing yet, need not write: a proposal is the answer."""
