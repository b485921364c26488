"""The report's drawings, as SVG text. Needs matplotlib: the extra ``plots``.

Notable decisions:
- No pyplot: it keeps figures in global state and looks for a window system.
- The same data gives the same bytes, so a report can be kept under version control.
- The colours are Okabe and Ito's, which most colour-blind readers can distinguish; every value is also written as text.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moa.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
WIDTH = 7.2
"""Inches; the page shows 72 pixels per inch."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its interval; the ends are None if they are unknown."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A system's cost and quality."""

    label: str
    cost: float
    quality: float


def intervals(groups: Mapping[str, Sequence[Bar]], axis: str, *, zero: float | None = None) -> str:
    """Dots with intervals: a row per label, a colour per group. ``zero`` draws a vertical line at this value."""
    labels = list(dict.fromkeys(bar.label for bars in groups.values() for bar in bars))
    step = 0.26 * max(1, len(groups))
    figure = _figure(0.9 + max(0.32, step) * len(labels) + 0.2 * math.ceil(len(groups) / 2))
    axes = figure.add_subplot()
    for number, (name, bars) in enumerate(groups.items()):
        shift = (number - (len(groups) - 1) / 2) * 0.7 / max(1, len(groups))
        heights = [labels.index(bar.label) + shift for bar in bars]
        values = [bar.value for bar in bars]
        ends = [
            [0.0 if bar.low is None else bar.value - bar.low for bar in bars],
            [0.0 if bar.high is None else bar.high - bar.value for bar in bars],
        ]
        axes.errorbar(
            values, heights, xerr=ends, fmt="o", markersize=5, capsize=3, color=_colour(number), label=name or None
        )
        for height, bar in zip(heights, bars, strict=True):
            right = bar.value if bar.high is None else bar.high
            axes.annotate(_short(bar.value), (right, height), (5, 0), textcoords="offset points", va="center", size=8)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(axis)
    axes.margins(x=0.12)
    if zero is not None:
        axes.axvline(zero, color="#666666", linewidth=0.8, linestyle="--")
    _quiet(axes)
    if len(groups) > 1:
        _legend(figure)
    return _svg(figure)


def radar(series: Mapping[str, Mapping[str, float]], axes_names: Sequence[str], low: float, high: float) -> str:
    """A radar plot: an axis per name, a line per system. A missing value breaks the system's line."""
    figure = _figure(5.2 + 0.2 * math.ceil(len(series) / 2))
    axes = figure.add_subplot(projection="polar")
    angles = [2 * math.pi * place / len(axes_names) for place in range(len(axes_names))]
    for number, (name, values) in enumerate(series.items()):
        around = [values.get(axis, math.nan) for axis in axes_names]
        axes.plot(
            [*angles, 0.0], [*around, around[0]], color=_colour(number), linewidth=1.6, marker="o", ms=3, label=name
        )
    axes.set_theta_offset(math.pi / 2)  # type: ignore[attr-defined]
    axes.set_theta_direction(-1)  # type: ignore[attr-defined]
    axes.set_xticks(angles, axes_names, fontsize=8)
    axes.tick_params(axis="x", pad=14)
    axes.set_ylim(low, high)
    axes.set_rlabel_position(15)  # type: ignore[attr-defined]
    axes.tick_params(axis="y", labelsize=7, labelcolor="#666666")
    axes.grid(color="#dddddd")
    axes.spines["polar"].set_color("#bbbbbb")
    _legend(figure)
    return _svg(figure)


def front(points: Sequence[Point], best: Sequence[int], cost: str, quality: str) -> str:
    """Quality against cost. The cost axis is logarithmic if costs differ by more than a factor of 10.

    Args:
        points: the systems.
        best: the indices of those on the Pareto front, by cost; a line joins them.
        cost, quality: the labels of the axes.
    """
    figure = _figure(4.2)
    axes = figure.add_subplot()
    for index, point in enumerate(points):
        on_it = index in best
        axes.plot(point.cost, point.quality, "o", ms=7, color=COLOURS[0] if on_it else COLOURS[7])
        axes.annotate(point.label, (point.cost, point.quality), (7, 5), textcoords="offset points", size=8)
    joined = [points[index] for index in best]
    axes.plot(
        [point.cost for point in joined],
        [point.quality for point in joined],
        drawstyle="steps-post",
        color=COLOURS[0],
        linewidth=1.2,
        label="Pareto front",
    )
    known = [point.cost for point in points]
    if min(known) > 0 and max(known) > 10 * min(known):
        axes.set_xscale("log")
    axes.set_xlabel(cost)
    axes.set_ylabel(quality)
    axes.margins(x=0.2, y=0.2)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _quiet(axes)
    return _svg(figure)


def steps(names: Sequence[str], heights: Sequence[float], levels: Mapping[str, float], axis: str) -> str:
    """A value that grows with each name, as dots joined by a line; ``levels`` are horizontal lines by their name."""
    figure = _figure(3.6)
    axes = figure.add_subplot()
    places = range(1, len(names) + 1)
    axes.plot(places, heights, "o-", color=COLOURS[0], linewidth=1.4, markersize=5)
    for place, height in zip(places, heights, strict=True):
        axes.annotate(_short(height), (place, height), (0, 7), textcoords="offset points", ha="center", size=8)
    for number, (name, level) in enumerate(levels.items(), 1):
        axes.axhline(level, color=_colour(number), linewidth=1.2, linestyle="--", label=f"{name}: {_short(level)}")
    axes.set_xticks(places, names, rotation=30, ha="right", fontsize=8)
    axes.set_ylabel(axis)
    axes.margins(y=0.18)
    _quiet(axes)
    if levels:
        _legend(figure)
    return _svg(figure)


def _figure(height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plots need matplotlib: pip install 'mixture-of-agents[plots]'") from None
    return Figure(figsize=(WIDTH, height), layout="constrained")


def _legend(figure: Figure) -> None:
    """Names and colours above the drawing, in two columns, since names of models are long."""
    figure.legend(frameon=False, fontsize=8, loc="outside upper left", ncols=2)


def _quiet(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)


def _svg(figure: Figure) -> str:
    from matplotlib import rc_context

    out = io.StringIO()
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "moa", "font.family": "sans-serif"}
    with rc_context(settings):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
