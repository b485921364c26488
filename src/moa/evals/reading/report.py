"""Runs side by side as one HTML page that needs nothing else, and its drawings as SVG files beside it.

Notable decisions:
- The page is whole: drawings are inside, no script, no font and no style is fetched. It can be mailed.
- Nothing is left out because it is awkward: failed judgments, swaps of order, lengths, the judge and its date stand beside
  each score, and what is unknown says so.
- Everything that came from a model or a file is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from moa.errors import ConfigError
from moa.evals.asking.data import Row
from moa.evals.benchmarks import flask, mt_bench
from moa.evals.benchmarks.alpaca_eval import judging as alpaca_eval
from moa.evals.drawing import plots
from moa.evals.drawing.page import Page, number, with_error
from moa.evals.reading.compare import compared
from moa.evals.reading.cost import Work, pareto, unsized, work
from moa.evals.reading.measured import METRICS, WIN_RATE, Measured
from moa.messages import Cost

NORMAL = 1.96
"""Standard errors to each side of a 95 % interval."""

FEW = 30
"""Judged items below which a run is marked."""


def write(
    runs: Sequence[Measured],
    out: Path,
    *,
    billions: Mapping[str, float] | None = None,
    analyses: Sequence[Mapping[str, Any]] = (),
    now: datetime | None = None,
) -> list[Path]:
    """Write ``report.html`` and its drawings into a folder, which is made where it is not there.

    Args:
        runs: what to show; runs of different benchmarks are shown one benchmark after another.
        out: the folder.
        billions: active parameters by ``provider/name``, in billions.
        analyses: results of ``moa analyse merge``.
        now: the page's date.

    Returns:
        What was written, the page first.

    Raises:
        ConfigError: there is nothing to show, or matplotlib is missing.
        OSError: the folder cannot be written.
    """
    if not runs and not analyses:
        raise ConfigError("there is nothing to report: no run and no analysis was given")
    page = Page()
    page.heading("Mixture-of-Agents: measurements", 1)
    date = (now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    benchmarks = [name for name in METRICS if any(run.benchmark == name for run in runs)]
    page.text(f"{len(runs)} runs, {', '.join(benchmarks) or 'no benchmark'}; made {date}", "dim")
    for benchmark in benchmarks:
        of_this = [run for run in runs if run.benchmark == benchmark]
        page.heading({"alpaca-eval": "AlpacaEval 2.0", "mt-bench": "MT-Bench", "flask": "FLASK"}[benchmark])
        names = _names(of_this)
        {alpaca_eval.NAME: _alpaca_eval, mt_bench.NAME: _mt_bench, flask.NAME: _flask}[benchmark](page, of_this, names)
        _distrust(page, of_this, names)
        _differences(page, of_this, names)
        _costs(page, of_this, names, billions or {})
    if analyses:
        _merging(page, analyses)
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "report.html"]
    written[0].write_text(page.html("Mixture-of-Agents: measurements"), encoding="utf-8")
    for name, svg in page.drawings.items():
        (out / name).write_text(svg, encoding="utf-8")
        written.append(out / name)
    return written


# -- the three benchmarks ---------------------------------------------------------------------------------------------


def _alpaca_eval(page: Page, runs: Sequence[Measured], names: Sequence[str]) -> None:
    page.table(
        ["system", "length-controlled win rate, %", "win rate, %", "won", "lost", "drawn", "judged", "failed"],
        (
            [
                name,
                with_error(run.result.get("length_controlled_winrate"), run.result.get("lc_standard_error")),
                with_error(run.result.get("win_rate"), run.result.get("standard_error")),
                *(_count(run.result.get(key)) for key in ("n_wins", "n_wins_base", "n_draws", "judged")),
                _count(run.result.get("failed", 0) + run.result.get("unasked", 0)),
            ]
            for name, run in zip(names, runs, strict=True)
        ),
    )
    kinds = (("length-controlled", "length_controlled_winrate", "lc_standard_error"), ("bare", *_fields(WIN_RATE)))
    groups = {kind: _bars(runs, names, value, error) for kind, value, error in kinds}
    _intervals(page, "alpaca-eval", groups, "win rate, %", "Win rates against the baseline, with 95 % intervals.", 50)


def _mt_bench(page: Page, runs: Sequence[Measured], names: Sequence[str]) -> None:
    page.table(
        ["system", "score", "first turn", "second turn", "judged", "failed"],
        (
            [
                name,
                with_error(run.result.get("score"), run.result.get("standard_error")),
                *(number(run.result.get(key)) for key in ("first_turn", "second_turn")),
                _count(run.result.get("judged")),
                _count(run.result.get("failed", 0) + run.result.get("unasked", 0)),
            ]
            for name, run in zip(names, runs, strict=True)
        ),
    )
    groups = {"": _bars(runs, names, *_fields(METRICS[mt_bench.NAME]))}
    _intervals(page, "mt-bench", groups, "score, 1 to 10", "Scores over both turns, with 95 % intervals.")
    _grouped(page, "mt-bench-categories", runs, names, "categories", [*mt_bench.TEMPERATURES], (1, 10), "category")


def _flask(page: Page, runs: Sequence[Measured], names: Sequence[str]) -> None:
    page.table(
        ["system", "score", "judged", "failed", "not applicable"],
        (
            [
                name,
                with_error(run.result.get("score"), run.result.get("standard_error")),
                _count(run.result.get("judged")),
                _count(run.result.get("failed", 0) + run.result.get("unasked", 0)),
                _count(run.result.get("not_applicable")),
            ]
            for name, run in zip(names, runs, strict=True)
        ),
    )
    _grouped(page, "flask", runs, names, "skills", [*flask.SKILLS], (1, 5), "skill")
    for group in ("domains", "difficulties"):
        known = sorted({name for run in runs for name in run.result.get(group, {})})
        if known:
            page.heading(f"By {'domain' if group == 'domains' else 'difficulty'}", 3)
            page.table(
                [group, *names],
                (
                    [part, *(number(run.result.get(group, {}).get(part, {}).get("score")) for run in runs)]
                    for part in known
                ),
            )


def _grouped(
    page: Page,
    name: str,
    runs: Sequence[Measured],
    names: Sequence[str],
    group: str,
    parts: Sequence[str],
    ends: tuple[int, int],
    about: str,
) -> None:
    """Scores by category or skill: a web, and the figures in a table."""
    told = {
        label: {part: row["score"] for part, row in run.result.get(group, {}).items() if row["score"] is not None}
        for label, run in zip(names, runs, strict=True)
    }
    known = [part for part in parts if any(part in values for values in told.values())]
    known += sorted({part for values in told.values() for part in values} - {*parts})
    if not known:
        return
    page.heading(f"By {about}", 3)
    page.table([about, *names], ([part, *(number(told[label].get(part)) for label in names)] for part in known))
    if len(known) > 2:
        page.drawing(name, plots.radar(told, known, *ends), f"Mean score by {about}; the web ends at {ends[1]}.")


# -- what goes with every score ---------------------------------------------------------------------------------------


def _distrust(page: Page, runs: Sequence[Measured], names: Sequence[str]) -> None:
    page.heading("How far to trust the judge", 3)
    headings = ["system", "judge", "date", "mean length", "baseline's", "answers cost", "judging cost"]
    ordered = any(run.result.get("order") for run in runs)
    rows = []
    for name, run in zip(names, runs, strict=True):
        result = run.result
        row = [name, str(result.get("judge") or "-"), str(result.get("date") or "-")[:10]]
        row += [number(result.get(key), 0) for key in ("avg_length", "baseline_avg_length")]
        row += [_total(result.get("answers_cost")), _total(result.get("judgments_cost"))]
        for key in ("baseline_first", "system_first") if ordered else ():
            order = (result.get("order") or {}).get(key) or {}
            row.append(f"{number(order.get('win_rate'))} of {order.get('judged', 0)}")
        rows.append(row)
    page.table([*headings, *(["win rate, % when second", "when first"] if ordered else [])], rows)
    notes: dict[str, list[str]] = {}
    for name, run in zip(names, runs, strict=True):
        judged = run.result.get("judged", 0)
        own = [*(run.result.get("notes") or ())]
        if judged < FEW:
            own.append(f"only {judged} items were judged: its figures say next to nothing")
        if run.result.get("failed", 0) > judged / 20:
            own.append(f"{run.result['failed']} judgments failed, and those that did may not be like the others")
        if run.name in (run.result.get("judge"), run.settings.get("judge")):
            own.append("judged by itself")
        for note in own:
            notes.setdefault(note, []).append(name)
    for note, whose in notes.items():
        page.text(f"{'All' if len(whose) == len(runs) > 1 else ', '.join(whose)}: {note}", "note")


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
        unit = METRICS[benchmark].label
        page.heading("Differences, item by item", 3)
        page.table(["pair", f"difference ({unit})", "95 % interval", "items", "better", "worse", "even"], rows)
        caption = "Paired differences with bootstrap intervals; where one holds 0, no difference is shown."
        page.drawing(f"{benchmark}-differences", plots.intervals({"": bars}, f"difference, {unit}", zero=0), caption)


def _costs(page: Page, runs: Sequence[Measured], names: Sequence[str], billions: Mapping[str, float]) -> None:
    if not any(run.answers for run in runs):
        return
    page.heading("Cost against quality", 3)
    works = [work(run, billions) for run in runs]
    page.table(
        ["system", "score", "$ a query", "tokens a query", "TFLOPs a query", "on the longest path", "seconds a query"],
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
    benchmark, quality = runs[0].benchmark, runs[0].metric.label
    exact = [None if run.cost.at_least else run.cost.dollars for run in runs]
    totals = [done.total if done else None for done in works]
    for kind, axis, costs in (("dollars", "US dollars a query", exact), ("tflops", "TFLOPs a query", totals)):
        points = [
            plots.Point(name, cost, run.score)
            for name, run, cost in zip(names, runs, costs, strict=True)
            if cost is not None and run.score is not None
        ]
        if len(points) > 1 and any(point.cost for point in points):
            best = pareto([(point.cost, point.quality) for point in points])
            caption = f"Quality against {axis}. Joined: the Pareto front, which no other system beats in both."
            page.drawing(f"{benchmark}-{kind}", plots.front(points, best, axis, quality), caption)
    if missing := sorted({model for run in runs for model in unsized(run, billions)}):
        page.text(f"TFLOPs are unknown without the size of: {', '.join(missing)}.", "note")


def _merging(page: Page, analyses: Sequence[Mapping[str, Any]]) -> None:
    page.heading("Does the aggregator pick or merge?")
    page.text(
        "Spearman's correlation, prompt by prompt, between how good the proposals are and how like them the answer is. "
        "Models that saw no proposal correlate, too; what counts is the excess over them."
    )
    groups: dict[str, list[plots.Bar]] = {}
    excess: dict[str, list[plots.Bar]] = {}
    for told in analyses:
        name = str(told["system"])
        rows = []
        for each in told["correlations"]:
            error = NORMAL * each["standard_error"]
            rho, measure = each["rho"], str(each["measure"])
            row = [measure, with_error(rho, each["standard_error"], 3)]
            if not math.isnan(rho):
                groups.setdefault(name, []).append(plots.Bar(measure, rho, rho - error, rho + error))
            for control, value in each["controls"].items():
                row.append(number(value, 3))
                gap = each["excess"].get(control)
                row.append(f"{gap['difference']:+z.3f} ({gap['low']:+z.3f} to {gap['high']:+z.3f})" if gap else "-")
                if gap:
                    bar = plots.Bar(measure, gap["difference"], gap["low"], gap["high"])
                    excess.setdefault(f"{name} over {control}", []).append(bar)
            rows.append(row)
        controls = [
            text for control in told["correlations"][0]["controls"] for text in (control, f"excess over {control}")
        ]
        page.heading(name, 3)
        page.text(
            f"{told['prompts']} prompts, {told['proposals']:.1f} proposals each; {told['copied']:.1%} of answers copy one. "
            f"Most like the best: {told['closest_is_best']:.1%}, by chance {1 / told['proposals']:.1%}.",
            "dim",
        )
        page.table(["likeness", "rho", *controls], rows)
    if groups:
        page.drawing("merging", plots.intervals(groups, "mean rank correlation", zero=0), "With 95 % intervals.")
    if excess:
        caption = "What is left over a control that saw no proposals, with bootstrap intervals."
        page.drawing("merging-excess", plots.intervals(excess, "excess correlation", zero=0), caption)


# -- figures in words -------------------------------------------------------------------------------------------------


def _names(runs: Sequence[Measured]) -> list[str]:
    """The systems' names; with the folder's where two runs are of one system."""
    every = [run.name for run in runs]
    return [
        name if every.count(name) == 1 else f"{name} ({run.folder.name})" for name, run in zip(every, runs, strict=True)
    ]


def _fields(metric: Any) -> tuple[str, str]:
    return metric.field, metric.error


def _bars(runs: Sequence[Measured], names: Sequence[str], value: str, error: str) -> list[plots.Bar]:
    bars = []
    for name, run in zip(names, runs, strict=True):
        figure, deviation = run.result.get(value), run.result.get(error)
        if figure is not None:
            reach = None if deviation is None else NORMAL * deviation
            low, high = run.metric.low, run.metric.high
            ends = (None, None) if reach is None else (max(low, figure - reach), min(high, figure + reach))
            bars.append(plots.Bar(name, figure, *ends))
    return bars


def _intervals(
    page: Page, name: str, groups: Mapping[str, list[plots.Bar]], axis: str, caption: str, zero: float | None = None
) -> None:
    known = {kind: bars for kind, bars in groups.items() if bars}
    if known:
        page.drawing(name, plots.intervals(known, axis, zero=zero), caption)


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _total(told: Row | None) -> str:
    return str(Cost(**told)).replace("cost unknown", "unknown") if told else "-"


def _tflops(done: Work | None) -> tuple[str, str]:
    return (f"{done.total:.3g}", f"{done.longest:.3g}") if done else ("unknown", "unknown")
