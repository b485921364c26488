"""A run that is over, read from its folder: its scores, item by item too, what it cost, and who said what.

The folder is written by :mod:`moa.evals.asking.harness`; everything that compares, tabulates or draws runs reads it here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from moa.errors import ConfigError
from moa.evals.asking.data import Row, read_rows
from moa.evals.benchmarks import flask, mt_bench
from moa.evals.benchmarks.alpaca_eval import judging as alpaca_eval
from moa.messages import Cost


@dataclass(frozen=True, slots=True)
class Metric:
    """What a benchmark's score is: its name for readers, its field in a result, that of its error, its ends, its digits."""

    label: str
    field: str
    error: str
    low: float
    high: float
    digits: int


WIN_RATE = Metric("win rate, %", "win_rate", "standard_error", 0, 100, 1)
CONTROLLED = Metric("length-controlled win rate, %", "length_controlled_winrate", "lc_standard_error", 0, 100, 1)
METRICS: Mapping[str, Metric] = {
    alpaca_eval.NAME: WIN_RATE,
    mt_bench.NAME: Metric("score, 1 to 10", "score", "standard_error", 1, 10, 2),
    flask.NAME: Metric("score, 1 to 5", "score", "standard_error", 1, 5, 2),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One system's run of one benchmark.

    Attributes:
        folder: where it is.
        settings: its ``run.json``.
        result: the system's result.
        scores: by item, in the units of the benchmark's :class:`Metric`; items without a valid judgment are left out.
        answers: the journal's rows of the system's own calls.
        judgments: likewise the judge's.
    """

    folder: Path
    settings: Row
    result: Row
    scores: Mapping[str, float]
    answers: Sequence[Row]
    judgments: Sequence[Row]

    @property
    def name(self) -> str:
        return str(self.result.get("system") or self.folder.name)

    @property
    def benchmark(self) -> str:
        return str(self.result["benchmark"])

    @property
    def metric(self) -> Metric:
        """The benchmark's; for AlpacaEval the length-controlled win rate where there is one."""
        controlled = self.benchmark == alpaca_eval.NAME and self.result.get(CONTROLLED.field) is not None
        return CONTROLLED if controlled else METRICS[self.benchmark]

    @property
    def score(self) -> float | None:
        value = self.result.get(self.metric.field)
        return None if value is None else float(value)

    @property
    def cost(self) -> Cost:
        """US dollars of answering, a query; the judge's are not in it. Failed calls that were billed are not, either."""
        return _per(self.answers, self.queries)

    @property
    def judging(self) -> Cost:
        """US dollars of judging, a query."""
        return _per(self.judgments, self.queries)

    @property
    def tokens(self) -> float | None:
        """Tokens read and written for a query, by all agents together."""
        if not self.queries:
            return None
        read_and_written = (row["usage"][side] for row in self.answers for side in ("input_tokens", "output_tokens"))
        return float(sum(read_and_written)) / self.queries

    @property
    def seconds(self) -> float | None:
        """Seconds that a query's calls took, on average."""
        return float(sum(row["seconds"] for row in self.answers)) / self.queries if self.queries else None

    @property
    def queries(self) -> int:
        """How many items were answered; an item of two turns is one."""
        return len({row["key"].split("/")[1] for row in self.answers})


def measured(folder: Path) -> Measured:
    """Read a run.

    Raises:
        ConfigError: the folder holds no run, or one that is not over.
    """
    if not (folder / "run.json").is_file():
        raise ConfigError(f"{folder}: no run of a benchmark (there is no run.json)")
    if not (folder / "result.json").is_file():
        raise ConfigError(f"{folder}: the run is not over; start it again to go on with it")
    settings, told = _json(folder / "run.json"), _json(folder / "result.json")
    results = told.get("results", [told])
    if len(results) != 1 or results[0].get("benchmark") not in METRICS:
        raise ConfigError(f"{folder}: expected the result of one system on one of {', '.join(METRICS)}")
    journal = read_rows(folder / "journal.jsonl")
    return Measured(
        folder,
        settings,
        results[0],
        scores_of(read_rows(folder / "judgments.jsonl"), results[0]["benchmark"]),
        [row for row in journal if row["key"].startswith("answer/")],
        [row for row in journal if row["key"].startswith("judgment/")],
    )


def runs_in(paths: Iterable[Path]) -> list[Measured]:
    """The runs in these folders; of a folder that is none, those in the folders inside it, in the order of their names.

    Raises:
        ConfigError: a folder holds no run that is over.
    """
    found: list[Measured] = []
    for path in paths:
        inside = [] if (path / "run.json").is_file() else sorted(path.glob("*/result.json"))
        found += [measured(each.parent) for each in inside] or [measured(path)]
    return found


def scores_of(judgments: Iterable[Row], benchmark: str) -> dict[str, float]:
    """The scores by item, from judgments in the benchmark's own format: percent, 1 to 10, or 1 to 5.

    An item's two turns, or its skills, are averaged. Failed judgments are left out.
    """
    found: dict[str, list[float]] = {}
    for row in judgments:
        if benchmark == alpaca_eval.NAME:
            item = row.get("moa", {}).get("index", row.get("index", row.get("instruction")))
            value = _number(row.get("preference"))
            values = [] if value is None or (value != 0 and not 1 <= value <= 2) else [100 * ((value or 1.5) - 1)]
        elif benchmark == mt_bench.NAME:
            item, value = row["question_id"], _number(row.get("score"))
            values = [] if value is None or value < 0 else [value]
        else:
            item = row.get("question_id", row.get("idx"))
            values = [grade for grade in flask.grades(str(row.get("review") or "")).values() if grade is not None]
        if values:
            found.setdefault(str(item), []).extend(values)
    return {item: mean(values) for item, values in found.items()}


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


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
