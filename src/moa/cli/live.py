"""A run on a terminal while it happens: a fold of its events, drawn ten times a second.

Finished text is printed once and scrolls away like any output. Only text that still changes is redrawn, in a region that
never fills the window.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from moa.cli.counting import count_line
from moa.cli.panels import Cropped, Lane, frame, growing, joined, settled
from moa.cli.prose import WIDEST, Prose, Rendered
from moa.cli.signals import ending_on_signals
from moa.cli.terminal import Show, clean, figure, one_line, seconds
from moa.messages import Answer
from moa.mixture.events import (
    AgentDropped,
    AgentEvent,
    AgentFailed,
    AgentSaid,
    AgentStarted,
    Analysed,
    Event,
    Moderated,
    Noticed,
    RunFailed,
    RunFinished,
    RunStarted,
    Selected,
    VotesCounted,
)
from moa.mixture.fold import Fold

FRAME = 0.1
"""Seconds between two drawings."""


class View:
    """Shows one run. Give its events to :meth:`follow`.

    Args:
        console: the terminal.
        show: whole proposals, none, or (None) their beginnings.
        fold: receives every event; pass one to read the answer even if the run is cancelled.
    """

    def __init__(self, console: Console, show: Show | None = None, fold: Fold | None = None) -> None:
        self._console, self._show = console, show
        self._fold = fold or Fold()
        self._lanes: dict[tuple[int, str], Lane] = {}
        self._name = ""
        self._layers = 0
        self._layers_printed = 0
        self._anything_printed = False
        self._aggregator: Lane | None = None
        self._selected: Selected | None = None
        self._prose = Prose()
        self._answer_began = False
        self._notice = ""
        self._ended = False

    def notice(self, line: str) -> None:
        """Show a line about a step that takes long, until the next event."""
        self._notice = one_line(line)
        self._mark_loading()

    def _mark_loading(self) -> None:
        for lane in self._lanes.values():
            if lane.state == "called" and self._notice.startswith(
                (f"loading {lane.seat.model}:", f"fetching {lane.seat.model}:")
            ):
                lane.state = "loading"

    def _mark_loaded(self, writing: Lane | None) -> None:
        """An agent that writes has loaded its model. Other agents of that model may still wait for their turn."""
        self._notice = ""
        for lane in self._lanes.values():
            if writing and lane.state == "loading" and lane.seat.model == writing.seat.model:
                lane.state = "called"

    async def follow(self, events: AsyncGenerator[Event, None]) -> Answer:
        """Show the events until they end. All text stays on the screen, even if the run fails or is cancelled."""
        region = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        try:
            with ending_on_signals(), region:
                drawing = asyncio.create_task(self._draw(region))
                try:
                    async with aclosing(events):
                        async for event in events:
                            self._add(event)
                finally:
                    drawing.cancel()
                    with suppress(asyncio.CancelledError):
                        await drawing
        finally:
            self._finish()
        return self._fold.answer

    # -- the fold ----------------------------------------------------------------------------------------------------

    def _add(self, event: Event) -> None:
        self._fold.add(event)
        if isinstance(event, AgentEvent) and (event.layer, event.agent) in self._lanes:
            self._lanes[event.layer, event.agent].add(event)
        match event:
            case RunStarted():
                self._name = event.mixture
                self._lanes = {(seat.layer, seat.agent): Lane(seat) for seat in event.seats}
                self._layers = max((seat.layer for seat in event.seats if seat.role == "proposer"), default=0)
            case AgentStarted() if event.role != "aggregator":
                self._mark_loading()
            case AgentStarted():
                self._aggregator = self._lanes.get((event.layer, event.agent))
            case AgentSaid():
                self._mark_loaded(self._lanes.get((event.layer, event.agent)))
                if event.role == "aggregator":
                    if event.delta.thought:
                        aggregator = self._aggregator
                        self._break_off("was reasoning; its answer follows")
                        self._aggregator = aggregator
                    self._prose.add(event.delta.text)
            case AgentFailed() | AgentDropped() if self._aggregator and event.agent == self._aggregator.seat.agent:
                self._break_off(f"failed here: {one_line(self._aggregator.why)}")
            case Moderated() if self._show is not Show.ANSWER:
                names = ", ".join(map(one_line, event.kept))
                self._print_line(Text(f"layer {event.layer}: the moderator keeps {names}", style="dim"))
            case Analysed():
                self._print_analysis(event)
            case VotesCounted():
                self._print_line(Text(count_line(event), style="dim"))
            case Selected():
                self._selected = event
                self._prose = Prose()
                self._prose.add(event.text)
            case Noticed(degrades=False):
                self._print_line(Text(one_line(event.message), style="dim"))
            case RunFinished() | RunFailed():
                self._ended = True

    def _break_off(self, why: str) -> None:
        """The aggregator's text so far is not the answer. It stays on the screen, and the answer starts below it."""
        if self._aggregator and self._prose:
            self._print_layers(everything=True)
            self._print_prose(self._prose.remainder())
            self._console.print()
            self._print_line(Text(f"✗ {one_line(self._aggregator.seat.agent)} {why}", "yellow"))
            self._answer_began = False
        self._prose = Prose()
        self._aggregator = None

    def _print_analysis(self, event: Analysed) -> None:
        """The analysis, dim as thinking is: whole with whole proposals, otherwise how many points it has of each kind."""
        if self._show is Show.ANSWER:
            return
        self._print_layers(everything=True)
        kinds = [*event.analysis.kinds()]
        if self._show is Show.PROPOSALS:
            lines = [line for title, points in kinds for line in (title, *(f"  - {point}" for point in points))]
            self._print_line(Text(clean("\n".join(["analysis", *lines])), style="italic dim"))
        else:
            counts = ", ".join(f"{title.lower()} {len(points)}" for title, points in kinds)
            self._print_line(Text(f"analysis: {counts} (--show proposals shows it)", style="italic dim"))

    # -- printed once ----------------------------------------------------------------------------------------

    def _print_line(self, line: RenderableType) -> None:
        self._console.print(line)
        self._anything_printed = True

    def _print_layers(self, *, everything: bool = False) -> None:
        """Print the layers whose proposers have all ended, in order; with ``everything``, also unfinished layers."""
        while self._layers_printed < self._layers:
            number = self._layers_printed + 1
            lanes = self._layer(number)
            later = any(lane.began is not None for lane in self._lanes.values() if lane.seat.layer > number)
            if not everything and not all(
                lane.done or (lane.began is None and (later or self._selected)) for lane in lanes
            ):
                return
            self._layers_printed = number
            for lane in lanes:
                if lane.began is not None and not lane.done:
                    lane.state, lane.ended = "stopped", self._now()
            shown = [lane for lane in lanes if lane.done and (lane.text.strip() or lane.why)]
            if self._show is Show.ANSWER or not shown:
                continue
            if self._layers > 1:
                self._print_line(Text(f"layer {number} of {self._layers + 1}", style="dim"))
            self._print_line(settled(shown, self._console, self._now(), whole=self._show is Show.PROPOSALS))

    def _print_prose(self, markdown: str) -> None:
        if not markdown.strip():
            return
        if not self._answer_began:
            for line in self._heading():
                self._print_line(line)
            self._answer_began = True
        else:
            self._console.print()
        self._console.print(Rendered(markdown), width=self._measure)
        self._anything_printed = True

    def _heading(self) -> list[RenderableType]:
        """The line above the answer that names its agent. Empty if nothing else is on the screen."""
        if self._selected and self._show is not Show.ANSWER:
            title = f"{one_line(self._selected.agent)}’s proposal, word for word: {one_line(self._selected.reason)}"
        elif self._anything_printed and self._aggregator:
            title = one_line(self._aggregator.seat.agent)
        else:
            return []
        if len(title) + 4 > self._measure:
            return [Rule(Text("answer"), align="left", style="dim", characters="─"), Text(title, style="dim"), Text("")]
        return [_ruled(title, self._measure), Text("")]

    def _finish(self) -> None:
        """After the last event, or after a cancellation: print what is not printed yet, and the figures of the run."""
        self._print_layers(everything=True)
        self._print_prose(self._prose.remainder())
        answer = self._fold.answer
        if not self._ended:
            if self._anything_printed:
                self._console.print()
            return
        if self._anything_printed:
            self._console.print()
        if answer.error is None:
            for reason in answer.degraded:
                self._console.print(Text(f"! {one_line(reason)}", style="yellow"))
        self._console.print(Text(" · ".join(footer(answer)), style="dim"))

    # -- redrawn ------------------------------------------------------------------------------------------

    async def _draw(self, live: Live) -> None:
        while True:
            self._print_layers()
            if self._layers_printed == self._layers and (settled := self._prose.settled()).strip():
                live.update(
                    Text(""), refresh=True
                )  # otherwise Rich draws the old region once more, below the printed text
                self._print_prose(settled)
            live.update(self._region(), refresh=True)
            await asyncio.sleep(FRAME)

    def _region(self) -> RenderableType:
        room = self._console.height - 2
        parts: list[RenderableType] = []
        answering = bool(self._prose.rest.strip())
        if self._show is not Show.ANSWER:
            started = [
                number
                for number in range(self._layers_printed + 1, self._layers + 1)
                if number == self._layers_printed + 1 or any(lane.began is not None for lane in self._layer(number))
            ]
            for number in started:
                share = room // (len(started) + answering)
                parts.append(growing(self._layer(number), self._console, share, self._now()))
            room -= room // (len(started) + answering) * len(started) if started else 0
        if answering:
            heading = [] if self._answer_began else self._heading()
            gap = [Text("")] if self._answer_began or parts else []
            text = Cropped(Rendered(self._prose.rest), max(room - len(heading) - len(gap) - 1, 1), last=True)
            parts += [*gap, *heading, _Narrow(text, self._measure), Text("")]
        elif self._aggregator and self._aggregator.reasoning.strip():
            parts.append(self._aggregator.tail(self._measure, min(4, max(room, 1)), self._console))
        return Group(*parts, self._status())

    def _status(self) -> Text:
        """One line: the current step, its progress, the time so far."""
        now = self._now()
        width = self._console.width - 1
        line = Text(f"{frame(now)} ", style="cyan", no_wrap=True, overflow="ellipsis")
        began = min((lane.began for lane in self._lanes.values() if lane.began is not None), default=now)
        elapsed = seconds(now - began)
        tokens = sum(lane.tokens for lane in self._lanes.values())
        counted = f"~{figure(tokens)} tok" if tokens else ""
        costs = [lane.cost for lane in self._lanes.values() if lane.cost is not None and lane.cost.dollars]
        spent = str(sum(costs[1:], costs[0])) if costs else ""
        if self._notice:
            parts = [self._notice, elapsed]
        elif self._aggregator:
            step = {"called": "reads", "thinking": "thinks", "writing": "writes"}.get(self._aggregator.state, "writes")
            if self._aggregator.state == "called":
                count = self._aggregator.references
                step = f"reads {count} proposal{'s' if count != 1 else ''}" if count else "waiting for its first token"
            parts = [f"{one_line(self._aggregator.seat.agent)} {step}", elapsed, counted, spent]
        elif self._layers:
            number = min(self._layers_printed + 1, self._layers)
            lanes = self._layer(number)
            done = sum(lane.done for lane in lanes)
            if done == len(lanes) and any(lane.seat.role == "ranker" for lane in self._lanes.values()):
                parts = [f"the ranker chooses from {done} proposals", elapsed, counted, spent]
            else:
                parts = [f"{done} of {len(lanes)} proposers done", elapsed, counted, spent]
                if self._layers > 1 or self._show is Show.ANSWER:
                    parts.insert(0, f"layer {number} of {self._layers + 1}")
                if self._name and self._show is Show.ANSWER:
                    parts.insert(0, one_line(self._name))
        else:
            parts = [elapsed]
        return line.append(joined(parts, width - 2) or elapsed, "dim")

    def _layer(self, number: int) -> list[Lane]:
        return [lane for lane in self._lanes.values() if lane.seat.layer == number and lane.seat.role == "proposer"]

    @property
    def _measure(self) -> int:
        return min(self._console.width, WIDEST)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def footer(answer: Answer) -> list[str]:
    """The figures of a run: calls, tokens, cost, durations."""
    calls, usage = len(answer.calls), answer.usage
    parts = [f"{calls} call{'s' if calls != 1 else ''}"]
    parts.append(f"{'~' if usage.estimated else ''}{figure(usage.total_tokens)} tokens")
    parts.append(str(answer.cost))
    if answer.agreement is not None:
        parts.append(f"agreement {answer.agreement:.0%}")
    if answer.time_to_first_token is not None:
        parts.append(f"first token {seconds(answer.time_to_first_token)}")
    if answer.duration is not None:
        parts.append(f"{seconds(answer.duration)} in total")
    return parts


def _ruled(title: str, width: int) -> Text:
    line = Text("── ", style="dim", no_wrap=True)
    line.append(title, "bold not dim")
    return line.append(f" {'─' * max(width - len(title) - 4, 2)}")


class _Narrow:
    """A renderable in fewer columns than the console has."""

    def __init__(self, renderable: RenderableType, width: int) -> None:
        self._renderable, self._width = renderable, width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._renderable, options.update(width=self._width, height=None))
