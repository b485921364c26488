"""Agents as panels, while they work and when they have ended: side by side, or below each other on a narrow terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from moa.cli.prose import Rendered
from moa.cli.terminal import clean, figure, one_line, seconds
from moa.messages import Cost, Usage, estimated_tokens
from moa.mixture.events import (
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentRecalled,
    AgentSaid,
    AgentSkipped,
    AgentStarted,
    Event,
    Seat,
)

State = Literal[
    "waiting",
    "loading",
    "called",
    "thinking",
    "writing",
    "done",
    "cut",
    "recalled",
    "failed",
    "dropped",
    "stopped",
    "skipped",
]

NARROWEST = 26
"""The fewest columns of a readable panel."""

TALLEST = 10
"""The most lines shown of a growing text."""

SHORT = 6
"""Lines shown of a finished proposal, unless whole proposals are wanted."""

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

_LOOKS: dict[State, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "loading": ("", "magenta"),
    "called": ("", "blue"),
    "thinking": ("", "blue"),
    "writing": ("", "cyan"),
    "done": ("✓", "green"),
    "cut": ("✓", "yellow"),
    "recalled": ("✓", "green"),
    "failed": ("✗", "red"),
    "dropped": ("✗", "yellow"),
    "stopped": ("■", "yellow"),
    "skipped": ("–", "dim"),
}


def frame(now: float) -> str:
    """The spinner at this time, in seconds."""
    return FRAMES[int(now * 10) % len(FRAMES)]


def joined(parts: Iterable[str], width: int, separator: str = " · ") -> str:
    """As many of the parts as fit into ``width`` columns, from the first."""
    line = ""
    for part in filter(None, parts):
        longer = f"{line}{separator}{part}" if line else part
        if cell_len(longer) > width:
            break
        line = longer
    return line


class Lane:
    """One agent of a run on the screen: a fold of its events."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.state: State = "waiting"
        self.why = ""
        self.text = ""
        self.reasoning = ""
        self.references = 0
        self.usage: Usage | None = None
        self.cost: Cost | None = None
        self.began: float | None = None
        self.first: float | None = None
        self.ended: float | None = None

    @property
    def done(self) -> bool:
        """Whether the agent has ended, with or without a text."""
        return self.ended is not None

    @property
    def tokens(self) -> int:
        """Output tokens: as reported, or estimated while the agent writes."""
        return self.usage.output_tokens if self.usage else estimated_tokens(self.text + self.reasoning)

    def add(self, event: Event) -> None:
        match event:
            case AgentStarted():
                self.state, self.began, self.references = "called", event.at, len(event.references)
            case AgentSaid():
                self.first = event.at if self.first is None else self.first
                if event.delta.thought:
                    self.reasoning += self.text[-event.delta.thought :]
                    self.text = self.text[: -event.delta.thought]
                self.text += event.delta.text
                self.reasoning += event.delta.reasoning
                self.state = "writing" if self.text else "thinking"
            case AgentRecalled():
                self.state, self.text, self.began, self.ended = "recalled", event.text, event.at, event.at
            case AgentFinished():
                self._end(event, "cut" if event.cut else "done", event.cut or "")
            case AgentFailed():
                self._end(event, "failed", str(event.error))
            case AgentDropped():
                self._end(event, "dropped", event.reason)
            case AgentSkipped():
                self.state, self.why, self.ended = "skipped", event.reason, event.at

    def _end(self, event: AgentFinished | AgentFailed | AgentDropped, state: State, why: str) -> None:
        self.state, self.why, self.ended = state, why, event.at
        self.usage, self.cost = event.usage, event.cost

    def title(self, width: int, now: float) -> Text:
        """Its mark and name; also its model, if there is room and the name does not contain it."""
        mark, style = _LOOKS[self.state]
        name, model = one_line(self.seat.agent), one_line(self.seat.model)
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{mark or frame(now)} ", style)
        line.append(name, "bold" if self.began is not None else "dim")
        short = model.rsplit("/", 1)[-1]
        if short not in name and cell_len(name) + cell_len(short) + 5 <= width:
            line.append(f" {short}", "dim")
        return line

    def figures(self, width: int, now: float) -> Text:
        """Its state and figures, as many as fit."""
        _, style = _LOOKS[self.state]
        parts: list[str] = [] if self.state == "done" else ["waiting" if self.state == "called" else self.state]
        if self.tokens:
            about = "~" if self.usage is None or self.usage.estimated else ""
            parts.append(f"{about}{figure(self.tokens)} tok")
        if self.cost and self.done and self.cost.dollars:
            parts.append(str(self.cost))
        if self.first is not None:
            writing = (now if self.ended is None else self.ended) - self.first
            parts.append(f"{self.tokens / writing:.0f} tok/s" if writing > 0.2 and self.tokens > 5 else "")
        if self.began is not None and self.state not in ("writing", "recalled"):
            parts.append(seconds((now if self.ended is None else self.ended) - self.began))
        line = joined(parts, width)
        if self.state == "writing" and cell_len(" · ".join(filter(None, parts))) > width:
            line = joined(parts[1:], width) or line  # the growing text shows that it writes
        return Text(line, style="dim" if self.state == "done" else style)

    def tail(self, width: int, lines: int, console: Console) -> Text:
        """The last lines of its text, or of its reasoning; or why there is no text."""
        if self.why and self.state != "cut":
            return Text(one_line(self.why), style=_LOOKS[self.state][1])
        source, style = (self.text, "") if self.text.strip() else (self.reasoning, "italic dim")
        text = Text(clean(source[-2 * width * lines :]).strip("\n"), style=style)
        wrapped = text.wrap(console, max(width, 1))
        return Text("\n").join([line for line in wrapped if line.plain.strip()][-lines:])


@dataclass(frozen=True, slots=True)
class Cropped:
    """The first lines of a renderable, followed by how many are missing; or the last lines."""

    whole: RenderableType
    lines: int
    last: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.whole, options.update(height=None), pad=False)
        missing = len(lines) - self.lines
        shown = lines[-self.lines :] if self.last else lines[: self.lines]
        for line in shown if missing > 1 or self.last else lines:
            yield from line
            yield Segment.line()
        if missing > 1 and not self.last:
            yield Text(f"… +{missing} lines", style="dim")


@dataclass(frozen=True, slots=True)
class _Cell:
    title: Text
    figures: Text
    body: RenderableType
    style: str


def columns_for(count: int, width: int) -> int:
    """How many panels stand side by side, so that all rows have nearly the same number."""
    most = max(1, min(count, (width + 1) // NARROWEST))
    rows = -(-count // most)
    return -(-count // rows)


def growing(lanes: Sequence[Lane], console: Console, height: int, now: float) -> RenderableType:
    """Agents at work in at most ``height`` lines: panels with the last lines of their texts, or a line for each agent."""
    columns = columns_for(len(lanes), console.width)
    width = _width(columns, console.width) - 4
    lines = min(TALLEST, height // -(-len(lanes) // columns) - 2)
    if lines < 1:
        return _lines(lanes, console, height, now)
    cells = [
        _Cell(
            lane.title(width, now),
            lane.figures(width - 2, now),
            Cropped(lane.tail(width, lines, console), lines, last=lane.state not in ("failed", "dropped")),
            _LOOKS[lane.state][1],
        )
        for lane in lanes
    ]
    return _side_by_side(cells, columns, console)


def settled(lanes: Sequence[Lane], console: Console, now: float, *, whole: bool) -> RenderableType:
    """Agents that have ended, as they stay on the screen: short and side by side, or whole and below each other."""
    columns = 1 if whole else columns_for(len(lanes), console.width)
    width = _width(columns, console.width) - 4
    cells = []
    for lane in lanes:
        style = _LOOKS[lane.state][1]
        body: list[RenderableType] = []
        if lane.why:
            cut = f"cut short: {lane.why}" if lane.state == "cut" else lane.why
            body.append(Text(one_line(cut), style=style))
        if lane.text.strip():
            text = Rendered(lane.text)
            body.append(text if whole else Cropped(text, SHORT))
        cells.append(_Cell(lane.title(width, now), lane.figures(width - 2, now), Group(*body), style))
    return _side_by_side(cells, columns, console)


def _width(columns: int, whole: int) -> int:
    return (whole - (columns - 1)) // columns


def _side_by_side(cells: Sequence[_Cell], columns: int, console: Console) -> RenderableType:
    width = _width(columns, console.width)
    grid = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(columns):
        grid.add_column(width=width)
    inner = console.options.update(width=max(width - 4, 1), height=None)
    for start in range(0, len(cells), columns):
        row = cells[start : start + columns]
        height = max(1, *(len(console.render_lines(cell.body, inner, pad=False)) for cell in row))
        grid.add_row(
            *(
                Panel(
                    cell.body,
                    box=box.ROUNDED,
                    title=cell.title,
                    title_align="left",
                    subtitle=cell.figures if cell.figures.plain else None,
                    subtitle_align="right",
                    border_style="dim" if cell.style == "green" else cell.style,
                    height=height + 2,
                    width=width,
                )
                for cell in row
            )
        )
    return grid


def _lines(lanes: Sequence[Lane], console: Console, height: int, now: float) -> RenderableType:
    """Many agents in few lines: one line each. If there are too few lines, agents that have ended are left out first."""
    shown = list(lanes)
    if len(shown) > height:
        shown = sorted(lanes, key=lambda lane: lane.done)[: max(height - 1, 0)]
    rows = []
    for lane in shown:
        line = lane.title(0, now)
        line.append("  ")
        line.append_text(lane.figures(max(console.width - line.cell_len - 1, 0), now))
        room = console.width - line.cell_len - 3
        if room > 10:
            line.append(f"  {one_line(lane.tail(room, 1, console).plain)}", "dim")
        rows.append(line)
    if len(shown) < len(lanes) and height:
        rows.append(Text(f"… +{len(lanes) - len(shown)} more", style="dim"))
    return Group(*rows)
