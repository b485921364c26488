"""Questions of a file, each with its own check: the user's own, or a published benchmark that needs no judge.

Notable decisions:
- The score is the share of items that pass. Its interval is Wilson's, which holds for few items and for shares near 0 and 1,
  where ± a standard error does not.
- A row's reference, rubric or check may be corrected between two runs: the replies in the journal are checked anew, and
  nothing is asked again. A row whose question changed is asked again.
- An item without a reply, or without a verdict of the judge, is not wrong: it is counted as failed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import mean
from urllib.parse import quote

from moa.errors import ConfigError
from moa.evals.asking.data import File, Row, Shelf
from moa.evals.asking.harness import Measurement
from moa.evals.benchmark import JUDGE, Benchmark, Options
from moa.evals.drawing import sections
from moa.evals.drawing.page import Page, number
from moa.evals.metric import Figure, Metric, proportion, standard_error
from moa.evals.tasks import grading
from moa.evals.tasks.checks import CHECKS, canonical
from moa.evals.tasks.reading import Converting, Tasks
from moa.evals.tasks.task import Task
from moa.messages import Request
from moa.models import Model

NAME = "tasks"
METRIC = Metric("accuracy", "accuracy", "standard_error", 0, 100, unit="%")
PARTS = {"tags": "tag", "checks": "check"}
"""The groups of a result with scores of their own, and what one is called."""


def benchmark_of(
    name: str,
    title: str,
    about: str,
    *,
    licence: str = "",
    file: File | None = None,
    converted: Converting | None = None,
    judge: str | None = None,
) -> Benchmark:
    """A benchmark of tasks.

    Args:
        name, title, about, licence: as of a :class:`~moa.evals.benchmark.Benchmark`.
        file: where its questions are, unless the user names a file; None if the user must.
        converted: turns a row of the published format into one with the fields of a task; None if the rows have them.
        judge: the judge by default of rows that need one; None if no row does.
    """

    def tasks(shelf: Shelf, options: Options) -> Tasks:
        if options.file is None and file is None:
            raise ConfigError(f"{name} needs a file with questions: moa bench {name} FILE")
        path = options.file or shelf.path(file) if file else options.file
        assert path is not None
        return _opened(path, options.limit, options.sample, options.seed, converted, _stamp(path))

    async def measure(
        measurement: Measurement, shelf: Shelf, system: Model, judge: Model | None, options: Options
    ) -> tuple[list[Row], int]:
        return await _measured(measurement, tasks(shelf, options), system, judge)

    async def trial(measurement: Measurement, shelf: Shelf, judge: Model, options: Options) -> str:
        first = next(task for task in tasks(shelf, options) if CHECKS[task.check].judged)
        return await grading.trial(measurement, first, judge)

    return Benchmark(
        name=name,
        title=title,
        about=about,
        licence=licence,
        judge=judge,
        metric=METRIC,
        needs=lambda options: () if file is None or options.file else (file,),
        measure=measure,
        score=lambda rows, shelf, system: score(name, rows, system),
        grade=grade,
        figures=figures,
        section=section,
        takes_file=True,
        judging=grading.SAMPLING if judge else {},
        trial=trial if judge else None,
        judged=lambda shelf, options: tasks(shelf, options).judged,
        checked=lambda shelf, options: tasks(shelf, options).notices,
    )


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when the file does."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4)
def _opened(
    path: Path,
    limit: int | None,
    sample: int | None,
    seed: int,
    converted: Converting | None,
    stamp: tuple[int, int],
) -> Tasks:
    """The tasks of a file; checked once, however often a measurement opens it."""
    return Tasks(path, limit, converted, sample=sample, seed=seed)


# -- replies and verdicts ---------------------------------------------------------------------------------------------


async def _measured(
    measurement: Measurement, tasks: Tasks, system: Model, judge: Model | None
) -> tuple[list[Row], int]:
    """Have the system reply and the checks decide; the verdicts, and how many items failed."""
    digests = {task.id: _digest(task) for task in tasks}
    if any(digests.get(row["id"], row["moa"]["task"]) != row["moa"]["task"] for row in measurement.rows("judgments")):
        measurement.renew("answers", "judgments")

    async def one(task: Task) -> None:
        place = quote(task.id, safe="")
        reply = await measurement.call(f"answer/{place}", system, Request({"messages": [*task.messages]}))
        measurement.write(
            "answers", task.id, {"instruction": task.question, "output": reply.text, "generator": system.name}
        )
        complete = reply.finish_reason != "length"
        found = await grading.verdict(measurement, f"judgment/{place}", task, reply.text, judge, complete=complete)
        row = {
            "id": task.id,
            "passed": found.passed,
            "check": task.check,
            "answer": canonical(task, reply.text, complete=complete) if CHECKS[task.check].form else None,
            "expected": [*task.answers],
            "tags": [*task.tags],
            **({"judgment": found.said} if found.said else {}),
        }
        about: Row = {
            "system": system.name,
            "judge": judge.name if judge and found.said else None,
            "task": digests[task.id],
        }
        about |= {"date": reply.date, "length": len(reply.text), "file": tasks.path.name}
        measurement.write(
            "judgments", task.id, {**row, "moa": about | ({"why_not": found.why_not} if found.why_not else {})}
        )

    failed = await measurement.each(tasks, one)
    return [row for row in measurement.rows("judgments") if row["id"] in digests], failed


def _digest(task: Task) -> str:
    """Changes when a verdict may."""
    parts = [task.messages, task.check, task.answers, task.options, task.rubric, task.tags, task.fields]
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


# -- scores -----------------------------------------------------------------------------------------------------------


def score(name: str, rows: Sequence[Row], system: str = "") -> list[Row]:
    """A result for every system.

    Raises:
        ConfigError: the rows are no verdicts on tasks.
    """
    systems: dict[str, list[Row]] = {}
    for row in rows:
        if not {"id", "passed", "check"} <= row.keys():
            raise ConfigError(f"expected verdicts on tasks (id, passed, check), not {sorted(row)}")
        systems.setdefault(str(row.get("moa", {}).get("system") or system), []).append(row)
    if not systems:
        raise ConfigError("expected verdicts on tasks, and the file is empty")
    return [_scored(name, each, of_system) for each, of_system in systems.items()]


def _scored(name: str, system: str, rows: Sequence[Row]) -> Row:
    known = [row for row in rows if isinstance(row["passed"], bool)]
    about = [row.get("moa", {}) for row in rows]
    tags, checks = _groups(known, lambda row: row.get("tags", ())), _groups(known, lambda row: (row["check"],))
    values = [100.0 * row["passed"] for row in known]
    lengths = [each["length"] for each in about if "length" in each]
    low, high = _interval(known)
    return {
        "benchmark": name,
        "system": system,
        **({"judge": judge} if (judge := next((each["judge"] for each in about if each.get("judge")), None)) else {}),
        "date": max((each["date"] for each in about if each.get("date")), default=None),
        "judged": len(known),
        "failed": len(rows) - len(known),
        "accuracy": mean(values) if values else None,
        "standard_error": standard_error(values),
        "accuracy_low": low,
        "accuracy_high": high,
        "tags": tags,
        "checks": checks if len(checks) > 1 else {},
        "avg_length": mean(lengths) if lengths else None,
        "file": next((each["file"] for each in about if each.get("file")), None),
        "notes": [],
    }


def _groups(rows: Sequence[Row], names: Callable[[Row], Iterable[str]]) -> dict[str, Row]:
    """The scores of the groups that rows are in, by name."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        for name in names(row):
            groups.setdefault(name, []).append(row)
    return {name: _part(groups[name]) for name in sorted(groups)}


def _part(rows: Sequence[Row]) -> Row:
    low, high = _interval(rows)
    return {"score": 100 * mean(row["passed"] for row in rows), "low": low, "high": high, "items": len(rows)}


def _interval(rows: Sequence[Row]) -> tuple[float, float] | tuple[None, None]:
    if not rows:
        return None, None
    low, high = proportion(sum(row["passed"] for row in rows), len(rows))
    return 100 * low, 100 * high


def grade(row: Row) -> tuple[str, list[float]]:
    """An item, and 100 if it passed, 0 if not."""
    return str(row["id"]), [100.0 * row["passed"]] if isinstance(row["passed"], bool) else []


# -- in words and on a page -------------------------------------------------------------------------------------------


def figures(result: Row) -> Iterator[Figure]:
    """The share of items that pass, in all and by tag and check, with 95 % intervals."""
    if result.get("accuracy") is not None:
        low, high = result.get("accuracy_low"), result.get("accuracy_high")
        yield Figure("accuracy", f"{result['accuracy']:.2f} %{_ends(low, high)}")
    for group in PARTS:
        for name, row in result.get(group, {}).items():
            yield Figure(name, f"{row['score']:.2f} %{_ends(row['low'], row['high'])}, {row['items']} items", part=True)


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" (95 % interval {low:.1f} to {high:.1f})"


def section(page: Page, names: Sequence[str], results: Sequence[Row]) -> None:
    """A table of scores, a plot of their intervals, and tables by tag and by check."""
    columns = {
        "accuracy, %": sections.figure("accuracy"),
        "95 % interval": lambda result: (
            f"{number(result.get('accuracy_low'))} to {number(result.get('accuracy_high'))}"
        ),
        "items": sections.count("judged"),
        "failed": sections.failed,
        "file": sections.count("file"),
    }
    sections.scores(page, names, results, columns)
    name = str(results[0].get("benchmark", NAME))
    sections.intervals(page, name, names, results, {"": METRIC}, METRIC.label, "Accuracy with 95 % intervals (Wilson).")
    for group, title in PARTS.items():
        if parts := sorted({part for result in results for part in result.get(group, {})}):
            page.heading(f"By {title}", 3)
            page.table([title, *names], ([part, *_cells(results, group, part)] for part in parts))


def _cells(results: Iterable[Row], group: str, part: str) -> Iterator[str]:
    for result in results:
        row = result.get(group, {}).get(part)
        yield f"{row['score']:.1f} ({row['low']:.1f} to {row['high']:.1f}; {row['items']})" if row else "-"


BENCHMARK = benchmark_of(NAME, "Your own questions", "Your own questions, each with its own check.", judge=JUDGE)
