"""FLASK: 1,740 instructions; a judge grades each answer from 1 to 5 in the three of twelve skills that the item tests.

Sources, all at https://github.com/kaistAI/FLASK/tree/3b4e22bc34aa9dc15ea0c51be3cbf5f3c8b1b5e5 (Ye et al. 2023, arXiv
2307.10928): gpt_review/gpt4_eval.py calls the judge and parses its grades, gpt_review/aggregate_skill.py averages them,
evaluation_set/ holds the items, with the 89 hard ones in a second file of their own.

Quirks of the original:
- One call grades an item in all its skills; the prompt holds the rubrics of these skills only, and the item's reference
  answer (the second prompt of prompt.jsonl).
- The grades are the last ``{…}`` of the review, in lower case, without line breaks and with spaces for underscores, parsed
  as a Python dictionary. The averages leave out "na", "n/a" and "not applicable". A value that is no number is no grade.
- One word of its name identifies a skill: the second if the name contains "logical", else the first.
- Domain and difficulty of a few items are -1: unknown.
- Its judge was sampled, most likely, at the API's default temperature: gpt4_eval.py writes ``temperature: 0`` and
  ``max_tokens`` beside the ``request``, of which alone openai_concurrent.py makes the call. Here both are sent.

Different here: a grade off the scale of 1 to 5 is no grade, and ``4/5`` is 4; the original averages the first, and fails on
the second. An item without a reference answer is graded without one, and reported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf
from moa.evals.asking.harness import Measurement
from moa.evals.asking.journal import Reply
from moa.evals.asking.judge import STAND_IN, TRIAL, Judge
from moa.evals.benchmark import JUDGE, Benchmark, Options
from moa.evals.benchmarks.flask.items import (
    HARD,
    data_of,
    listed,
    needs,
    number_of,
    question_of,
)
from moa.evals.benchmarks.flask.items import (
    HARD_ITEMS as HARD_ITEMS,
)
from moa.evals.benchmarks.flask.items import (
    ITEMS as ITEMS,
)
from moa.evals.benchmarks.flask.items import (
    RUBRICS as RUBRICS,
)
from moa.evals.benchmarks.flask.items import (
    rubrics as rubrics,
)
from moa.evals.drawing import sections
from moa.evals.drawing.page import Page, number
from moa.evals.metric import Figure, Metric
from moa.models import Model

NAME = "flask"
METRIC = Metric("score", "score", "standard_error", 1, 5)
JUDGING = {"temperature": 0, "max_tokens": 1024}

SKILLS = {
    "robustness": "Logical Robustness",
    "correctness": "Logical Correctness",
    "efficiency": "Logical Efficiency",
    "factuality": "Factuality",
    "commonsense": "Commonsense Understanding",
    "comprehension": "Comprehension",
    "insightfulness": "Insightfulness",
    "completeness": "Completeness",
    "metacognition": "Metacognition",
    "readability": "Readability",
    "conciseness": "Conciseness",
    "harmlessness": "Harmlessness",
}
"""The skills by their short names, in the order of the paper's radar plots."""


def grades(review: str) -> dict[str, float | None]:
    """The grades in a review's text, by short skill name, None for "not applicable"; empty if it has no dictionary."""
    found: list[str] = re.findall(r"{[^}]+}", review)
    try:
        text = found[-1].replace("\n", "").replace("_", " ").lower() if found else "{}"
        value = ast.literal_eval(re.sub(r":\s*(null|none)\s*(?=[,}])", ": 'n/a'", text))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return {}
    return _by_skill(value) if isinstance(value, dict) else {}


def _by_skill(grades: Mapping[Any, Any]) -> dict[str, float | None]:
    parsed: dict[str, float | None] = {}
    for name, value in grades.items():
        words = str(name).lower().replace("_", " ").split()
        skill = next((word for word in (words[1:] if "logical" in words else words) if word in SKILLS), None)
        if skill is None:
            continue
        words_of_value = str(value).strip().lower()
        if words_of_value in ("na", "n/a", "not applicable"):
            parsed[skill] = None
            continue
        try:
            grade = float(re.sub(r"\s*/\s*5(\.0)?$", "", words_of_value))
        except ValueError:
            continue
        if METRIC.low <= grade <= METRIC.high:
            parsed[skill] = grade
    return parsed


def why_ungraded(review: str) -> str:
    """What a review lacks; empty if it has a grade, or says that none applies."""
    if grades(review):
        return ""
    if not review.strip():
        return "the judge said nothing"
    return "no dictionary of grades from 1 to 5 at the end"


# -- answers and judgments --------------------------------------------------------------------------------------------


async def trial(measurement: Measurement, shelf: Shelf, judge: Model, options: Options) -> str:
    """Have the judge grade a stand-in answer to the first item; what its reply lacks."""
    data = data_of(shelf, options)
    if not data.items:
        return ""
    messages = data.messages(data.items[0], STAND_IN)
    return why_ungraded((await _review(measurement, Judge.of(judge), TRIAL, messages)).text)


async def _review(measurement: Measurement, judge: Judge, key: str, messages: Sequence[Row]) -> Reply:
    return await judge.reply(measurement, key, messages, JUDGING, lambda text: bool(grades(text)))


async def measure(
    measurement: Measurement, shelf: Shelf, system: Model, judge: Model | None, options: Options
) -> tuple[list[Row], int]:
    """Have the system answer and the judge grade; the reviews, and how many items failed."""
    assert judge is not None
    grader, data = Judge.of(judge), data_of(shelf, options)
    if without := sum(not item.get("answer") for item in data.items):
        measurement.notice(f"{without} items have no reference answer: graded without one")

    async def one(item: Row) -> None:
        number = number_of(item)
        answer = await measurement.call(f"answer/{number}", system, str(question_of(item)))
        row = {"question_id": number, "text": answer.text, "model_id": system.name, "metadata": {}}
        measurement.write("answers", str(number), row)
        review = await _review(measurement, grader, f"judgment/{number}", data.messages(item, answer.text))
        by_skill = {
            SKILLS[skill].lower(): "N/A" if grade is None else grade for skill, grade in grades(review.text).items()
        }
        why_not = why_ungraded(review.text)
        measurement.judged(why_not)
        row = {**item, "target_txt": answer.text, "review": review.text, "score": by_skill}
        about = {"system": system.name, "judge": judge.name, "date": review.date, "length": len(answer.text)}
        own = {**about, "why_not": why_not} if why_not else about
        measurement.write(
            "judgments", str(number), {**row, "total_tokens_step4": review.usage.total_tokens, "moa": own}
        )

    failed = await measurement.each(data.items, one)
    numbers = {str(number_of(item)) for item in data.items}
    return [row for row in measurement.rows("judgments") if row["moa"]["id"] in numbers], failed


def score(rows: Sequence[Row], shelf: Shelf, system: str = "") -> list[Row]:
    """A result for every pair of system and judge.

    Args:
        rows: as in the original's ``outputs/…_review.jsonl``: ``review`` and ``score``, or one of them.
        shelf: not used; the reviews have their domain and difficulty.
        system: the system of reviews that do not name it.

    Raises:
        ConfigError: the rows are no reviews of FLASK.
    """
    systems: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        if "review" not in row and "score" not in row:
            raise ConfigError(f"expected FLASK's reviews (review, score), not {sorted(row)}")
        own = row.get("moa", {})
        name = own.get("system") or row.get("model_id") or row.get("model") or row.get("generator") or system
        systems.setdefault((str(name), own.get("judge")), []).append(row)
    if not systems:
        raise ConfigError("expected FLASK's reviews, and the file is empty")
    return [_scored(name, judge, of_system) for (name, judge), of_system in systems.items()]


def _scored(system: str, judge: str | None, rows: Sequence[Row]) -> Row:
    parsed = [(row, by_skill) for row in rows if (by_skill := _graded(row))]
    items = [[grade for grade in by_skill.values() if grade is not None] for _, by_skill in parsed]
    values = [grade for item in items for grade in item]
    lengths = [row["moa"]["length"] for row in rows if "length" in row.get("moa", {})]
    return {
        "benchmark": NAME,
        "system": system,
        "judge": judge,
        "date": max((row["moa"]["date"] for row in rows if row.get("moa", {}).get("date")), default=None),
        "judged": len(parsed),
        "failed": len(rows) - len(parsed),
        "score": mean(values) if values else None,
        **METRIC.spread([mean(item) for item in items if item]),
        "not_applicable": sum(grade is None for _, by_skill in parsed for grade in by_skill.values()),
        "skills": _by(parsed, lambda row, skill: [skill], [*SKILLS]),
        "domains": _by(parsed, lambda row, skill: listed(row, "domain")),
        "difficulties": _by(parsed, lambda row, skill: listed(row, "difficulty")),
        "avg_length": mean(lengths) if lengths else None,
        "notes": [],
    }


def _graded(row: Row) -> dict[str, float | None]:
    """The grades of a review: those that were recorded, else those in its text."""
    recorded = row.get("score")
    parsed = _by_skill(recorded) if isinstance(recorded, dict) else {}
    return parsed or grades(str(row.get("review") or ""))


def grade(row: Row) -> tuple[str, list[float]]:
    """An item and its grades, one for each applicable skill."""
    return str(number_of(row)), [grade for grade in _graded(row).values() if grade is not None]


def _by(
    parsed: Iterable[tuple[Row, Mapping[str, float | None]]],
    groups: Callable[[Row, str], Iterable[str]],
    order: Sequence[str] = (),
) -> dict[str, Row]:
    """Mean and number of grades by group; a group without grades is left out."""
    found: dict[str, list[float]] = {name: [] for name in order}
    for row, by_skill in parsed:
        for skill, grade in by_skill.items():
            for group in groups(row, skill) if grade is not None else ():
                found.setdefault(group, []).append(float(grade or 0))
    return {name: {"score": mean(values), "grades": len(values)} for name, values in found.items() if values}


# -- in words and on a page -------------------------------------------------------------------------------------------


def figures(result: Row) -> Iterator[Figure]:
    """The score, and the scores by skill, domain and difficulty."""
    if result.get("score") is not None:
        yield METRIC.figure(result)
    for group in ("skills", "domains", "difficulties"):
        for name, row in result.get(group, {}).items():
            yield Figure(name, f"{row['score']:.2f} ({row['grades']} grades)", part=True)


def section(page: Page, names: Sequence[str], results: Sequence[Row]) -> None:
    """A table of scores, a radar plot of the skills, and tables by domain and by difficulty."""
    columns = {
        "score": sections.score(METRIC),
        "judged": sections.count("judged"),
        "failed": sections.failed,
        "not applicable": sections.count("not_applicable"),
    }
    sections.scores(page, names, results, columns)
    sections.by_part(page, NAME, names, results, "skills", [*SKILLS], METRIC, title="skill")
    for group, title in (("domains", "domain"), ("difficulties", "difficulty")):
        if parts := sorted({part for result in results for part in result.get(group, {})}):
            page.heading(f"By {title}", 3)
            page.table(
                [group, *names],
                (
                    [part, *(number(result.get(group, {}).get(part, {}).get("score")) for result in results)]
                    for part in parts
                ),
            )


BENCHMARK = Benchmark(
    name=NAME,
    title="FLASK",
    about="FLASK: 1,740 items, graded 1 to 5 by skill.",
    licence="FLASK's data has no licence: use it for your own evaluation only, do not pass it on (github.com/kaistAI/FLASK)",
    judge=JUDGE,
    official="openai/gpt-4-0613",
    judging=JUDGING,
    metric=METRIC,
    needs=needs,
    trial=trial,
    measure=measure,
    score=score,
    grade=grade,
    figures=figures,
    section=section,
    flags=(HARD,),
)
