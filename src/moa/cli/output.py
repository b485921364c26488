"""A run's events as output: drawn on a terminal, the answer's text in a pipe, or one JSON object per line."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from moa.cli.counting import count_line
from moa.cli.session import Session
from moa.cli.terminal import Show, can_redraw, clean, notify, notify_detail, one_line, screen, write
from moa.errors import RunError
from moa.messages import Answer, pieces_of
from moa.mixture.codec import as_json
from moa.mixture.events import (
    AgentEvent,
    AgentFinished,
    AgentRecalled,
    AgentSaid,
    AgentStarted,
    Analysed,
    Event,
    Noticed,
    RunStarted,
    Selected,
    VotesCounted,
)
from moa.mixture.fold import Fold


async def show_run(
    events: AsyncGenerator[Event, None],
    show: Show | None,
    fold: Fold | None = None,
    *,
    session: Session | None = None,
) -> Answer:
    """Show a run while it happens: drawn on a terminal; in a pipe the answer's text, see :func:`print_text`.

    Args:
        events: the run's. Text in a pipe cannot be taken back, so there the run must not restart its answer.
        fold: receives every event; pass one to read the answer even if this raises.
        session: shows its notices with the run.
    """
    if not can_redraw():
        return await print_text(events, show, fold)
    from moa.cli.live import View

    view = View(screen(), show, fold)
    if session is None:
        return await view.follow(events)
    session.on_notice = view.notice
    try:
        return await view.follow(events)
    finally:
        session.on_notice = notify


def fail(error: Exception, answer: Answer | None = None) -> None:
    """Report why there is no answer, one cause per line.

    Args:
        answer: what the run produced, if its proposals are on the screen: their cost is reported, too.
    """
    if not isinstance(error, RunError):
        notify(str(error))
        return
    notify(f"no answer: {error.reason}")
    for cause in error.causes:
        notify_detail(cause)
    if answer and answer.proposals:
        count = len(answer.proposals)
        notify_detail(f"{count} proposal{'s' if count != 1 else ''} above ({answer.cost})")


async def print_json(events: AsyncGenerator[Event, None]) -> Answer:
    """Print each event as a line of JSON."""
    fold = Fold()
    async with aclosing(events):
        async for event in events:
            fold.add(event)
            write(json.dumps(as_json(event)))
    return fold.answer


async def print_text(events: AsyncGenerator[Event, None], show: Show | None, fold: Fold | None = None) -> Answer:
    """Print the answer's text as it arrives, and nothing else; with ``proposals``, each one under a heading before it."""
    fold = fold or Fold()
    # A terminal that cannot redraw still obeys escape sequences.
    harmless = clean if sys.stdout.isatty() else str
    text = _Text(harmless, headings=show is Show.PROPOSALS)
    async with aclosing(events):
        async for event in events:
            fold.add(event)
            text.add(event, fold)
    text.end()
    answer = fold.answer
    if answer.error is None:
        for reason in answer.degraded:
            notify(reason)
    return answer


class _Text:
    """Prints the answer as plain text, and the proposals under headings if they are wanted."""

    def __init__(self, harmless: Callable[[str], str], *, headings: bool) -> None:
        self._harmless, self._headings = harmless, headings
        self._titles: dict[tuple[int, str], str] = {}
        self._aggregator: tuple[int, str] | None = None
        self._last = ""
        self._answering = False
        self._held_back: list[str] = []

    def add(self, event: Event, fold: Fold) -> None:
        place = (event.layer, event.agent) if isinstance(event, AgentEvent) else None
        match event:
            case RunStarted():
                self._titles = {
                    (seat.layer, seat.agent): f"{one_line(seat.agent)} ({one_line(seat.model)}), layer {seat.layer}"
                    for seat in event.seats
                }
            case AgentStarted(role="aggregator"):
                self._aggregator = place
            case AgentSaid(role="aggregator"):
                if event.delta.thought:
                    self._answer("\n\n")  # what was printed is reasoning; the answer begins here
                self._answer(event.delta.text)
            case Selected():
                for piece in pieces_of(event.text):
                    self._answer(piece)
            case AgentFinished() | AgentRecalled() if (
                self._headings and place != self._aggregator and place in self._titles
            ):
                answer = fold.answer
                text = next(
                    call.text for call in (*answer.calls, *answer.recalled) if (call.layer, call.agent) == place
                )
                proposal = f"## {self._titles[place]}\n\n{self._harmless(text).strip()}\n"
                # Nothing may interrupt an answer that is being printed.
                self._held_back.append(proposal) if self._answering else write(proposal)
            case Analysed() if self._headings:
                write(f"## analysis\n\n{self._harmless(event.analysis.text)}\n")
            case VotesCounted():
                notify(count_line(event))
            case Noticed(degrades=False):
                notify(event.message)

    def _answer(self, piece: str) -> None:
        if not piece:
            return
        if not self._answering and self._headings:
            write("## answer\n")
        self._answering = True
        piece = self._harmless(piece)
        write(piece, end="")
        self._last = piece[-1:] or self._last

    def end(self) -> None:
        if self._answering and self._last != "\n":
            write()
        for proposal in self._held_back:
            write(f"\n{proposal}", end="")
