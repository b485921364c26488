"""Proposals as text to read while the agents write them: one agent after another, each under a short heading.

The agents of a layer write at the same time, but a reader wants one after another. The first agent with text is shown live;
the text of the others is buffered and shown when their turn comes. A heading precedes what the aggregator thinks itself, so
that :func:`without_progress` finds it when a client sends the text back.
"""

from __future__ import annotations

import re

from moa.mixture.events import (
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentSaid,
    AgentStarted,
    AnswerBegan,
    Event,
    Noticed,
)

Place = tuple[int, str]
"""An agent: its layer and its name."""

_PROPOSAL = re.compile(r"^(?:> ?)?\*\*[^\n]+\*\* · layer \d+[^\S\n]*$", re.MULTILINE)
_OWN = re.compile(r"^(?:> ?)?\*\*[^\n]+\*\* · answer[^\S\n]*$", re.MULTILINE)


def without_progress(text: str) -> str:
    """What an aggregator thought itself, of a text that may begin with progress."""
    if not _PROPOSAL.search(text):
        return text
    own = [*_OWN.finditer(text)]
    return text[own[-1].end() :].lstrip() if own else ""


class Progress:
    """Turns events into text. Pass every event to :meth:`add`, which returns the text to show now, often none."""

    def __init__(self) -> None:
        self._roles: dict[Place, str] = {}
        self._buffers: dict[Place, list[str]] = {}
        self._ended: set[Place] = set()
        self._live: Place | None = None
        self._started = False

    def add(self, event: Event) -> str:
        """The text to show after this event."""
        match event:
            case AgentStarted():
                self._roles[event.layer, event.agent] = event.role
                return ""
            case AgentSaid(role="aggregator") if event.delta.reasoning and self._started:
                return f"**{event.agent}** · answer\n\n"
            case AgentSaid(role="proposer"):
                return self._write((event.layer, event.agent), event.delta.text)
            case AgentFinished() | AgentFailed() | AgentDropped() if self._is_proposer(event):
                return self._end(event)
            case Noticed() if event.degrades:
                return f"\n\n*{event.message}*"
            case AnswerBegan():
                return self._flush() + ("\n\n" if self._started else "")
        return ""

    def _is_proposer(self, event: AgentFinished | AgentFailed | AgentDropped) -> bool:
        return self._roles.get((event.layer, event.agent)) == "proposer"

    def _write(self, place: Place, text: str) -> str:
        if not text:
            return ""
        if self._live is None:
            self._live = place
            return self._heading(place) + text
        if self._live == place:
            return text
        self._buffers.setdefault(place, []).append(text)
        return ""

    def _end(self, event: AgentFinished | AgentFailed | AgentDropped) -> str:
        place = (event.layer, event.agent)
        note = ""
        if isinstance(event, AgentFailed):
            note = f"\n\n*failed: {event.error}*"
        elif isinstance(event, AgentDropped):
            note = f"\n\n*dropped: {event.reason}*"
        if self._live not in (None, place):
            if note or place in self._buffers:
                self._buffers.setdefault(place, []).append(note)
            self._ended.add(place)
            return ""
        text = self._heading(place) + note if self._live is None and note else note
        self._live = None
        return text + self._next()

    def _next(self) -> str:
        """Show the buffers of agents that have ended, then the first agent that still writes."""
        text = ""
        for place in [place for place in self._buffers if place in self._ended]:
            text += self._heading(place) + "".join(self._buffers.pop(place))
        if self._buffers and self._live is None:
            self._live = next(iter(self._buffers))
            text += self._heading(self._live) + "".join(self._buffers.pop(self._live))
        return text

    def _flush(self) -> str:
        text = "".join(self._heading(place) + "".join(texts) for place, texts in self._buffers.items())
        self._buffers.clear()
        return text

    def _heading(self, place: Place) -> str:
        before = "\n\n" if self._started else ""
        self._started = True
        return f"{before}**{place[1]}** · layer {place[0]}\n\n"
