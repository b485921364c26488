"""The figures of the simulated latency benchmark ``latency.py``.

    uv run python benchmarks/plots.py                   # text_over_time.svg and ttft.svg, beside this file
    uv run python benchmarks/plots.py --runs 1000

``text_over_time.svg`` shows one run with three layers under every schedule: the same question, models and seed.
``ttft.svg`` shows the time to the answer's first token over many runs, with two and with three layers.

Notable decisions:
- No pyplot and a fixed salt: the same figures give the same bytes, so they can be kept under version control.
- Letters are paths, so their width is the same in every browser. Colours are Okabe and Ito's, and position, height or a word
  also shows whatever a colour shows.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latency import AGGREGATOR, SCHEDULES, SPEEDS, Simulated, VirtualTime, one_run, percentile
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moa import Mixture
from moa.events import (
    AgentContinued,
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentSaid,
    AgentStarted,
    Event,
    RunFinished,
    RunStarted,
)

HERE = Path(__file__).parent
BLUE, GREEN, VERMILION = "#0072B2", "#009E73", "#D55E00"
INK, GREY, PALE = "#222222", "#6b6b6b", "#d9d9d9"
STYLE: Any = {
    "svg.hashsalt": "moa",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "hatch.linewidth": 0.6,
    "path.simplify": True,
}
DEPTH = 3
STEP = 0.6
"""Seconds between the points of a text's height."""
PAUSE = 0.3
"""Seconds without text after which a text is drawn as paused."""


@dataclass
class Lane:
    """One agent, in seconds of the run.

    Attributes:
        calls: when each call began.
        deltas: when each delta came, and its characters.
    """

    layer: int
    agent: str
    calls: list[float]
    ended: float = 0.0
    dropped: bool = False
    deltas: list[tuple[float, int]] = field(default_factory=list)


@dataclass
class Run:
    lanes: list[Lane]
    total: float

    @property
    def answer(self) -> Lane:
        return self.lanes[-1]


def recorded(name: str, seed: int) -> Run:
    """One run as lanes, the answer's last."""
    make, way = SCHEDULES[name]
    chance = random.Random(seed)
    proposers = [Simulated(f"p{place}", speed, way, chance) for place, speed in enumerate(SPEEDS)]
    mixture = Mixture([proposers] * (DEPTH - 1), Simulated("last", AGGREGATOR, way, chance), schedule=make())

    async def collect() -> list[Event]:
        return [event async for event in mixture.run("What should I know about this? " * 8)]

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return lanes_of(runner.run(collect()))


def lanes_of(events: list[Event]) -> Run:
    lanes: dict[tuple[int, str], Lane] = {}
    zero = total = 0.0
    for event in events:
        at = event.at - zero
        match event:
            case RunStarted():
                zero = event.at
            case AgentStarted():
                lanes[event.layer, event.agent] = Lane(event.layer, event.agent, [at])
            case AgentContinued():
                lanes[event.layer, event.agent].calls.append(at)
            case AgentSaid():
                lanes[event.layer, event.agent].deltas.append((at, len(event.delta.text)))
            case AgentFinished() | AgentDropped() | AgentFailed():
                lane = lanes[event.layer, event.agent]
                lane.ended, lane.dropped = at, not isinstance(event, AgentFinished)
            case RunFinished():
                total = at
    return Run(sorted(lanes.values(), key=lambda lane: (lane.layer, lane.agent)), total)


def text_over_time(seed: int) -> Figure:
    """A panel for each schedule, a lane for each agent; the height within a lane is the share of its text written so far."""
    runs = {name: recorded(name, seed) for name in SCHEDULES}
    end = max(run.total for run in runs.values())
    figure = Figure(figsize=(9.4, 1.95 * len(runs) + 0.75), layout="constrained")
    panels: Any = figure.subplots(len(runs), 1, sharex=True)
    for axes, (name, run) in zip(panels, runs.items(), strict=True):
        _panel(axes, name, run, end)
    panels[-1].set_xlabel("seconds since the question")
    figure.suptitle(
        "One question, three layers: which agents write when (simulated models, the same seed)\n"
        "hatched: a call before its first token; height: how much of its text is written; dashed: the answer's first token",
        fontsize=9.5,
        color=INK,
        x=0.008,
        ha="left",
    )
    return figure


def _panel(axes: Axes, name: str, run: Run, end: float) -> None:
    colours = {1: BLUE, 2: GREEN, 3: VERMILION}
    heights: dict[int, list[float]] = {}
    gap, place = 0.45, 0.0
    for number, lane in enumerate(run.lanes):
        if number and lane.layer != run.lanes[number - 1].layer:
            place += gap
        heights.setdefault(lane.layer, []).append(place)
        _lane(axes, lane, place, colours[lane.layer])
        place += 1
    first = run.answer.deltas[0][0]
    axes.axvline(first, color=INK, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    axes.set_title(f"{name}: the answer's first token after {first:.1f} s, its last after {run.total:.1f} s", fontsize=9,
                   loc="left", color=INK, pad=3)  # fmt: skip
    axes.set_ylim(place + 0.1, -0.25)
    axes.set_xlim(0, end * 1.01)
    names = {1: "layer 1", 2: "layer 2", 3: "answer"}
    axes.set_yticks([sum(rows) / len(rows) + 0.44 for rows in heights.values()], [names[layer] for layer in heights])
    for label, layer in zip(axes.get_yticklabels(), heights, strict=True):
        label.set_color(colours[layer])
    axes.tick_params(length=0, labelsize=9)
    axes.grid(axis="x", color=PALE, linewidth=0.5, zorder=0)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def _lane(axes: Axes, lane: Lane, top: float, colour: str) -> None:
    """Hatched from a call to its first token, tinted while text is streamed, and filled up to the share of its text."""
    base, height = top + 0.88, 0.84
    for call in lane.calls:
        first = next((at for at, _ in lane.deltas if at >= call), lane.ended)
        axes.fill_between([call, first], top + 0.04, base, facecolor="#f4f4f4", edgecolor="#a8a8a8", hatch="/////",
                          linewidth=0, zorder=2)  # fmt: skip
    if not lane.deltas:
        return
    total = sum(size for _, size in lane.deltas)
    began = before = lane.deltas[0][0]
    times, levels, written = [began], [0.0], 0
    for at, size in lane.deltas:
        if at - before > PAUSE:
            axes.fill_between([began, before], top + 0.04, base, facecolor=colour, alpha=0.2, linewidth=0, zorder=2)
            times, levels, began = [*times, before, at], [*levels, written / total, written / total], at
        written += size
        if at - times[-1] >= STEP:
            times.append(at)
            levels.append(written / total)
        before = at
    times, levels = [*times, lane.ended], [*levels, 1.0]
    axes.fill_between([began, lane.ended], top + 0.04, base, facecolor=colour, alpha=0.2, linewidth=0, zorder=2)
    axes.fill_between(times, base, [base - level * height for level in levels], facecolor=colour, linewidth=0, zorder=3)
    if lane.dropped:
        axes.text(lane.ended + 0.08, top + 0.5, "cancelled", fontsize=7.5, color=GREY, va="center",
                  bbox={"facecolor": "white", "linewidth": 0, "pad": 0.8}, zorder=4)  # fmt: skip


def ttft(runs: int) -> Figure:
    """Two bars for each schedule: two and three layers; the bar is the median, the whisker's end the 95th percentile."""
    figure = Figure(figsize=(9.4, 3.6), layout="constrained")
    axes = figure.subplots()
    names = list(SCHEDULES)
    for place, (depth, colour) in enumerate(((2, "#56B4E9"), (3, BLUE))):
        for row, name in enumerate(names):
            make, way = SCHEDULES[name]
            values = [one_run(depth, make(), way, seed).ttft for seed in range(runs)]
            middle, high = percentile(values, 0.5), percentile(values, 0.95)
            at = row + (place - 0.5) * 0.38
            label = f"{depth} layers" if not row else None
            axes.barh(at, middle, height=0.34, color=colour, label=label, zorder=2)
            axes.plot([middle, high], [at, at], color=INK, linewidth=1, zorder=3)
            axes.plot([high, high], [at - 0.1, at + 0.1], color=INK, linewidth=1, zorder=3)
            axes.text(high + 0.3, at, f"{middle:.1f} s   (95 %: {high:.1f} s)", fontsize=8, va="center", color=INK,
                      bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5}, zorder=1)  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, (axes.get_xlim()[1]) * 1.17)
    axes.set_xlabel("seconds to the answer's first token: bar, median; whisker, 95th percentile")
    axes.set_title(
        f"Time to the answer's first token ({runs} runs on simulated models)", fontsize=10.5, loc="left", color=INK
    )
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    axes.grid(axis="x", color=PALE, linewidth=0.5, zorder=0)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=300, metavar="N")
    parser.add_argument(
        "--seed", type=int, default=25, help="seed of the one run; 25 is near the median in all respects"
    )
    parser.add_argument("--folder", type=Path, default=HERE)
    parser.add_argument("--png", action="store_true", help="also write PNG files, for a look")
    arguments = parser.parse_args()
    drawings: dict[str, Callable[[], Figure]] = {
        "text_over_time": lambda: text_over_time(arguments.seed),
        "ttft": lambda: ttft(arguments.runs),
    }
    with rc_context(STYLE):
        for name, draw in drawings.items():
            figure = draw()
            target = arguments.folder / f"{name}.svg"
            drawn = io.StringIO()
            figure.savefig(drawn, format="svg", metadata={"Date": None})
            target.write_text(re.sub(r"-?\d+\.\d{3,}(?=\s)", lambda found: f"{float(found[0]):.2f}", drawn.getvalue()))
            if arguments.png:
                figure.savefig(target.with_suffix(".png"), dpi=100)
            print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
