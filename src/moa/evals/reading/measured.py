"""A finished measurement, read from its folder: its scores, also by item, its costs and its calls.

:mod:`moa.evals.measuring` writes the folder; everything that compares, tabulates or draws measurements reads it here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from moa.errors import ConfigError
from moa.evals.asking.data import Row, read_rows
from moa.evals.benchmark import Benchmark
from moa.evals.benchmarks import named
from moa.evals.metric import Metric
from moa.messages import Cost


@dataclass(frozen=True, slots=True)
class Measured:
    """One system on one benchmark.

    Attributes:
        benchmark: the benchmark.
        folder: its folder.
        settings: its ``run.json``.
        result: the system's result.
        scores: by item, in the units of the benchmark's metric; items without a valid judgment are left out. With
            ``--repeat``, the mean over the runs.
        answers: the journal's rows of calls of the system.
        judgments: the journal's rows of calls of the judge.
    """

    benchmark: Benchmark
    folder: Path
    settings: Row
    result: Row
    scores: Mapping[str, float]
    answers: Sequence[Row]
    judgments: Sequence[Row]

    @property
    def name(self) -> str:
        """The system's name; the folder's if the result has none."""
        return str(self.result.get("system") or self.folder.name)

    @property
    def metric(self) -> Metric:
        """The metric of :attr:`score`: the benchmark's controlled one if the result has it."""
        controlled = self.benchmark.controlled
        has_it = controlled is not None and self.result.get(controlled.field) is not None
        return controlled if controlled is not None and has_it else self.benchmark.metric

    @property
    def score(self) -> float | None:
        """The system's score; None if the result has none."""
        value = self.result.get(self.metric.field)
        return None if value is None else float(value)

    @property
    def cost(self) -> Cost:
        """US dollars per query for the answers, without the judge and without failed calls that were billed."""
        return _per(self.answers, self.queries)

    @property
    def judging(self) -> Cost:
        """US dollars per query for the judge."""
        return _per(self.judgments, self.queries)

    @property
    def tokens(self) -> float | None:
        """Input and output tokens per query, of all agents together."""
        if not self.queries:
            return None
        read_and_written = (row["usage"][side] for row in self.answers for side in ("input_tokens", "output_tokens"))
        return float(sum(read_and_written)) / self.queries

    @property
    def seconds(self) -> float | None:
        """Seconds per query."""
        return float(sum(row["seconds"] for row in self.answers)) / self.queries if self.queries else None

    @property
    def queries(self) -> int:
        """How many items were answered; an item of two turns counts once."""
        return len({row["key"].split("/")[1] for row in self.answers})


def measured(folder: Path) -> Measured:
    """Read a finished measurement.

    Raises:
        ConfigError: the folder holds no measurement, or an unfinished one.
    """
    settings, value = run_settings(folder), run_result(folder)
    results = value.get("results", [value])
    if len(results) != 1 or not isinstance(results[0], dict):
        raise ConfigError(f"{folder}: expected the result of one system")
    try:
        benchmark = named(str(results[0].get("benchmark")))
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}") from None
    journal = read_rows(folder / "journal.jsonl")
    repeats = [folder / f"repeat-{number}" for number in range(2, results[0].get("repeats", {}).get("runs", 1) + 1)]
    return Measured(
        benchmark,
        folder,
        settings,
        results[0],
        scores_of((row for run in (folder, *repeats) for row in read_rows(run / "judgments.jsonl")), benchmark),
        [row for row in journal if row["key"].startswith("answer/")],
        [row for row in journal if row["key"].startswith("judgment/")],
    )


def run_settings(folder: Path) -> Row:
    """A run's ``run.json``; raises ConfigError if the folder is no run's."""
    if not (folder / "run.json").is_file():
        raise ConfigError(f"{folder}: not the folder of a run (it has no run.json)")
    return _json(folder / "run.json")


def run_result(folder: Path) -> Row:
    """A run's ``result.json``; raises ConfigError if it has none."""
    if not (folder / "result.json").is_file():
        raise ConfigError(f"{folder}: the run has not finished; start it again to resume it")
    return _json(folder / "result.json")


def runs_in(paths: Iterable[Path]) -> list[Measured]:
    """The measurements in these folders. For a folder that is none, those in its subfolders, by name.

    Raises:
        ConfigError: a folder holds no finished measurement.
    """
    found: list[Measured] = []
    for path in paths:
        inside = [] if (path / "run.json").is_file() else sorted(path.glob("*/result.json"))
        found += [measured(each.parent) for each in inside] or [measured(path)]
    return found


def scores_of(judgments: Iterable[Row], benchmark: Benchmark) -> dict[str, float]:
    """The mean score of each item; items without a valid judgment are left out."""
    found: dict[str, list[float]] = {}
    for row in judgments:
        item, scores = benchmark.grade(row)
        if scores:
            found.setdefault(item, []).extend(scores)
    return {item: mean(scores) for item, scores in found.items()}


def _per(rows: Sequence[Row], queries: int) -> Cost:
    total = sum((Cost(**row["cost"]) for row in rows), Cost())
    if total.dollars is None or not queries:
        return Cost(None)
    return Cost(total.dollars / queries, total.at_least)


def _json(path: Path) -> Row:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return value if isinstance(value, dict) else {"results": value}
