"""A system measured several times, or by several judges: how far its runs and its judges agree.

The first run has the folder; the others have folders inside it (``repeat-2``, ``judge-NAME``), each a measurement like any
other. The other judges judge the first run's answers: the system is not called again.

The two figures answer two questions. Repeated runs show how much a score varies because the system's answers do; the
interval of one run covers the choice of items alone. Agreement of judges shows how much of a verdict is the judge's own;
Cohen's kappa is 0 where two judges agree as often as by chance, and 1 where they always do (Cohen 1960, 1968).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev

from moa.batch.folder import write_whole
from moa.evals.asking.data import Row, read_rows
from moa.evals.benchmark import Benchmark
from moa.evals.measuring import Measuring
from moa.evals.metric import Metric
from moa.evals.reading.measured import scores_of
from moa.models import Model


@dataclass(frozen=True, slots=True)
class Series:
    """Measures a system.

    Attributes:
        by_judge: one measurement for each judge; the first judge's is repeated. They differ in their judge alone.
        repeats: how often the system answers each item.
    """

    by_judge: Sequence[Measuring]
    repeats: int = 1

    async def measure(self, system: Model, definition: Row, folder: Path, answers: Path | None = None) -> Row:
        """Measure, and write ``result.json``: the first run's result, with ``repeats`` and ``judges`` if there are more.

        Arguments and errors as in :meth:`Measuring.measure`.
        """
        first, *others = self.by_judge
        runs = [folder, *(folder / f"repeat-{number}" for number in range(2, self.repeats + 1))]
        results = [await first.measure(system, definition, run, answers) for run in runs]
        result = dict(results[0])
        if len(runs) > 1:
            result["repeats"] = _repeats(first.benchmark, runs, results)
        if others:
            judged = [folder, *(folder / f"judge-{_folder_name(each)}" for each in others)]
            by_judge = [results[0]]
            for measuring, place in zip(others, judged[1:], strict=True):
                by_judge.append(await measuring.measure(system, definition, place, folder))
            result |= _judges(first.benchmark, judged, by_judge)
        if result != results[0]:
            write_whole(folder / "result.json", result)
        return result


def _folder_name(measuring: Measuring) -> str:
    return re.sub(r"[^\w.-]+", "-", measuring.judge.name if measuring.judge else "none")


def _scores(benchmark: Benchmark, run: Path, result: Row) -> dict[str, float]:
    """The scores of a run by item; none where nothing was judged."""
    return scores_of(read_rows(run / "judgments.jsonl"), benchmark) if result.get("judged") else {}


def _repeats(benchmark: Benchmark, runs: Sequence[Path], results: Sequence[Row]) -> Row:
    """The score of each run, their mean and standard deviation, and the interval of the mean over items."""
    metric = benchmark.metric
    scores = [result[metric.field] for result in results if result.get(metric.field) is not None]
    by_item: dict[str, list[float]] = {}
    for run, result in zip(runs, results, strict=True):
        for item, score in _scores(benchmark, run, result).items():
            by_item.setdefault(item, []).append(score)
    means = [mean(values) for values in by_item.values()]
    spread = metric.spread(means)
    within = [stdev(values) for values in by_item.values() if len(values) > 1]
    return {
        "runs": len(runs),
        "scores": scores,
        metric.field: mean(scores) if scores else None,
        f"{metric.field}_low": spread[f"{metric.field}_low"],
        f"{metric.field}_high": spread[f"{metric.field}_high"],
        "standard_deviation_of_runs": stdev(scores) if len(scores) > 1 else None,
        "standard_deviation_within_items": mean(within) if within else None,
    }


def _judges(benchmark: Benchmark, folders: Sequence[Path], results: Sequence[Row]) -> Row:
    """The score by each judge, and the agreement of each two."""
    metric = benchmark.metric
    ends = (metric.field, f"{metric.field}_low", f"{metric.field}_high", "judged", "failed", "judgments_cost")
    judges = [{"judge": result.get("judge"), **{name: result.get(name) for name in ends}} for result in results]
    by_judge = [_scores(benchmark, folder, result) for folder, result in zip(folders, results, strict=True)]
    agreement = []
    for one, other in combinations(range(len(results)), 2):
        items = [item for item in by_judge[one] if item in by_judge[other]]
        pairs = [(by_judge[one][item], by_judge[other][item]) for item in items]
        names = {"a": results[one].get("judge"), "b": results[other].get("judge")}
        agreement.append({**names, "items": len(items), **agreed(metric, pairs)})
    return {"judges": judges, "agreement": agreement}


def agreed(metric: Metric, pairs: Sequence[tuple[float, float]]) -> Row:
    """How far two judges agree: ``same``, the percentage of items on which they do, and Cohen's ``kappa``.

    Preferences (a metric in percent) agree where they are for the same side; kappa is not weighted. Grades agree where they
    are equal when rounded; kappa has quadratic weights, so that a difference of two grades counts four times that of one.
    """
    if not pairs:
        return {"same": None, "kappa": None}
    by_side = metric.unit == "%"

    def category(score: float) -> int:
        middle = (metric.low + metric.high) / 2
        return (score > middle) - (score < middle) if by_side else round(score)

    rated = [(category(a), category(b)) for a, b in pairs]

    def distance(a: int, b: int) -> float:
        return float(a != b) if by_side else float((a - b) ** 2)

    firsts, seconds = Counter(a for a, _ in rated), Counter(b for _, b in rated)
    by_chance = (
        sum(distance(a, b) * often * other for a, often in firsts.items() for b, other in seconds.items())
        / len(rated) ** 2
    )
    observed = mean(distance(a, b) for a, b in rated)
    return {
        "same": 100 * mean(a == b for a, b in rated),
        "kappa": None if by_chance == 0 else 1 - observed / by_chance,
    }
