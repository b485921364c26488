"""What happens in a run, as it happens.

This stream is the only truth: the terminal, the server, costs, traces and stored runs are folds or sinks of it. Events
are frozen, in the order they happened, and carry the seconds of the event loop's monotonic clock.

Every agent that started ends in exactly one of three ways: :class:`AgentFinished` (its text is used), :class:`AgentFailed`
(the call failed) or :class:`AgentDropped` (the call was fine or given up, and its text is not used). A run ends with
:class:`RunFinished` or :class:`RunFailed`, unless it is cancelled; whoever records it then ends the record with
:class:`RunStopped`.

As lines of JSON (:func:`as_json`) events are what ``moa ask --json`` prints, what a server streams and what a kept run is;
:func:`event_of` makes events of them again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

from moa.errors import MoaError, RunError
from moa.messages import Answer, Call, Cost, Delta, Reference, Usage, joined_tool_calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``at``: seconds on the event loop's monotonic clock; only differences mean anything."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """An agent's place in a mixture, before it has said anything. ``layer`` counts from 1; ``role`` as in ``Call``."""

    agent: str
    layer: int
    model: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run began. ``started`` is the wall clock, seconds since 1970; ``seats`` are all agents, fallbacks included."""

    run_id: str
    mixture: str
    schedule: str
    started: float
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEvent(Event):
    """Something about one agent; ``layer`` and ``agent`` together name it."""

    agent: str
    layer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStarted(AgentEvent):
    """Its call began. ``references`` names the agents of the layer before whose proposals it was given."""

    model: str
    role: str
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentContinued(AgentEvent):
    """It has read on, and a further call goes on with its text. ``references`` as in :class:`AgentStarted`."""

    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSaid(AgentEvent):
    """It said, thought or asked for something."""

    delta: Delta


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFinished(AgentEvent):
    """Its text is used. ``cut`` says why it ends before the model was done; None when it is whole."""

    finish_reason: str | None
    usage: Usage
    cost: Cost
    cut: str | None = None
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFailed(AgentEvent):
    """Its call failed. ``usage`` and ``cost`` are what was spent by then."""

    error: MoaError
    usage: Usage
    cost: Cost
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDropped(AgentEvent):
    """Its text is not used, for this reason. ``usage`` and ``cost`` are what was spent all the same."""

    reason: str
    usage: Usage
    cost: Cost
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecalled(AgentEvent):
    """Its proposal is there from an earlier run, and it is not asked. ``cut`` as in :class:`Reference`."""

    model: str
    text: str
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerBegan(Event):
    """The proposals are there, and the answer is made from these. ``recalled``: no proposer was asked for them, because
    they are the turn's, put back while its tool calls go on, or were given with the question."""

    references: tuple[Reference, ...]
    recalled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected(AgentEvent):
    """The answer is this agent's proposal, word for word; ``reason`` says who chose it, or how."""

    text: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed(Event):
    """Something the reader of the answer should know; ``degrades`` when the answer is less than the mixture promises."""

    message: str
    degrades: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """The answer is complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Event):
    """There is no answer. Whoever folds the events finds what there is in ``error.answer``."""

    error: RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopped(Event):
    """Whoever asked had it stopped; every call that was under way was cut off. No mixture tells this itself: it is gone."""


def as_json(event: Event) -> dict[str, Any]:
    """The event as plain data for ``json.dumps``: ``{"event": "agent_said", "at": …, …}``, empty fields left out."""
    kind: Any = type(event)
    data: dict[str, Any] = {"event": _NAMES[kind]}
    for name in _fields(kind):
        value = getattr(event, name)
        if isinstance(value, MoaError):
            data[name] = value.reason if isinstance(value, RunError) else str(value)
            if isinstance(value, RunError) and value.causes:
                data["causes"] = list(value.causes)
        elif isinstance(value, Delta):
            data.update(_plain(value))
        elif value is not None and value != () and value != []:
            data[name] = _plain(value)
    return data


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _plain(value: Any) -> Any:
    kind: Any = type(value)
    if kind in (str, float, int, bool):
        return value
    if kind is Delta:
        told = ((name, getattr(value, name)) for name in _fields(Delta))
        return {name: _plain(item) for name, item in told if item not in ("", None, (), [])}
    if hasattr(kind, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in _fields(kind)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def encoded_event(event: Event) -> bytes:
    """The event as one line of JSON in UTF-8, without the line's end."""
    if type(event) is AgentSaid and event.delta.is_plain:
        # Nearly all events of a run are these; written out, one takes a tenth of the time.
        agent, text = _encode(event.agent), _encode(event.delta.text)
        line = f'{{"event":"agent_said","at":{event.at!r},"agent":{agent},"layer":{event.layer},"text":{text}}}'
        return line.encode()
    return _encode(as_json(event)).encode()


_encode = json.JSONEncoder(separators=(",", ":")).encode


def event_of(data: Mapping[str, Any]) -> Event:
    """The event that became this in :func:`as_json`. Of errors their words are left: they come back as plain RunErrors.

    Raises:
        ValueError: it is no such event.
    """
    told = dict(data)
    try:
        kind = EVENTS[told.pop("event")]
        if kind is AgentSaid:
            if data.keys() == _OF_PLAIN_WORDS:
                return AgentSaid(
                    at=data["at"], agent=data["agent"], layer=data["layer"], delta=Delta(text=data["text"])
                )
            place = {name: told.pop(name) for name in ("at", "agent", "layer")}
            return AgentSaid(**place, delta=_delta(told))
        causes = told.pop("causes", ())
        for name, value in told.items():
            if name == "error":
                told[name] = RunError(value, causes) if kind is RunFailed else MoaError(value)
            elif name in _READ:
                told[name] = _READ[name](value)
        # What as_json left out, being empty, and has no default.
        for name in {field.name for field in fields(kind)} - told.keys():
            if name in ("finish_reason", "references", "seats"):
                told[name] = None if name == "finish_reason" else ()
        return kind(**told)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no event of a run: {str(dict(data))[:80]} ({error})") from None


_OF_PLAIN_WORDS = {"event", "at", "agent", "layer", "text"}


def _delta(told: dict[str, Any]) -> Delta:
    return Delta(**{name: _READ[name](value) if name in _READ else value for name, value in told.items()})


def _call(told: Mapping[str, Any]) -> Call:
    return Call(**{name: _READ[name](value) if value and name in _READ else value for name, value in told.items()})


_READ: dict[str, Callable[[Any], Any]] = {
    "usage": lambda told: Usage(**told),
    "cost": lambda told: Cost(**told),
    "calls": lambda told: tuple(_call(call) for call in told),
    "tool_calls": tuple,
    "seats": lambda told: tuple(Seat(**seat) for seat in told),
    "references": lambda told: tuple(Reference(**each) if isinstance(each, Mapping) else each for each in told),
}
"""How fields that are more than plain data are read again."""

_NAMES: dict[type[Event], str] = {
    kind: re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
    for kind in (
        *(RunStarted, AgentStarted, AgentContinued, AgentSaid, AgentFinished, AgentFailed, AgentDropped, AgentRecalled),
        *(AnswerBegan, Selected, Noticed, RunFinished, RunFailed, RunStopped),
    )
}
EVENTS = {name: kind for kind, name in _NAMES.items()}
"""Every kind of event, by the name that its lines have."""


class Fold:
    """The answer so far, from the events so far. Give it every event in order; read :attr:`answer` at any time."""

    def __init__(self) -> None:
        self._run_id = ""
        self._began: float | None = None
        self._ended: float | None = None
        self._first: float | None = None
        self._calls: dict[tuple[int, str], _Writing] = {}
        self._speaking: _Writing | None = None
        self._selected: Selected | None = None
        self._degraded: list[str] = []
        self._error: MoaError | None = None
        self._models: dict[tuple[int, str], str] = {}
        self._recalled: dict[tuple[int, str], Call] = {}

    def add(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._run_id, self._began = event.run_id, event.at
                self._models = {(seat.layer, seat.agent): seat.model for seat in event.seats}
            case AgentStarted():
                started = None if self._began is None else event.at - self._began
                writing = _Writing(Call(event.agent, event.layer, event.model, event.role, started=started), event.at)
                self._calls[event.layer, event.agent] = writing
                if event.role == "aggregator":
                    self._speaking, self._first = writing, None
            case AgentSaid():
                writing = self._calls[event.layer, event.agent]
                writing.say(event.delta, event.at)
                if writing is self._speaking and self._first is None and (event.delta.text or event.delta.tool_calls):
                    self._first = event.at
            case AgentFinished():
                self._end(event, finish_reason=event.finish_reason, cut=event.cut is not None)
            case AgentFailed():
                self._end(event, dropped=str(event.error))
                self._degraded.append(f"{event.agent} (layer {event.layer}) failed: {event.error}")
            case AgentDropped():
                self._end(event, dropped=event.reason)
                self._degraded.append(f"{event.agent} (layer {event.layer}) was dropped: {event.reason}")
            case AgentRecalled():
                self._recall(Reference(event.agent, event.text, event.cut, event.layer), event.model)
            case AnswerBegan(recalled=True):
                for reference in event.references:
                    self._recall(reference, self._models.get((reference.layer, reference.agent), ""))
            case Selected():
                self._selected, self._first = event, event.at
            case Noticed():
                if event.degrades:
                    self._degraded.append(event.message)
            case RunFinished() | RunStopped():
                self._ended = event.at
            case RunFailed():
                self._ended, self._error = event.at, event.error
                event.error.answer = self.answer

    def _recall(self, reference: Reference, model: str) -> None:
        call = Call(reference.agent, reference.layer, model, text=reference.text, cut=reference.cut)
        self._recalled[reference.layer, reference.agent] = call

    def _end(self, event: AgentFinished | AgentFailed | AgentDropped, **changes: Any) -> None:
        self._calls[event.layer, event.agent].end(event, **changes)

    @property
    def answer(self) -> Answer:
        calls = tuple(writing.snapshot() for writing in self._calls.values())
        costs = [call.cost for call in calls if call.cost is not None]
        answer = Answer(
            usage=sum((call.usage for call in calls if call.usage), Usage()),
            cost=sum(costs[1:], costs[0]) if costs else Cost(),
            calls=calls,
            recalled=tuple(self._recalled.values()),
            time_to_first_token=None if self._first is None or self._began is None else self._first - self._began,
            duration=None if self._ended is None or self._began is None else self._ended - self._began,
            degraded=tuple(self._degraded),
            error=self._error,
            run_id=self._run_id,
        )
        if self._selected:
            return replace(answer, text=self._selected.text, finish_reason="stop")
        if self._speaking and self._speaking.call.dropped is None:
            said = self._speaking.snapshot()
            return replace(
                answer,
                text=said.text,
                reasoning=said.reasoning,
                tool_calls=joined_tool_calls(self._speaking.tool_calls),
                finish_reason=said.finish_reason,
            )
        return answer


class _Writing:
    """A call while it is being folded."""

    def __init__(self, call: Call, began: float) -> None:
        self.call, self.began = call, began
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.tool_calls: list[Any] = []
        self.first: float | None = None

    def say(self, delta: Delta, at: float) -> None:
        self.first = at if self.first is None else self.first
        self.text.append(delta.text)
        self.reasoning.append(delta.reasoning)
        self.tool_calls.extend(delta.tool_calls)

    def end(self, event: AgentFinished | AgentFailed | AgentDropped, **changes: Any) -> None:
        self.call = replace(
            self.call, usage=event.usage, cost=event.cost, calls=event.calls, duration=event.at - self.began, **changes
        )

    def snapshot(self) -> Call:
        return replace(
            self.call,
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            time_to_first_token=None if self.first is None else self.first - self.began,
        )


def fold(events: Iterable[Event]) -> Answer:
    """What a run came to, from its events; for a run that is not over, what it has come to so far."""
    folding = Fold()
    for event in events:
        folding.add(event)
    return folding.answer
