"""The events of a run, in the order they happen.

The terminal, the server, costs, traces and saved runs all derive from this one stream. Events are frozen and carry the
seconds of the event loop's monotonic clock.

Every agent that started ends with exactly one of three events: :class:`AgentFinished` (its text is used),
:class:`AgentFailed` (the call failed) or :class:`AgentDropped` (the call succeeded or was given up, and its text is not
used). A run ends with :class:`RunFinished` or :class:`RunFailed`, unless it is cancelled; a recorder of the run then ends
the record with :class:`RunStopped`.

:mod:`moa.mixture.codec` writes events as lines of JSON, and :mod:`moa.mixture.fold` makes an answer of them. Events are
``msgspec`` structs, which makes one in 0.1 µs where a frozen dataclass takes 1 µs, and needs no hand-written encoding.
"""

from __future__ import annotations

import re

import msgspec

from moa.analysis import Analysis
from moa.answers import Attempt, Call, Cost, Delta, Reference, Usage
from moa.errors import MoaError, RunError


def _line_name(class_name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


def _flag() -> bool:
    """A flag, False by default, that lines always hold, although they leave out other fields at their default."""
    flag: bool = msgspec.field(default_factory=bool)
    return flag


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag=_line_name):
    """``at``: seconds on the event loop's monotonic clock; only differences mean anything."""

    at: float


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's place in a mixture. ``layer`` counts from 1; ``role`` as in :class:`~moa.answers.Call`."""

    agent: str
    layer: int
    model: str
    role: str


class RunStarted(Event, frozen=True, kw_only=True):
    """A run began. ``started`` is the wall clock, seconds since 1970; ``seats`` are all agents, fallbacks included."""

    run_id: str
    mixture: str
    schedule: str
    started: float
    seats: tuple[Seat, ...] = ()


class AgentEvent(Event, frozen=True, kw_only=True):
    """An event of one agent; ``layer`` and ``agent`` together name the agent."""

    agent: str
    layer: int


class AgentStarted(AgentEvent, frozen=True, kw_only=True):
    """The agent's call began. ``references`` names the agents of the previous layer whose proposals it received."""

    model: str
    role: str
    references: tuple[str, ...] = ()


class AgentContinued(AgentEvent, frozen=True, kw_only=True):
    """The agent has read further proposals, and another call continues its text. ``references`` as in
    :class:`AgentStarted`."""

    references: tuple[str, ...] = ()


class AgentSaid(AgentEvent, frozen=True, kw_only=True):
    """A piece of text, reasoning or a tool call arrived from the agent.

    ``role`` as in :class:`~moa.answers.Call`: the words of an ``aggregator`` are the answer's. When a fallback starts after
    an aggregator broke off, its words replace those of the first.
    """

    delta: Delta
    role: str = "proposer"


class AgentSpent(AgentEvent, frozen=True, kw_only=True):
    """One of the agent's calls has ended, and the agent has not: a failed call that is retried, the slower one of a hedge, a
    call that warms a cache (it may come before :class:`AgentStarted`), a piece of text that another call continues, or a
    call inside a nested mixture.

    ``usage`` and ``cost`` are the agent's so far, and those of its last event include them. ``attempt`` is the call;
    ``calls`` are those of a nested mixture so far, with estimates for calls in flight.
    """

    usage: Usage
    cost: Cost
    attempt: Attempt | None = None
    calls: tuple[Call, ...] = ()


class AgentFinished(AgentEvent, frozen=True, kw_only=True):
    """The agent's text is used. ``cut`` is the reason why the text ends early; None when it is whole."""

    finish_reason: str | None = None
    usage: Usage
    cost: Cost
    cut: str | None = None
    calls: tuple[Call, ...] = ()


class AgentFailed(AgentEvent, frozen=True, kw_only=True):
    """The agent's call failed. ``usage`` and ``cost`` are what was spent up to then."""

    error: MoaError
    usage: Usage
    cost: Cost
    calls: tuple[Call, ...] = ()


class AgentDropped(AgentEvent, frozen=True, kw_only=True):
    """The agent's text is not used, for this reason. ``usage`` and ``cost`` are what it cost nevertheless.

    ``skipped``: an early exit needs no text of it, so the answer is as good as the mixture promises.
    """

    reason: str
    usage: Usage
    cost: Cost
    calls: tuple[Call, ...] = ()
    skipped: bool = False


class AgentSkipped(AgentEvent, frozen=True, kw_only=True):
    """The agent is not called at all, because proposals before it agree; the answer is as good as the mixture promises."""

    reason: str


class AgentRecalled(AgentEvent, frozen=True, kw_only=True):
    """The agent's proposal comes from an earlier run, and the agent is not called. ``cut`` as in
    :class:`~moa.answers.Reference`."""

    model: str
    text: str
    cut: bool = _flag()


class Moderated(AgentEvent, frozen=True, kw_only=True):
    """A moderator has chosen which proposals of its layer go on. ``kept`` and ``dropped`` name their agents.

    ``ends``: the answer is made from those kept, and the layers after are skipped. A dropped proposal degrades nothing.
    """

    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    ends: bool = _flag()


class AnswerBegan(Event, frozen=True, kw_only=True):
    """The proposals are complete, and the answer is made from these.

    ``recalled``: no proposer was called, because the proposals are the turn's, reused while its tool calls continue, or came
    with the question. ``turn``: the digest of the turn under which a memory keeps the proposals; empty without tool calls.
    """

    references: tuple[Reference, ...] = ()
    recalled: bool = _flag()
    turn: str = ""


class Analysed(AgentEvent, frozen=True, kw_only=True):
    """The agent has compared the proposals; the aggregator reads its analysis, too, when it answers."""

    analysis: Analysis


class AgentVoted(AgentEvent, frozen=True, kw_only=True):
    """The answer that an agent's proposal gives, in the form in which it is compared; empty where it gives none."""

    answer: str = ""


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The agents that gave one answer. ``score``: a sum of vote weights, or with ``mux`` the share of its samples in which
    the model that agrees most with itself on this answer gave it."""

    answer: str
    score: float
    agents: tuple[str, ...]


class VotesCounted(Event, frozen=True, kw_only=True):
    """The answers of the proposals were counted, by ``vote`` or ``mux``; the first cluster has won.

    ``agreement``: as in :class:`~moa.answers.Answer`.
    """

    way: str
    clusters: tuple[Cluster, ...]
    agreement: float


class Selected(AgentEvent, frozen=True, kw_only=True):
    """The answer is this agent's proposal, word for word; ``reason`` names the agent or the rule that selected it.

    ``cut`` as in :class:`~moa.answers.Reference`."""

    text: str
    reason: str
    cut: bool = False


class Noticed(Event, frozen=True, kw_only=True):
    """A notice for the reader of the answer; ``degrades`` when the answer is less than the mixture promises."""

    message: str
    degrades: bool = _flag()


class RunFinished(Event, frozen=True, kw_only=True):
    """The answer is complete."""


class RunFailed(Event, frozen=True, kw_only=True):
    """The run ended without an answer. The fold of the run's events holds the proposals and what they cost."""

    error: RunError


class RunStopped(Event, frozen=True, kw_only=True):
    """The caller cancelled the run, and all calls in flight were closed. Only a recorder of the run emits this event, since
    a cancelled run emits no more events itself."""


EVENTS: dict[str, type[Event]] = {
    _line_name(kind.__name__): kind
    for kind in (
        *(RunStarted, AgentStarted, AgentContinued, AgentSaid, AgentSpent, AgentFinished, AgentFailed, AgentDropped),
        *(AgentSkipped, AgentRecalled, Moderated, AnswerBegan, Analysed, AgentVoted, VotesCounted, Selected, Noticed),
        *(RunFinished, RunFailed, RunStopped),
    )
}
"""Every kind of event, by its name in lines of JSON."""
