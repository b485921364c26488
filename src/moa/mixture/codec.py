"""Events as lines of JSON, and back.

``moa ask --json`` prints these lines, a server streams them, and a saved run consists of them. A line holds the event's name
and its fields: ``{"event": "agent_said", "at": 1.5, "agent": "a", "layer": 1, "text": "Because"}``.

Notable decisions:
- Fields at their default are left out, except flags. Unknown fields are ignored, so a line of a newer version can be read.
- A delta's fields stand in the line itself, beside those of its event. An error is its text and its ``causes``; the type of
  the error is not kept.
- Lines are ASCII: some clients split streams at U+2028, and half of a surrogate pair, which models do emit, is no UTF-8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from json.encoder import encode_basestring_ascii
from operator import or_
from typing import Any

import msgspec

from moa.answers import Call, Cost, Delta, Usage
from moa.errors import MoaError, RunError
from moa.mixture.events import (
    EVENTS,
    AgentEvent,
    AgentFailed,
    AgentSaid,
    AgentStarted,
    Event,
    RunFailed,
)


class _Said(AgentEvent, frozen=True, kw_only=True, tag="agent_said"):
    """:class:`AgentSaid` without its delta."""

    role: str = "proposer"


class _Failed(AgentEvent, frozen=True, kw_only=True, tag="agent_failed"):
    """:class:`AgentFailed` with its error as text."""

    error: str
    causes: tuple[str, ...] = ()
    usage: Usage
    cost: Cost
    calls: tuple[Call, ...] = ()


class _RunFailed(Event, frozen=True, kw_only=True, tag="run_failed"):
    """:class:`RunFailed` with its error as text."""

    error: str
    causes: tuple[str, ...] = ()


_IN_LINES = {**EVENTS, "agent_said": _Said, "agent_failed": _Failed, "run_failed": _RunFailed}
_LINE: Any = reduce(or_, _IN_LINES.values())
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_LINE).decode
_decode_delta = msgspec.json.Decoder(Delta).decode


def encoded_event(event: Event) -> bytes:
    """The event as one line of JSON, in ASCII, without the newline."""
    parts = _parts(event)
    try:
        line = _encode(parts[0])
        if len(parts) > 1 and (more := _encode(parts[1])) != b"{}":
            line = b"%b,%b" % (line[:-1], more[1:])
        return line if line.isascii() else _NOT_ASCII.sub(_escaped, line.decode()).encode()
    except (UnicodeEncodeError, OverflowError):  # half of a surrogate pair, or an integer of more than 64 bits
        fields = {name: value for part in parts for name, value in msgspec.to_builtins(part).items()}
        return json.dumps(fields, separators=(",", ":")).encode()


def as_json(event: Event) -> dict[str, Any]:
    """The event as plain data for ``json.dumps``: ``{"event": "agent_said", "at": …, …}``."""
    data: dict[str, Any] = json.loads(encoded_event(event))
    return data


def decoded_event(line: bytes | str) -> Event:
    """The event of a line that :func:`encoded_event` made. An error comes back as a plain MoaError or RunError.

    Raises:
        ValueError: the line is not an event of a run.
    """
    try:
        event = _decode(line)
        return _whole(event, _decode_delta(line) if type(event) is _Said else None)
    except ValueError:  # what msgspec does not read, half of a surrogate pair, json may read
        return event_of(json.loads(line))


def event_of(data: Mapping[str, Any]) -> Event:
    """The event of data that :func:`as_json` made. An error comes back as a plain MoaError or RunError.

    Raises:
        ValueError: the data is not an event of a run.
    """
    try:
        event = msgspec.convert(data, _LINE)
        return _whole(event, msgspec.convert(data, Delta) if type(event) is _Said else None)
    except ValueError as error:
        raise ValueError(f"not an event of a run: {str(data)[:80]} ({error})") from None


def events_of(lines: Iterable[bytes | str]) -> Iterator[Event]:
    """The events of a run from all its lines.

    Lines of older versions do not hold the role of :class:`AgentSaid`; it is taken from the agent's :class:`AgentStarted`.

    Raises:
        ValueError: a line is not an event of a run.
    """
    roles: dict[tuple[int, str], str] = {}
    for line in lines:
        event = decoded_event(line)
        if isinstance(event, AgentStarted):
            roles[event.layer, event.agent] = event.role
        elif isinstance(event, AgentSaid):
            role = roles.get((event.layer, event.agent), event.role)
            if role != event.role:
                event = msgspec.structs.replace(event, role=role)
        yield event


def _parts(event: Event) -> tuple[msgspec.Struct, ...]:
    """The structs whose fields are the event's line."""
    if type(event) is AgentSaid:  # nearly all events of a run, so not by a slower match
        return _Said(at=event.at, agent=event.agent, layer=event.layer, role=event.role), event.delta
    match event:
        case AgentFailed(at=at, agent=agent, layer=layer, usage=usage, cost=cost, calls=calls):
            reason, causes = _text_of(event.error)
            spent = _Failed(
                at=at, agent=agent, layer=layer, error=reason, causes=causes, usage=usage, cost=cost, calls=calls
            )
            return (spent,)
        case RunFailed(at=at):
            reason, causes = _text_of(event.error)
            return (_RunFailed(at=at, error=reason, causes=causes),)
    return (event,)


def _escaped(characters: re.Match[str]) -> str:
    return encode_basestring_ascii(characters[0])[1:-1]


def _text_of(error: MoaError) -> tuple[str, tuple[str, ...]]:
    return (error.reason, error.causes) if isinstance(error, RunError) else (str(error), ())


def _whole(event: Event, delta: Delta | None) -> Event:
    """The event that :func:`_parts` took apart."""
    if type(event) is _Said:
        return AgentSaid(at=event.at, agent=event.agent, layer=event.layer, role=event.role, delta=delta or Delta())
    match event:
        case _Failed(at=at, agent=agent, layer=layer, usage=usage, cost=cost, calls=calls):
            error = RunError(event.error, event.causes) if event.causes else MoaError(event.error)
            return AgentFailed(at=at, agent=agent, layer=layer, error=error, usage=usage, cost=cost, calls=calls)
        case _RunFailed(at=at):
            return RunFailed(at=at, error=RunError(event.error, event.causes))
    return event
