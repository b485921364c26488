"""Proposals as something to read while they are written: one agent at a time, each under a small heading.

Agents of a layer write at the same time; a reader wants them one after another. The first to speak is shown live; what the
others write meanwhile is kept, and shown when it is their turn.
"""

from __future__ import annotations

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


class Progress:
    """Turns events into text. Give it every event; it gives back what to show now, often nothing."""

    def __init__(self) -> None:
        self._roles: dict[tuple[int, str], str] = {}
        self._waiting: dict[tuple[int, str], list[str]] = {}
        self._over: set[tuple[int, str]] = set()
        self._shown: tuple[int, str] | None = None
        self._any = False

    def add(self, event: Event) -> str:
        """What is to be shown after this event."""
        match event:
            case AgentStarted():
                self._roles[event.layer, event.agent] = event.role
                return ""
            case AgentSaid(role="proposer"):
                return self._say(event.layer, event.agent, event.delta.text)
            case AgentFinished() | AgentFailed() | AgentDropped() if (
                self._roles.get((event.layer, event.agent)) == "proposer"
            ):
                return self._end(event)
            case Noticed() if event.degrades:
                return f"\n\n*{event.message}*"
            case AnswerBegan():
                return self._flush() + ("\n\n" if self._any else "")
        return ""

    def _say(self, layer: int, agent: str, text: str) -> str:
        if not text:
            return ""
        place = (layer, agent)
        if self._shown is None:
            self._shown = place
            return self._heading(place) + text
        if self._shown == place:
            return text
        self._waiting.setdefault(place, []).append(text)
        return ""

    def _end(self, event: AgentFinished | AgentFailed | AgentDropped) -> str:
        place = (event.layer, event.agent)
        note = ""
        if isinstance(event, AgentFailed):
            note = f"\n\n*failed: {event.error}*"
        elif isinstance(event, AgentDropped):
            note = f"\n\n*dropped: {event.reason}*"
        if self._shown not in (None, place):
            if note or place in self._waiting:
                self._waiting.setdefault(place, []).append(note)
            self._over.add(place)
            return ""
        told = self._heading(place) + note if self._shown is None and note else note
        self._shown = None
        return told + self._next()

    def _next(self) -> str:
        """Show what waited: all that is over, and the first that still writes."""
        told = ""
        for place in [place for place in self._waiting if place in self._over]:
            told += self._heading(place) + "".join(self._waiting.pop(place))
        if self._waiting and self._shown is None:
            self._shown = next(iter(self._waiting))
            told += self._heading(self._shown) + "".join(self._waiting.pop(self._shown))
        return told

    def _flush(self) -> str:
        told = "".join(self._heading(place) + "".join(texts) for place, texts in self._waiting.items())
        self._waiting.clear()
        return told

    def _heading(self, place: tuple[int, str]) -> str:
        before = "\n\n" if self._any else ""
        self._any = True
        return f"{before}**{place[1]}** · layer {place[0]}\n\n"
