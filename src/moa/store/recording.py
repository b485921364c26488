"""A run while it is recorded: its event lines so far, and its followers.

A recording is a list that only grows. Followers read it at their own pace, so a slow one does not block the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from moa.errors import RunError
from moa.messages import Answer
from moa.mixture.codec import encoded_event
from moa.mixture.events import (
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentRecalled,
    AgentSpent,
    Event,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
)
from moa.store.changes import Begun, Change, Ended, Lines

FLUSH = 0.5
"""Minimum seconds between two writes of a run in progress."""

PACKET = 500
"""Maximum lines that a follower receives at once."""


class Recording:
    """One run, from its first event on. Made by :meth:`moa.store.recordings.Recordings.new`.

    Args:
        start: called with the recording, the run's ID and its start, in seconds since 1970; gives how it began.
        change: receives every change for the archive after that.

    Attributes:
        lines: its event lines so far; the first has the number 1.
        outcome: ``running``, then ``answered``, ``degraded``, ``failed`` or ``stopped``.
        begun: how the run began; None before the first event.
        started: set with the first event.
        stopping: whether :meth:`stop` was called while the run was in progress.
    """

    def __init__(self, start: Callable[[Recording, str, float], Begun], change: Callable[[Change], None]) -> None:
        self.lines: list[bytes] = []
        self.outcome = "running"
        self.begun: Begun | None = None
        self.started = asyncio.Event()
        self.stopping = self._cancelled = False
        self._start, self._change = start, change
        self._task: asyncio.Task[Any] | None = None
        self._more, self._ended = asyncio.Event(), asyncio.Event()
        self._written, self._last_written = 0, 0.0
        self._flush: asyncio.TimerHandle | None = None
        self._last: Event | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended, with an answer or without."""
        return self._ended.is_set()

    def add(self, event: Event) -> None:
        """Record the next event. The task that adds the first event is the one that :meth:`cancel` cancels."""
        self.lines.append(encoded_event(event))
        self._last = event
        if isinstance(event, RunStarted):
            self._task = asyncio.current_task()
            self._last_written = asyncio.get_running_loop().time()
            self.begun = self._start(self, event.run_id, event.started)
            self.started.set()
        elif isinstance(event, AgentFinished | AgentFailed | AgentDropped | AgentRecalled | AgentSpent):
            self._flush_soon()
        self._more.set()
        self._more.clear()

    def end(self, outcome: str, answer: Answer) -> None:
        """End the record: no more events will come. Does nothing before the first event, or when called again.

        A cancelled run gets a RunStopped event and the outcome ``stopped``, unless its last event was added already: then
        only its client disconnected too early to see it.

        Args:
            outcome: ``answered``, ``degraded``, ``failed``, or ``cancelled``.
            answer: the run's result, estimates included.
        """
        if self.begun is None or self.has_ended:
            return
        now = asyncio.get_running_loop().time()
        has_last_event = isinstance(self._last, RunFinished | RunFailed)
        if outcome == "cancelled" and has_last_event:
            outcome = "failed" if isinstance(self._last, RunFailed) else "degraded" if answer.degraded else "answered"
        elif outcome == "cancelled":
            outcome = "stopped"
            self._add_estimates(answer, now)
            self.add(RunStopped(at=now))
        elif not has_last_event:
            self._add_estimates(answer, now)
            self.add(RunFailed(at=now, error=RunError("internal error; see the log")))
        self.outcome = outcome
        self._ended.set()
        self._more.set()
        self.flush()
        self._change(Ended(self.begun.run, outcome, answer))

    def _add_estimates(self, answer: Answer, now: float) -> None:
        """Record what the calls cost that were cut off, so that every reader of the record counts the same."""
        for call in answer.calls:
            if call.duration is None and call.dropped is None and call.usage and call.cost:
                spent = AgentSpent(
                    at=now, agent=call.agent, layer=call.layer, usage=call.usage, cost=call.cost, calls=call.calls
                )
                self.add(spent)

    async def follow(self, after: int = 0) -> AsyncGenerator[tuple[int, list[bytes]], None]:
        """The run's lines as they arrive, in pairs of the first line's number and the lines; ends with the run.

        Args:
            after: the number of the last line that the caller has already.
        """
        while True:
            while after < len(self.lines):
                lines = self.lines[after : after + PACKET]
                yield after + 1, lines
                after += len(lines)
            if self.has_ended:
                return
            await self._more.wait()

    async def stop(self) -> None:
        """Cancel the run at a user's request, and wait until it has ended."""
        self.stopping = not self.has_ended
        await self.cancel()

    async def cancel(self) -> None:
        """Cancel the run, and wait until it has ended."""
        if not self.has_ended and self._task:
            if not self._cancelled:
                self._cancelled = True
                self._task.cancel()
            await self._ended.wait()

    def flush(self) -> None:
        """Queue the lines that the archive does not have yet."""
        if self._flush:
            self._flush.cancel()
            self._flush = None
        self._last_written = asyncio.get_running_loop().time()
        if self.begun and self._written < len(self.lines):
            self._change(Lines(self.begun.run, self._written + 1, self.lines[self._written :]))
            self._written = len(self.lines)

    def _flush_soon(self) -> None:
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_at(self._last_written + FLUSH, self.flush)
