"""Measurements side by side as one self-contained HTML page, and its drawings as SVG files beside it.

Notable decisions:
- The page embeds its drawings and style and loads nothing, so it can be mailed.
- Awkward figures are not left out: failed judgments, the order of answers, lengths, the judge and its date are next to
  each score, and unknown figures are marked as unknown.
- Every text from a model or a file is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from moa.errors import ConfigError
from moa.evals.asking.data import Row
from moa.evals.benchmarks import ALL
from moa.evals.drawing import ceiling, merging, plots, search
from moa.evals.drawing.page import Page, number
from moa.evals.pareto import pareto
from moa.evals.reading.compare import compared
from moa.evals.reading.cost import Work, unsized, work
from moa.evals.reading.measured import Measured
from moa.messages import Cost

FEW = 30
"""Judged items below which a run is marked."""

SECTIONS: dict[str, Callable[[Page, Sequence[Mapping[str, Any]]], None]] = {
    "merging": merging.section,
    "ceiling": ceiling.section,
    "search": search.section,
}
"""What draws the analyses of each kind."""


def write(
    runs: Sequence[Measured],
    out: Path,
    *,
    billions: Mapping[str, float] | None = None,
    analyses: Sequence[Mapping[str, Any]] = (),
    now: datetime | None = None,
) -> list[Path]:
    """Write ``report.html`` and its drawings into a folder.

    Args:
        runs: the measurements, shown by benchmark.
        out: the folder; created if it does not exist.
        billions: active parameters by ``provider/name``, in billions.
        analyses: what ``moa analyse merge --out`` and ``moa analyse ceiling --out`` wrote.
        now: the page's date.

    Returns:
        The files, the page first.

    Raises:
        ConfigError: there is nothing to report, or matplotlib is missing.
        OSError: the folder cannot be written.
    """
    if not runs and not analyses:
        raise ConfigError("nothing to report: give at least one run or analysis")
    page = Page()
    page.heading("Mixture-of-Agents: measurements", 1)
    date = (now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    benchmarks = [benchmark for benchmark in ALL if any(run.benchmark is benchmark for run in runs)]
    listed = ", ".join(benchmark.name for benchmark in benchmarks)
    page.text(f"{len(runs)} runs, {listed or 'no benchmark'}; made {date}", "dim")
    for benchmark in benchmarks:
        of_this = [run for run in runs if run.benchmark is benchmark]
        page.heading(benchmark.title)
        names = _names(of_this)
        benchmark.draw(page, names, [run.result for run in of_this])
        _reliability(page, of_this, names)
        _differences(page, of_this, names)
        _costs(page, of_this, names, billions or {})
    for kind, section in SECTIONS.items():
        if of_kind := [analysis for analysis in analyses if analysis.get("analysis") == kind]:
            section(page, of_kind)
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "report.html"]
    written[0].write_text(page.html("Mixture-of-Agents: measurements"), encoding="utf-8")
    for name, svg in page.drawings.items():
        (out / name).write_text(svg, encoding="utf-8")
        written.append(out / name)
    return written


def _names(runs: Sequence[Measured]) -> list[str]:
    """The systems' names; with the folder's name if several runs have the same system."""
    every = [run.name for run in runs]
    return [
        name if every.count(name) == 1 else f"{name} ({run.folder.name})" for name, run in zip(every, runs, strict=True)
    ]


def _reliability(page: Page, runs: Sequence[Measured], names: Sequence[str]) -> None:
    """What each score rests on: its judge, lengths, costs, the order of answers; and warnings."""
    judged = runs[0].benchmark.judge is not None
    ordered = any(run.result.get("order") for run in runs)
    page.heading("How far to trust the judge" if judged else "How far to trust the score", 3)
    columns = (["judge"] if judged else []) + ["date", "mean length", "baseline's", "answers cost"]
    columns += (["judging cost"] if judged else []) + (["win rate, % when second", "when first"] if ordered else [])
    rows = []
    for name, run in zip(names, runs, strict=True):
        result = run.result
        row = [name, *([str(result.get("judge") or "-")] if judged else []), str(result.get("date") or "-")[:10]]
        row += [number(result.get(key), 0) for key in ("avg_length", "baseline_avg_length")]
        row += [_total(result.get("answers_cost")), *([_total(result.get("judgments_cost"))] if judged else [])]
        for key in ("baseline_first", "system_first") if ordered else ():
            order = (result.get("order") or {}).get(key) or {}
            row.append(f"{number(order.get('win_rate'))} of {order.get('judged', 0)}")
        rows.append(row)
    page.table(["system", *columns], rows)
    systems_by_warning: dict[str, list[str]] = {}
    for name, run in zip(names, runs, strict=True):
        for warning in _warnings(run):
            systems_by_warning.setdefault(warning, []).append(name)
    for warning, systems in systems_by_warning.items():
        page.text(f"{'All' if len(systems) == len(runs) > 1 else ', '.join(systems)}: {warning}", "note")


def _warnings(run: Measured) -> list[str]:
    judged, failed = run.result.get("judged", 0), run.result.get("failed", 0)
    warnings = [*(run.result.get("notes") or ())]
    if judged < FEW:
        warnings.append(f"only {judged} items were judged: too few to conclude anything")
    if failed > judged / 20:
        warnings.append(f"{failed} judgments failed, and their items may differ from the others")
    if run.name in (run.result.get("judge"), run.settings.get("judge")):
        warnings.append("judged by itself")
    return warnings


def _differences(page: Page, runs: Sequence[Measured], names: Sequence[str]) -> None:
    """Each run against the one before it and against the first, on the items that both have."""
    pairs = list(dict.fromkeys([*((0, place) for place in range(1, len(runs))), *pairwise(range(len(runs)))]))
    rows, bars = [], []
    for first, second in pairs:
        try:
            found = compared(runs[second], runs[first])
        except ConfigError:
            continue
        label = f"{names[second]} − {names[first]}"
        rows.append(
            [
                label,
                f"{found.difference:+z.2f}",
                f"{found.low:+z.2f} to {found.high:+z.2f}",
                *(str(count) for count in (found.items, found.better, found.worse, found.even)),
            ]
        )
        bars.append(plots.Bar(label, found.difference, found.low, found.high))
    if rows:
        benchmark = runs[0].benchmark
        unit = benchmark.metric.label
        page.heading("Differences, item by item", 3)
        page.table(["pair", f"difference ({unit})", "95 % interval", "items", "better", "worse", "equal"], rows)
        if len(rows) > 1:
            by_chance = 1 - 0.95 ** len(rows)
            page.text(
                f"{len(rows)} comparisons: if no two systems differed, at least one of so many independent 95 % intervals "
                f"would exclude 0 with a probability of {by_chance:.0%}. Settle beforehand which comparison counts, or "
                "confirm a difference on other items.",
                "note",
            )
        caption = "Paired differences with bootstrap intervals; an interval that contains 0 shows no difference."
        drawing = plots.intervals({"": bars}, f"difference, {unit}", zero=0)
        page.drawing(f"{benchmark.name}-differences", drawing, caption)


def _costs(page: Page, runs: Sequence[Measured], names: Sequence[str], billions: Mapping[str, float]) -> None:
    """Cost and work of a query beside the score, and plots with the Pareto front."""
    if not any(run.answers for run in runs):
        return
    page.heading("Cost against quality", 3)
    works = [work(run, billions) for run in runs]
    columns = [
        "score",
        "$ per query",
        "tokens per query",
        "TFLOPs per query",
        "on the longest path",
        "seconds per query",
    ]
    page.table(
        ["system", *columns],
        (
            [
                name,
                number(run.score),
                str(run.cost).replace("cost unknown", "unknown"),
                number(run.tokens, 0),
                *_tflops(done),
                number(run.seconds, 1),
            ]
            for name, run, done in zip(names, runs, works, strict=True)
        ),
    )
    benchmark, quality = runs[0].benchmark.name, runs[0].metric.label
    exact = [None if run.cost.at_least else run.cost.dollars for run in runs]
    totals = [done.total if done else None for done in works]
    for kind, axis, costs in (("dollars", "US dollars per query", exact), ("tflops", "TFLOPs per query", totals)):
        points = [
            plots.Point(name, cost, run.score)
            for name, run, cost in zip(names, runs, costs, strict=True)
            if cost is not None and run.score is not None
        ]
        if len(points) > 1 and any(point.cost for point in points):
            best = pareto([(point.cost, point.quality) for point in points])
            caption = f"Quality against {axis}. The line joins the Pareto front: no other system beats these in both."
            page.drawing(f"{benchmark}-{kind}", plots.front(points, best, axis, quality), caption)
    if missing := sorted({model for run in runs for model in unsized(run, billions)}):
        page.text(f"TFLOPs are unknown without the size of: {', '.join(missing)}.", "note")


def _total(cost: Row | None) -> str:
    return str(Cost(**cost)).replace("cost unknown", "unknown") if cost else "-"


def _tflops(done: Work | None) -> tuple[str, str]:
    return (f"{done.total:.3g}", f"{done.longest:.3g}") if done else ("unknown", "unknown")
