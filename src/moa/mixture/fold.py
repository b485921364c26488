"""The answer that a run's events add up to, at any point of the run. Folding changes no event."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from moa.answers import Answer, Call, Cost, Delta, Reference, Usage
from moa.errors import RunError
from moa.mixture.events import (
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentRecalled,
    AgentSaid,
    AgentSpent,
    AgentStarted,
    Analysed,
    AnswerBegan,
    Event,
    Moderated,
    Noticed,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    Seat,
    Selected,
    VotesCounted,
)
from moa.mixture.thoughts import of_analysis, own_heading
from moa.pieces import joined_tool_calls, take_back


def fold(events: Iterable[Event]) -> Answer:
    """The result of a run, from its events; for a run in progress, the result so far."""
    folding = Fold()
    for event in events:
        folding.add(event)
    return folding.answer


class Fold:
    """The answer so far, from the events so far. Add every event in order; read :attr:`answer` at any time."""

    def __init__(self) -> None:
        self._run_id = ""
        self._began: float | None = None
        self._ended: float | None = None
        self._first: float | None = None
        self._calls: dict[tuple[int, str], _OpenCall] = {}
        self._answering: _OpenCall | None = None
        self._selected: Selected | None = None
        self._analysed: Analysed | None = None
        self._passed_over: set[tuple[int, str]] = set()
        self._agreement: float | None = None
        self._degraded: list[str] = []
        self._error: RunError | None = None
        self._seats: dict[tuple[int, str], Seat] = {}
        self._recalled: dict[tuple[int, str], Call] = {}

    def add(self, event: Event) -> None:
        """Add the next event.

        Raises:
            KeyError: it belongs to an agent that has not started.
        """
        match event:
            case AgentSaid(layer=layer, agent=agent, delta=delta, at=at):
                call = self._calls[layer, agent]
                call.add(delta, at)
                if call is self._answering and self._first is None and (delta.text or delta.tool_calls):
                    self._first = at
            case RunStarted():
                self._run_id, self._began = event.run_id, event.at
                self._seats = {(seat.layer, seat.agent): seat for seat in event.seats}
            case AgentStarted():
                started = None if self._began is None else event.at - self._began
                spent = self._calls.get((event.layer, event.agent))
                call = _OpenCall(Call(event.agent, event.layer, event.model, event.role, started=started), event.at)
                if spent:  # before it started: its prompt was sent ahead to warm a cache
                    call.call = replace(call.call, **_figures(spent.call), attempts=spent.call.attempts)
                self._calls[event.layer, event.agent] = call
                if event.role == "aggregator":
                    self._answering, self._first = call, None
            case AgentSpent():
                self._spend(event)
            case AgentFinished():
                self._end(event, finish_reason=event.finish_reason, cut=event.cut is not None)
            case AgentFailed():
                self._end(event, dropped=str(event.error))
                self._degraded.append(f"{event.agent} (layer {event.layer}) failed: {event.error}")
            case AgentDropped():
                self._end(event, dropped=event.reason)
                if not event.skipped:
                    self._degraded.append(f"{event.agent} (layer {event.layer}) was dropped: {event.reason}")
            case AgentRecalled():
                self._recall(Reference(event.agent, event.text, event.cut, event.layer), event.model)
            case AnswerBegan(recalled=True):
                for reference in event.references:
                    seat = self._seats.get((reference.layer, reference.agent))
                    self._recall(reference, seat.model if seat else "")
            case Moderated():
                for name in event.dropped:
                    self._pass_over((event.layer, name), f"{event.agent} kept other proposals")
            case Analysed():
                self._analysed = event
            case VotesCounted():
                self._agreement = event.agreement
            case Selected():
                self._selected, self._first = event, event.at
            case Noticed(degrades=True):
                self._degraded.append(event.message)
            case RunFinished() | RunStopped():
                self._ended = event.at
            case RunFailed():
                self._ended, self._error = event.at, event.error

    def _recall(self, reference: Reference, model: str) -> None:
        call = Call(reference.agent, reference.layer, model, text=reference.text, cut=reference.cut)
        self._recalled[reference.layer, reference.agent] = call

    def _pass_over(self, place: tuple[int, str], reason: str) -> None:
        self._passed_over.add(place)
        if place in self._calls:
            self._calls[place].call = replace(self._calls[place].call, dropped=reason)
        elif place in self._recalled:
            self._recalled[place] = replace(self._recalled[place], dropped=reason)

    def _spend(self, event: AgentSpent) -> None:
        key = (event.layer, event.agent)
        if key not in self._calls:
            seat = self._seats.get(key)
            model, role = (seat.model, seat.role) if seat else ("", "proposer")
            call = Call(
                event.agent, event.layer, model, role, dropped="its prompt was sent ahead, and it was not called"
            )
            self._calls[key] = _OpenCall(call, event.at)
        self._calls[key].spend(event)

    def _end(self, event: AgentFinished | AgentFailed | AgentDropped, **changes: Any) -> None:
        self._calls[event.layer, event.agent].end(event, **changes)

    def call(self, layer: int, agent: str) -> Call | None:
        """One agent's call up to the last event; None where it has not begun."""
        call = self._calls.get((layer, agent))
        return call.snapshot() if call else None

    @property
    def answer(self) -> Answer:
        """The answer up to the last event, as a new object."""
        calls = tuple(call.snapshot(answers=call is self._source) for call in self._calls.values())
        costs = [call.cost for call in calls if call.cost is not None]
        answer = Answer(
            usage=sum((call.usage for call in calls if call.usage), Usage()),
            cost=sum(costs[1:], costs[0]) if costs else Cost(),
            calls=calls,
            recalled=tuple(self._recalled.values()),
            time_to_first_token=None if self._first is None or self._began is None else self._first - self._began,
            duration=None if self._ended is None or self._began is None else self._ended - self._began,
            agreement=self._agreement,
            degraded=tuple(self._degraded),
            error=self._error,
            run_id=self._run_id,
            passed_over=tuple(
                call for call in (*self._recalled.values(), *calls) if (call.layer, call.agent) in self._passed_over
            ),
            analysis=self._analysed.analysis if self._analysed else None,
        )
        if self._selected:
            return replace(answer, text=self._selected.text, finish_reason="length" if self._selected.cut else "stop")
        if self._answering and self._answering is self._source:
            call = self._answering.snapshot()
            return replace(
                answer,
                text=call.text,
                reasoning=self._thoughts(call),
                tool_calls=joined_tool_calls(self._answering.tool_calls),
                finish_reason=call.finish_reason,
            )
        return answer

    def _thoughts(self, call: Call) -> str:
        """What a reader gets as the answer's reasoning; see :mod:`moa.mixture.thoughts`."""
        if not self._analysed:
            return call.reasoning
        own = own_heading(call.agent) + call.reasoning if call.reasoning else ""
        return of_analysis(self._analysed) + own

    @property
    def _source(self) -> _OpenCall | None:
        """The call whose text is the answer; None where there is no answer, or no call of this run wrote it."""
        if self._selected:
            return self._calls.get((self._selected.layer, self._selected.agent))
        return self._answering if self._answering and self._answering.call.dropped is None else None


class _OpenCall:
    """A call whose events are being added."""

    def __init__(self, call: Call, began: float) -> None:
        self.call, self.began = call, began
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.tool_calls: list[Any] = []
        self.first: float | None = None

    def add(self, delta: Delta, at: float) -> None:
        self.first = at if self.first is None else self.first
        take_back(self.text, self.reasoning, delta.thought)
        self.text.append(delta.text)
        self.reasoning.append(delta.reasoning)
        self.tool_calls.extend(delta.tool_calls)

    def spend(self, event: AgentSpent) -> None:
        attempts = (*self.call.attempts, event.attempt) if event.attempt else self.call.attempts
        self.call = replace(self.call, **_figures(event), attempts=attempts)

    def end(self, event: AgentFinished | AgentFailed | AgentDropped, **changes: Any) -> None:
        self.call = replace(self.call, **_figures(event), duration=event.at - self.began, **changes)

    def snapshot(self, *, answers: bool = False) -> Call:
        return replace(
            self.call,
            answers=answers,
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            time_to_first_token=None if self.first is None else self.first - self.began,
        )


def _figures(spent: Call | AgentSpent | AgentFinished | AgentFailed | AgentDropped) -> dict[str, Any]:
    return {"usage": spent.usage, "cost": spent.cost, "calls": spent.calls}
