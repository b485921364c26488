"""The tables and plots that sections of a report share: scores of systems side by side, and scores by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from moa.evals.asking.data import Row
from moa.evals.drawing import plots
from moa.evals.drawing.page import Page, number, with_precision
from moa.evals.metric import Metric

NORMAL = 1.96
"""Standard errors to each side of a 95 % confidence interval."""

Cell = Callable[[Row], str]
"""What a table shows of a system's result."""


def score(metric: Metric) -> Cell:
    """The score with its 95 % interval, or else its standard error."""
    return lambda result: with_precision(result.get(metric.field), metric.interval(result), result.get(metric.error))


def figure(field: str) -> Cell:
    """A number with two digits."""
    return lambda result: number(result.get(field))


def count(field: str) -> Cell:
    """A whole number."""
    return lambda result: "-" if result.get(field) is None else str(result[field])


def failed(result: Row) -> str:
    """How many items have no score: their judgment, or the call for their answer, failed."""
    return str(result.get("failed", 0) + result.get("unasked", 0))


def scores(page: Page, names: Sequence[str], results: Sequence[Row], columns: Mapping[str, Cell]) -> None:
    """A table of systems, one row each; ``columns`` are cells by heading."""
    rows = ([name, *(cell(result) for cell in columns.values())] for name, result in zip(names, results, strict=True))
    page.table(["system", *columns], rows)


def intervals(
    page: Page,
    drawing: str,
    names: Sequence[str],
    results: Sequence[Row],
    metrics: Mapping[str, Metric],
    axis: str,
    caption: str,
    zero: float | None = None,
) -> None:
    """A plot of scores with 95 % intervals; ``metrics`` are by their name in the legend. ``zero`` draws a line there."""
    groups = {kind: _bars(names, results, metric) for kind, metric in metrics.items()}
    known = {kind: bars for kind, bars in groups.items() if bars}
    if known:
        page.drawing(drawing, plots.intervals(known, axis, zero=zero), caption)


def _bars(names: Sequence[str], results: Sequence[Row], metric: Metric) -> list[plots.Bar]:
    bars = []
    for name, result in zip(names, results, strict=True):
        value, error = result.get(metric.field), result.get(metric.error)
        if value is not None:
            ends: tuple[float | None, float | None] = metric.interval(result) or (None, None)
            if ends == (None, None) and error is not None:
                ends = max(metric.low, value - NORMAL * error), min(metric.high, value + NORMAL * error)
            bars.append(plots.Bar(name, value, *ends))
    return bars


def by_part(
    page: Page,
    drawing: str,
    names: Sequence[str],
    results: Sequence[Row],
    field: str,
    order: Sequence[str],
    metric: Metric,
    title: str,
) -> None:
    """Scores by category or skill: a radar plot, and the same figures in a table.

    Args:
        page: what to draw on.
        drawing: the name of the plot's file.
        names: the systems'.
        results: the systems'.
        field: the key of the scores by part in a result.
        order: the parts in the order of the plot; parts of a result that are not among them follow by name.
        metric: the score; it gives the ends of the plot.
        title: what a part is called: ``category``.
    """
    values = {
        name: {part: row["score"] for part, row in result.get(field, {}).items() if row["score"] is not None}
        for name, result in zip(names, results, strict=True)
    }
    known = [part for part in order if any(part in of_system for of_system in values.values())]
    known += sorted({part for of_system in values.values() for part in of_system} - {*order})
    if not known:
        return
    page.heading(f"By {title}", 3)
    page.table([title, *names], ([part, *(number(values[name].get(part)) for name in names)] for part in known))
    if len(known) > 2:
        caption = f"Mean score by {title}; the plot ends at {metric.high:g}."
        page.drawing(drawing, plots.radar(values, known, metric.low, metric.high), caption)
