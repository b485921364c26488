"""What of a run a reader gets as reasoning, which clients fold away: the analysis, then what the aggregator thinks itself.

Each part has a heading, so that a server finds what the aggregator thought when a client sends the text back.
"""

from __future__ import annotations

from moa.answers import Delta
from moa.mixture.events import AgentSaid, Analysed, Event


def of_analysis(event: Analysed) -> str:
    """An analysis under its heading."""
    return f"**{event.agent}** · layer {event.layer}\n\n{event.analysis.text}\n\n"


def own_heading(agent: str) -> str:
    """The heading of what an aggregator thinks itself, where something precedes it."""
    return f"**{agent}** · answer\n\n"


class Thoughts:
    """The deltas of an answer's reasoning. Pass every event to :meth:`add`, which returns those that precede its own."""

    def __init__(self) -> None:
        self._needs_heading = False

    def add(self, event: Event) -> tuple[Delta, ...]:
        """The deltas to send before an event's own delta."""
        match event:
            case Analysed():
                self._needs_heading = True
                return (Delta(reasoning=of_analysis(event)),)
            case AgentSaid(role="aggregator", agent=agent) if self._needs_heading and event.delta.reasoning:
                self._needs_heading = False
                return (Delta(reasoning=own_heading(agent)),)
        return ()
