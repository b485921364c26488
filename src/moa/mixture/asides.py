"""Calls beside those of proposers and the aggregator, which a run can do without: an analysis, a step, a moderation.

None of them may cost the answer: it is not called where the money would be missing then, it is stopped when the money
becomes short, and it ends when the run's deadline passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from moa.answers import CHARACTERS_PER_TOKEN
from moa.messages import Reference, Request
from moa.mixture.agent import Agent
from moa.mixture.asking import aggregator_request
from moa.mixture.budget import Budget
from moa.mixture.calls import Calls
from moa.mixture.continuation import MakeRequest
from moa.mixture.draft import Draft
from moa.mixture.prompts import Layout
from moa.mixture.room import Room, listed_context
from moa.mixture.schedules.protocol import single_reading
from moa.mixture.writer import Writer

FENCES = 200
"""Characters around a proposal, at the most, and its share of what ends the prompt."""


class Asides:
    """Makes such calls for one run.

    Args:
        aggregator: writes the answer.
        request: the caller's.
        patience: seconds of a call's silence before a notice; None: no notice.
    """

    def __init__(
        self, aggregator: Agent, request: Request, layout: Layout, patience: float | None, calls: Calls, budget: Budget
    ) -> None:
        self._aggregator, self._request, self._layout, self._patience = aggregator, request, layout, patience
        self._calls, self._budget = calls, budget
        self._late = ""
        self._open: set[asyncio.Timeout] = set()

    def pass_deadline(self, seconds: float) -> None:
        """The run's deadline has passed: end the calls in flight, and make no more."""
        self._late = f"the {seconds:g} s deadline passed"
        for timeout in self._open:
            timeout.reschedule(asyncio.get_running_loop().time())

    def obstacle(self, references: Sequence[Reference]) -> str:
        """Why no call may be made that reads these references, as the answer does later; empty where it may."""
        if self._late:
            return self._late
        lengths = [len(reference.text) for reference in references]
        if self._budget.exceeded(self._aggregator.model, [*lengths, *lengths], room=1.0):
            return f"the cost limit of ${self._budget.limit:g} leaves no money for it"
        return ""

    def fitting(self, references: Sequence[Reference]) -> int:
        """How many of these references, from the first, the aggregator's context holds whole, if its size is known."""
        make_request = partial(aggregator_request, self._aggregator, self._request, self._layout)
        room = Room(make_request, self._aggregator.model, listed_context, lambda message: None)
        characters = self._budget.overhead * CHARACTERS_PER_TOKEN
        characters += sum(len(reference.text) + FENCES for reference in references)
        if not self._request.body.get("tools") and room.surely_holds(characters):
            return len(references)
        return room.whole(references)

    async def call(
        self, agent: Agent, draft: Draft, role: str, make_request: MakeRequest, references: Sequence[Reference]
    ) -> Draft:
        """Make one call. A failed call raises nothing: its draft is not ``usable``."""
        lengths = [len(reference.text) for reference in references]

        def stop() -> str | None:
            short = self._budget.exceeded(self._aggregator.model, lengths, room=1.0)
            return f"the cost limit of ${self._budget.limit:g} was near" if short else None

        writer = Writer(self._calls, agent, draft, role, make_request, stop, self._patience)
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._open.add(timeout)
                await writer.write(single_reading(references))
        except TimeoutError:
            if not draft.ended:
                self._calls.drop(draft, self._late)
        finally:
            self._open.discard(timeout)
        return draft
