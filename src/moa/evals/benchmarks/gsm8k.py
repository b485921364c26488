"""GSM8K: 1,319 grade-school word problems; an answer is right if its last number is the expected one. No judge.

Source: https://github.com/openai/grade-school-math/tree/3101c7d5072418e28b9008a6636bde82a006892c (Cobbe et al. 2021, arXiv
2110.14168). The expected number follows ``####`` in the ``answer`` of an item, with commas between thousands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import mean

from moa.errors import ConfigError
from moa.evals.asking.data import File, Row, Shelf
from moa.evals.asking.harness import Measurement
from moa.evals.benchmark import Benchmark, Options
from moa.evals.metric import Metric, standard_error
from moa.models import Model

NAME = "gsm8k"
METRIC = Metric("accuracy", "accuracy", "standard_error", 0, 100, unit="%")
ITEMS = File("gsm8k", ("test.jsonl", "grade_school_math/data/test.jsonl"))
TASK = "\n\nThink step by step, and end with the number alone on the last line."


def last_number(text: str) -> float | None:
    """The last number in a text, without the commas between thousands."""
    numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    return float(numbers[-1].replace(",", "")) if numbers else None


async def measure(
    measurement: Measurement, shelf: Shelf, system: Model, judge: Model | None, options: Options
) -> tuple[list[Row], int]:
    """Have the system answer; a row for each item that says whether the answer is right, and how many items failed."""
    items = shelf.rows(ITEMS)[: options.limit]

    async def one(numbered: tuple[int, Row]) -> None:
        index, item = numbered
        answer = await measurement.call(f"answer/{index}", system, item["question"] + TASK)
        expected, found = last_number(item["answer"]), last_number(answer.text)
        row = {"index": index, "output": answer.text, "generator": system.name}
        measurement.write("answers", str(index), row)
        measurement.write("judgments", str(index), {**row, "expected": expected, "right": found == expected})

    failed = await measurement.each(list(enumerate(items)), one)
    return [row for row in measurement.rows("judgments") if row["index"] < len(items)], failed


def score(rows: Sequence[Row], shelf: Shelf, system: str = "") -> list[Row]:
    """A result for every system; raises ConfigError for rows of another benchmark."""
    if not rows or not {"index", "right"} <= rows[0].keys():
        raise ConfigError("expected rows of GSM8K, with index and right")
    systems: dict[str, list[float]] = {}
    for row in rows:
        systems.setdefault(row.get("generator") or system, []).append(100.0 * row["right"])
    return [
        {
            "benchmark": NAME,
            "system": name,
            "judged": len(scores),
            "failed": 0,
            METRIC.field: mean(scores),
            METRIC.error: standard_error(scores),
            "notes": [],
        }
        for name, scores in systems.items()
    ]


BENCHMARK = Benchmark(
    name=NAME,
    title="GSM8K",
    about="GSM8K: 1,319 word problems, exact match.",
    licence="GSM8K's data is licensed MIT (github.com/openai/grade-school-math)",
    judge=None,
    metric=METRIC,
    needs=lambda options: (ITEMS,),
    measure=measure,
    score=score,
    grade=lambda row: (str(row["index"]), [100.0 * row["right"]]),
)
