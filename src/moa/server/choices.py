"""A run as one choice of an answer, and several choices over the same proposals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from moa.closing import cancelled
from moa.messages import Answer, Delta, Reference, Request, pieces_of
from moa.mixture.events import AgentFailed, AgentSaid, AgentStarted, AnswerBegan, Event, RunFailed, Selected
from moa.mixture.mixture import Mixture
from moa.mixture.thoughts import Thoughts
from moa.pieces import joined_reasoning_details
from moa.server.spans import RunSpan
from moa.server.telemetry import log_failed_call
from moa.store.outcome import recorded
from moa.store.recording import Recording

Report = Callable[[Answer, str, RunSpan], None]
"""Called when a run has ended: its answer; ``answered``, ``degraded``, ``failed`` or ``cancelled``; and its span."""

NewChoice = Callable[[int, Sequence[Reference] | None], "Choice"]
"""Makes the choice with this index, from these proposals; None calls the proposers."""


class Step(NamedTuple):
    """One event of a choice's run, with the part of the answer that it holds, if any."""

    choice: Choice
    event: Event
    deltas: Sequence[Delta]


class Choice:
    """One choice of an answer: a run and the words of its answer; recorded where there is a recording.

    ``restart``, ``proposals`` and ``kept`` are as in :meth:`Mixture.run`.

    Attributes:
        index: the choice's place in the answer, from 0.
        extra: the answer's further fields (``logprobs``, ``refusal``, …), their pieces joined.
    """

    def __init__(
        self,
        mixture: Mixture,
        request: Request,
        report: Report,
        index: int = 0,
        *,
        recording: Recording | None = None,
        restart: bool = True,
        proposals: Sequence[Reference] | None = None,
        kept: Sequence[Reference] = (),
    ) -> None:
        self.index = index
        self.extra: dict[str, Any] = {}
        self._run = mixture.run(request, restart=restart, proposals=proposals, kept=kept)
        self._report, self._recording, self._thoughts = report, recording, Thoughts()

    @property
    def answer(self) -> Answer:
        """The answer so far; complete after the last step."""
        return self._run.answer

    async def steps(self) -> AsyncGenerator[Step, None]:
        """Run it.

        Raises:
            RunError: the run failed.
        """
        span = RunSpan()
        events = recorded(
            self._run,
            recording=self._recording,
            on_end=lambda outcome, answer: self._report(answer, outcome, span),
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, RunFailed):
                    raise event.error.with_answer(self.answer)
                if isinstance(event, AgentFailed):
                    log_failed_call(self.answer.run_id, event)
                yield Step(self, event, (*self._thoughts.add(event), *self._answer_in(event)))

    def _answer_in(self, event: Event) -> Sequence[Delta]:
        """The part of the answer that an event holds; a fallback's start discards what its predecessor wrote."""
        match event:
            case AgentStarted(role="aggregator"):
                self.extra = {}
            case AgentSaid(role="aggregator"):
                for name, value in (event.delta.extra or {}).items():
                    _join(self.extra, name, value)
                return (event.delta,)
            case Selected():
                return [Delta(text=piece) for piece in pieces_of(event.text)]
        return ()


_IN_PIECES = frozenset({"refusal", "arguments", "data", "transcript"})
"""Texts that arrive in pieces: a refusal, the arguments of a ``function_call``, and those of ``audio``."""


def _join(fields: dict[str, Any], name: str, value: Any) -> None:
    """Add a piece of a field that arrives in pieces (``logprobs``, ``refusal``), for an answer in one piece."""
    known = fields.get(name)
    if name in ("reasoning_details", "thinking_blocks") and isinstance(value, list):
        fields[name] = joined_reasoning_details(known if isinstance(known, list) else (), value)
    elif isinstance(value, list):
        if isinstance(known, list):
            known.extend(value)
        else:
            fields[name] = [*value]
    elif isinstance(value, dict):
        if not isinstance(known, dict):
            known = fields[name] = {}
        for key, item in value.items():
            _join(known, key, item)
    elif name in _IN_PIECES and isinstance(value, str) and isinstance(known, str):
        fields[name] = known + value
    else:
        fields[name] = value


async def steps_of(count: int, new_choice: NewChoice) -> AsyncGenerator[Step, None]:
    """Run so many choices at the same time: the proposers are called once, the aggregator once for each choice.

    Raises:
        RunError: a choice has no answer.
    """
    first = new_choice(0, None)
    if count == 1:
        async with aclosing(first.steps()) as steps:
            async for step in steps:
                yield step
        return
    queue: asyncio.Queue[Step | None] = asyncio.Queue()

    async def run(choice: Choice) -> None:
        try:
            async with aclosing(choice.steps()) as steps:
                async for step in steps:
                    queue.put_nowait(step)
        finally:
            queue.put_nowait(None)

    tasks = [asyncio.create_task(run(first))]
    try:
        running = 1
        while running:
            received = await queue.get()
            if received is None:
                running -= 1
                for task in tasks:
                    if task.done():
                        task.result()
                continue
            if received.choice is first and isinstance(received.event, AnswerBegan):
                proposals = received.event.references
                tasks += [asyncio.create_task(run(new_choice(index, proposals))) for index in range(1, count)]
                running += count - 1
            yield received
    finally:
        await cancelled(*tasks, grace=None)
